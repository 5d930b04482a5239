"""The windows of a job read by several threads at once: as one thread reads them, and the labels of each the same."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from scheduling.instanseg.network import Network
from scheduling.instanseg.normalisation import Normalisation
from scheduling.instanseg.pipeline import Pipeline
from scheduling.instanseg.store import ModelStore
from scheduling.jobtypes.instanseg_wsi import InstansegWsi
from scheduling.jobtypes.windows import Windows
from scheduling.slides.reading.interface import RGB, SlideReader
from scheduling.slides.reading.openslides import OpenSlideReader
from scheduling.slides.reading.reader import open_slide
from scheduling.slides.reading.tiff import TiffReader
from scheduling.slides.synthetic.slide import write_sample
from scheduling.tilestore.stage_times import Work
from tests.support.models import facts_of
from tests.support.standin import standin_bytes
from tests.support.waiting import PATIENCE_S
from tests.unit.jobtypes.driving import job_context

APERIO = "Aperio Image Library v11\n1152x896 [0,0 1152x896] (256x256) JPEG/RGB Q=87|AppMag = 20|MPP = 0.5"
MPP, THREADS = 0.37, 3


class Watched(SlideReader):
    """A reader that says which threads read from it; the first ones wait for each other."""

    def __init__(self, reader: SlideReader) -> None:
        self._reader, self.threads = reader, set[str]()
        self.width, self.height, self.levels = reader.width, reader.height, reader.levels
        self._meeting = threading.Barrier(THREADS, timeout=PATIENCE_S)

    def _read(self, x: int, y: int, width: int, height: int, level: int) -> RGB:
        name = threading.current_thread().name
        if name not in self.threads and len(self.threads) < THREADS:
            self.threads.add(name)
            self._meeting.wait()
        return self._reader.read(x, y, width, height, level)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An installation with a stand-in, and one image as a plain TIFF and as a scanner's."""
    folder = tmp_path_factory.mktemp("data")
    write_sample(folder / "plain.tif", width=1152, height=896, seed=11)
    pixels = open_slide(folder / "plain.tif").read(0, 0, 1152, 896)
    jpeg: dict[str, Any] = {"tile": (256, 256), "photometric": "rgb", "compression": "jpeg"}
    tifffile.imwrite(folder / "scanner.svs", pixels, **jpeg, description=APERIO, metadata=None)
    (folder / "model.pt").write_bytes(standin_bytes("nuclei"))
    ModelStore(folder).add(folder / "model.pt", facts_of("nuclei", file=standin_bytes("nuclei"), name="standin", is_fast=True))
    return folder


@pytest.mark.parametrize(("name", "kind"), [("plain.tif", TiffReader), ("scanner.svs", OpenSlideReader)])
def test_several_threads_read_the_windows_of_a_job_and_its_labels_are_the_same(data_dir: Path, name: str, kind: type) -> None:
    settled = InstansegWsi.settled({"model": "standin", "tile_px": 256}, data_dir)
    context = job_context(data_dir, data_dir / name, InstansegWsi(), name=name, mpp=MPP, **settled)
    tiles = range(InstansegWsi().plan(context).tiles_total)
    layout, reader = InstansegWsi().layout(context), Watched(open_slide(data_dir / name))
    assert isinstance(reader._reader, kind)
    facts = facts_of("nuclei", file=standin_bytes("nuclei"), name="standin", is_fast=True)
    model = Network.load(ModelStore(data_dir).path(facts.sha256), facts)
    norm, work = Normalisation.from_json(layout.constants["normalisation"]), Work()
    windows = Windows(reader=reader, layout=layout, tiles=tiles, work=work)
    piped = list(Pipeline(model, norm, {}, batch=2, readers=THREADS).labels(windows.tiles, windows.read))
    assert len(reader.threads) == THREADS
    assert threading.current_thread().name not in reader.threads
    assert [tile for tile, *_ in piped] == list(tiles)
    assert len(tiles) > 6
    assert work.seconds["read"] > 0
    one_by_one = Windows(reader=open_slide(data_dir / name), layout=layout, tiles=tiles, work=Work())
    for (tile, window, labels), (number, expected) in zip(piped, one_by_one, strict=True):
        assert tile == number
        assert np.array_equal(window, expected)
        assert np.array_equal(labels[0], model.labels(expected, norm, {})[0])
