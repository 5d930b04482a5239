from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from scheduling.slides.reading.scale import model_downsample
from scheduling.slides.reading.tiling import Box, Grid, cut_labels, owned


@given(
    width=st.integers(1, 500),
    height=st.integers(1, 500),
    core=st.integers(8, 200),
    offset=st.tuples(st.integers(0, 7), st.integers(0, 7)),
    area=st.integers(1, 9),
    data=st.data(),
)
def test_every_centroid_on_the_slide_belongs_to_exactly_one_core(
    width: int, height: int, core: int, offset: tuple[int, int], area: int, data: st.DataObject
) -> None:
    grid = Grid.for_slide(width, height, 1, core, 64, offset)
    sum_x, sum_y = data.draw(st.integers(0, (width - 1) * area)), data.draw(st.integers(0, (height - 1) * area))
    owners = [bool(owned(grid.core(i), *(np.array([value]) for value in (area, sum_x, sum_y)))[0]) for i in range(len(grid))]
    assert sum(owners) == 1


def test_all_windows_have_the_same_size() -> None:
    grid = Grid.for_slide(1000, 700, 1, 300, 64, (17, 5))
    assert {(grid.window(i).width, grid.window(i).height) for i in range(len(grid))} == {(428, 428)}


def test_labels_are_cut_only_by_edges_inside_the_slide() -> None:
    labels = np.zeros((10, 10), np.int32)
    labels[0, 4], labels[9, 4], labels[5, 0], labels[5, 9], labels[5, 5] = 1, 2, 3, 4, 5
    assert cut_labels(labels, Box(left=0, top=-2, right=10, bottom=8), 50, 50).tolist() == [2, 4]
    assert cut_labels(labels, Box(left=45, top=45, right=55, bottom=55), 50, 50).tolist() == [1, 3]


def test_only_cores_that_hold_tissue_are_tiles() -> None:
    grid = Grid.for_slide(800, 400, 1, 200, 64)
    mask = np.zeros((25, 50), np.uint8)
    mask[0, 12] = 255  # Pixels 192 to 208: the first two cores.
    assert grid.meeting(mask, 16) == [0, 1]


def test_the_model_resolution_is_a_whole_number_of_pixels() -> None:
    assert [model_downsample(mpp, 0.5) for mpp in (0.25, 0.2528, 0.5, 0.499, 1.0, 0.125)] == [2, 2, 1, 1, 1, 4]
