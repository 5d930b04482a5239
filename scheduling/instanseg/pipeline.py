"""Windows through a model with every part of the machine at work: some threads read, one feeds the device, one turns fields into labels.

Each stage is a bounded distance ahead of the next, so memory does not grow with the number of tiles. Results come in the order of
the tiles whatever the threads do; an error comes in its tile's place.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import torch

from scheduling.instanseg.network import Inferred, Network
from scheduling.instanseg.normalisation import Normalisation
from scheduling.slides.nuclei.contours import Labels
from scheduling.slides.reading.interface import RGB

Read = Callable[[int], RGB]
Found = tuple[Labels, Labels | None]

#: Windows that the device computes at once, and threads that read for it; to be measured on the device at hand.
BATCH, READERS = 4, 4
_PATIENCE_S = 0.1


@dataclass
class Seconds:
    """What each stage has worked, in seconds; stages run side by side, so together it is more than what the clock says."""

    read: float = 0.0
    infer: float = 0.0
    post: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, stage: str, began: float) -> None:
        """Count the time since `began` (of time.perf_counter) for a stage."""
        with self._lock:
            setattr(self, stage, getattr(self, stage) + time.perf_counter() - began)


class Pipeline:
    """A network with what it needs around it. On a CPU windows go one by one, and one thread reads: the cores are busy anyway."""

    def __init__(
        self, network: Network, norm: Normalisation, settings: Mapping[str, float], *, batch: int | None = None, readers: int | None = None
    ) -> None:
        self._network, self._norm, self._settings = network, norm, settings
        self.batch = batch or (BATCH if network.is_cuda else 1)
        self._readers = readers or (READERS if network.is_cuda else 1)
        self.seconds = Seconds()

    def labels(self, tiles: Iterable[int], read: Read) -> Iterator[tuple[int, RGB, Found]]:
        """Each tile with its window and its labels, in order. `read` gives a window, uint8 (h, w, 3), all of one size; several threads call it.

        Whoever stops taking must close the iterator; then, and after an error, all threads have ended. Raises what a stage
        raised; torch.OutOfMemoryError when not even one window fits on the device.
        """
        run = _Run(self, tiles, read, self._readers)
        try:
            yield from run.results()
        finally:
            run.end()

    def read_one(self, read: Read, tile: int) -> RGB:
        """In a reading thread."""
        began = time.perf_counter()
        try:
            return read(tile)
        finally:
            self.seconds.add("read", began)

    def infer_some(self, windows: list[RGB]) -> list[Inferred]:
        """In the thread that feeds the device. When its memory is short the batch is halved, from then on."""
        began, found, at = time.perf_counter(), [], 0
        while at < len(windows):
            try:
                found += self._network.infer(windows[at : at + self.batch], self._norm, self._settings)
                at = len(found)
            except torch.OutOfMemoryError:
                if self.batch == 1:
                    raise
                self.batch = (self.batch + 1) // 2
                self._free()
        self.seconds.add("infer", began)
        return found

    def finish_one(self, inferred: Inferred) -> Found:
        """In the thread that makes labels; once more, when the next batch has taken the device's memory."""
        began = time.perf_counter()
        try:
            return self._network.finish(inferred, self._settings)
        except torch.OutOfMemoryError:
            self._free()
            return self._network.finish(inferred, self._settings)
        finally:
            self.seconds.add("post", began)

    def _free(self) -> None:
        if self._network.is_cuda:
            torch.cuda.empty_cache()


class _Run:
    """The threads of one call: readers, a feeder, a finisher; all end with it."""

    def __init__(self, pipeline: Pipeline, tiles: Iterable[int], read: Read, readers: int) -> None:
        self._pipeline, self._tiles, self._read = pipeline, iter(tiles), read
        self._ahead = readers + pipeline.batch
        self._stopped = threading.Event()
        self._out: queue.Queue[tuple[int, RGB, Future[Found]] | BaseException | None] = queue.Queue(maxsize=2 * pipeline.batch)
        self._readers = ThreadPoolExecutor(readers, thread_name_prefix="reader")
        self._finisher = ThreadPoolExecutor(1, thread_name_prefix="labels")
        self._feeder = threading.Thread(target=self._feed, name="feeder", daemon=True)
        self._feeder.start()

    def results(self) -> Iterator[tuple[int, RGB, Found]]:
        """In order. Raises what a stage raised."""
        while (entry := self._out.get()) is not None:
            if isinstance(entry, BaseException):
                raise entry
            tile, window, labels = entry
            yield tile, window, labels.result()

    def end(self) -> None:
        """Let no thread begin anything new, and wait for what they are at."""
        self._stopped.set()
        self._feeder.join()
        for pool in (self._readers, self._finisher):
            pool.shutdown(wait=True, cancel_futures=True)

    def _feed(self) -> None:
        try:
            for batch in self._batches():
                for (tile, window), inferred in zip(batch, self._pipeline.infer_some([window for _, window in batch]), strict=True):
                    self._put((tile, window, self._finisher.submit(self._pipeline.finish_one, inferred)))
            self._put(None)
        except Exception as error:  # noqa: BLE001  (it is raised in the thread that takes the results)
            self._put(error)

    def _batches(self) -> Iterator[list[tuple[int, RGB]]]:
        """Windows as they are read, in order, as many at once as fit; an error after what came before it."""
        reading: deque[tuple[int, Future[RGB]]] = deque()
        batch: list[tuple[int, RGB]] = []
        while not self._stopped.is_set():
            for tile in islice(self._tiles, self._ahead - len(reading)):
                reading.append((tile, self._readers.submit(self._pipeline.read_one, self._read, tile)))
            if len(batch) >= self._pipeline.batch or (batch and _is_over(reading)):
                yield batch
                batch = []
            elif not reading:
                return
            else:
                tile, window = reading.popleft()
                batch.append((tile, window.result()))

    def _put(self, entry: Any) -> None:
        """Wait for a place, unless nobody takes any more."""
        while not self._stopped.is_set():
            with suppress(queue.Full):
                self._out.put(entry, timeout=_PATIENCE_S)
                return


def _is_over(reading: deque[tuple[int, Future[RGB]]]) -> bool:
    """Whether the next window is an error, or there is none."""
    return not reading or reading[0][1].exception() is not None
