"""Tiles through the pipeline: in order, the same labels as one by one; short memory, errors and early ends leave no thread behind."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from scheduling.instanseg.network import Inferred, Network
from scheduling.instanseg.normalisation import Normalisation
from scheduling.instanseg.pipeline import Pipeline
from scheduling.jobtypes.instanseg_wsi import _piped
from scheduling.tilestore.stage_times import Work
from tests.support.models import tissue
from tests.support.waiting import PATIENCE_S

NORM = Normalisation(low=(60.0, 31.5, 70.0), high=(244.0, 240.0, 245.0))


class Counting:
    """A device that holds so many windows at once; "labels" are the windows' own first channel."""

    is_cuda = False

    def __init__(self, most: int = 100) -> None:
        self.most, self.sizes, self.finished = most, list[int](), 0

    def infer(self, windows: list[np.ndarray], norm: Normalisation, settings: dict[str, float]) -> list[Inferred]:
        self.sizes.append(len(windows))
        if len(windows) > self.most:
            raise torch.OutOfMemoryError("made up")
        return [Inferred(torch.from_numpy(window[None, :, :, 0].astype(np.float32)), False) for window in windows]

    def finish(self, inferred: Inferred, settings: dict[str, float]) -> tuple[np.ndarray, None]:
        self.finished += 1
        return inferred.values[0].numpy().astype(np.int32), None


def window_of(tile: int) -> np.ndarray:
    return np.full((4, 4, 3), tile % 251, np.uint8)


def pipeline_of(network: object, **options: int) -> Pipeline:
    return Pipeline(network, NORM, {}, **options)  # type: ignore[arg-type]


def tiles_of(found: Iterator[tuple[int, np.ndarray, tuple[np.ndarray, None]]]) -> list[int]:
    out = []
    for tile, window, (labels, _) in found:
        assert np.array_equal(window, window_of(tile))
        assert (labels == tile % 251).all()
        out.append(tile)
    return out


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


def test_a_real_model_gives_the_labels_that_it_gives_one_by_one(network: Callable[..., Network]) -> None:
    model, slide = network("cells", True), tissue(384, 256)
    windows = {tile: np.ascontiguousarray(slide[:, 64 * tile : 64 * tile + 128]) for tile in range(4)}
    for batch, readers in ((1, 1), (3, 2)):
        pipeline = Pipeline(model, NORM, {}, batch=batch, readers=readers)
        found = {tile: labels for tile, _, labels in pipeline.labels([3, 0, 2, 1], windows.__getitem__)}
        assert list(found) == [3, 0, 2, 1]
        for tile, labels in found.items():
            assert all(np.array_equal(ours, one) for ours, one in zip(labels, model.labels(windows[tile], NORM, {}), strict=True))


def test_a_job_is_told_what_the_stages_side_by_side_have_worked_also_when_nobody_takes_the_rest() -> None:
    for taken in (5, 2):
        work, pipeline = Work(), pipeline_of(Counting(), batch=2)
        found = _piped(pipeline, SimpleNamespace(tiles=range(5), read=window_of), work)  # type: ignore[arg-type]
        assert tiles_of(itertools.islice(found, taken)) == list(range(taken))
        found.close()  # type: ignore[attr-defined]
        assert work.seconds == {"infer": pipeline.seconds.infer, "post": pipeline.seconds.post}
        assert min(work.seconds.values()) > 0


@pytest.mark.parametrize(("batch", "readers"), [(1, 1), (4, 3), (8, 1), (3, 8)])
def test_results_come_in_the_order_of_the_tiles_however_long_each_is_read(batch: int, readers: int) -> None:
    def read(tile: int) -> np.ndarray:
        time.sleep(0.001 * (tile * 7 % 5))
        return window_of(tile)

    order = np.random.default_rng(1).permutation(60).tolist()
    pipeline = pipeline_of(Counting(), batch=batch, readers=readers)
    assert tiles_of(pipeline.labels(order, read)) == order
    assert pipeline.seconds.read > 0


def test_several_threads_read_at_once() -> None:
    meeting = threading.Barrier(3, timeout=PATIENCE_S)

    def read(tile: int) -> np.ndarray:
        if tile < 3:
            meeting.wait()
        return window_of(tile)

    assert tiles_of(pipeline_of(Counting(), batch=2, readers=3).labels(range(9), read)) == list(range(9))


def test_no_tile_gives_nothing() -> None:
    assert tiles_of(pipeline_of(Counting(), batch=4).labels([], window_of)) == []


def test_short_memory_halves_the_batch_for_good_and_loses_nothing() -> None:
    device = Counting(most=2)
    pipeline = pipeline_of(device, batch=7, readers=2)
    assert tiles_of(pipeline.labels(range(40), window_of)) == list(range(40))
    assert pipeline.batch == 2
    assert [size for size in device.sizes if size > 2] == [7, 4]
    assert device.finished == 40


def test_a_window_that_does_not_fit_by_itself_is_an_error() -> None:
    with pytest.raises(torch.OutOfMemoryError, match="made up"):
        list(pipeline_of(Counting(most=0), batch=4).labels(range(9), window_of))


@pytest.mark.parametrize("batch", [1, 4])
def test_a_tile_that_cannot_be_read_is_an_error_in_its_place(batch: int) -> None:
    def read(tile: int) -> np.ndarray:
        if tile == 6:
            raise OSError("torn tile")
        return window_of(tile)

    taken = []
    with pytest.raises(OSError, match="torn tile"):
        taken.extend(tile for tile, *_ in pipeline_of(Counting(), batch=batch, readers=3).labels(range(20), read))
    assert taken == list(range(6))


def test_an_error_in_making_labels_is_raised_too() -> None:
    class Broken(Counting):
        def finish(self, inferred: Inferred, settings: dict[str, float]) -> tuple[np.ndarray, None]:
            raise RuntimeError("no labels")

    with pytest.raises(RuntimeError, match="no labels"):
        list(pipeline_of(Broken(), batch=2).labels(range(9), window_of))


def test_making_labels_is_tried_again_when_the_next_batch_has_taken_the_memory() -> None:
    class Crowded(Counting):
        def finish(self, inferred: Inferred, settings: dict[str, float]) -> tuple[np.ndarray, None]:
            found = super().finish(inferred, settings)
            if self.finished % 2:
                raise torch.OutOfMemoryError("made up")
            return found

    assert tiles_of(pipeline_of(Crowded(), batch=2).labels(range(9), window_of)) == list(range(9))


def test_whoever_stops_early_stops_the_threads_and_the_reading() -> None:
    read_tiles = []

    def read(tile: int) -> np.ndarray:
        read_tiles.append(tile)
        return window_of(tile)

    found = pipeline_of(Counting(), batch=2, readers=2).labels(range(1000), read)
    assert next(found)[0] == 0
    found.close()
    assert len(read_tiles) < 40


def test_reading_stays_a_bounded_distance_ahead() -> None:
    read_tiles = []

    def read(tile: int) -> np.ndarray:
        read_tiles.append(tile)
        return window_of(tile)

    furthest = 0
    for tile, *_ in pipeline_of(Counting(), batch=2, readers=2).labels(range(60), read):
        time.sleep(0.002)
        furthest = max(furthest, len(read_tiles) - tile)
    assert furthest < 20
