"""The counts of the jobs that somebody looks at, kept in this process while their tiles become more."""

from __future__ import annotations

import threading

import numpy as np
import numpy.typing as npt

from scheduling.jobtypes.shown import ShownTiles
from scheduling.viewer.caches import Cache
from scheduling.viewer.density import Mosaic


class LiveMosaic:
    """The counts of a job's finished tiles; each is read once, when it is first asked for."""

    def __init__(self, shown: ShownTiles) -> None:
        grid, full_px = shown.layout.grid, shown.layout.full_px
        self._mosaic = Mosaic(
            left=full_px(-grid.offset_x),
            top=full_px(-grid.offset_y),
            core_px=full_px(grid.core_px),
            columns=grid.columns,
            rows=grid.rows,
            side=shown.side,
        )
        #: Of the mosaic when every class has been seen.
        self.size_bytes = self._mosaic.counts.nbytes * len(shown.class_names)
        self._counted = np.zeros(len(shown.layout.cores), bool)
        self._lock = threading.Lock()

    def window(
        self,
        shown: ShownTiles,
        finished: list[int],
        touching: npt.NDArray[np.int64],
        x_px: npt.NDArray[np.float64],
        y_px: npt.NDArray[np.float64],
    ) -> tuple[npt.NDArray[np.float32], list[int]]:
        """Cells by class, row and column between these edges, and which of the tiles `touching` them are counted in it.

        Those are the `finished` ones, without the damaged, and what another request has found finished since.
        """
        with self._lock:
            for tile, counts in shown.counts([tile for tile in finished if not self._counted[tile]]):
                self._mosaic.put(shown.layout.cores[tile], counts)
                self._counted[tile] = True
            return self._mosaic.window(x_px, y_px), touching[self._counted[touching]].tolist()


#: A slide of 10^10 pixels takes 20 MB.
MOSAICS: Cache[LiveMosaic] = Cache(128 << 20)


def live_mosaic(shown: ShownTiles, version: str) -> LiveMosaic:
    """The job's counts; `version` names how its rows were chosen."""
    key = (shown.tiles.path, version)
    found = MOSAICS.get(key)
    if found is None:
        found = LiveMosaic(shown)
        MOSAICS.put(key, found, found.size_bytes)
    return found
