"""The cells of a job over its slide: while it runs and afterwards, for its owner alone, with addresses that may be kept."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from rest_framework.test import APIClient

from scheduling.jobtypes.shown import SETTLED, ShownTiles, settled_parts
from scheduling.models import Job, Slide
from scheduling.selectors import overlays
from scheduling.selectors.mosaics import MOSAICS
from scheduling.slides.nuclei.seams import to_json
from scheduling.states import JobState
from scheduling.tilestore.tilefiles import TileFolder, from_ranges
from scheduling.viewer.overlay import token_of
from scheduling.viewer.vectortiles import decode
from tests.integration.api.conftest import finish
from tests.integration.api.test_conformance import check
from tests.support.cells import made_layout, made_tile, slide_levels

TILES, CELLS = 1030, 12
CELLS_JOB = [{"job_id": "cells", "branch": "b", "job_type": "SEGMENT_CELLS"}]
IMMUTABLE = "private, max-age=31536000, immutable"


@pytest.fixture(autouse=True)
def _nothing_kept() -> None:
    """As in a web process that has just begun."""
    overlays.PICTURES.clear()
    MOSAICS.clear()
    overlays.read_layout.cache_clear()
    settled_parts.cache_clear()


@pytest.fixture
def tiles(settings: Any, slide: Slide, submit: Callable[..., str], request: pytest.FixtureRequest) -> TileFolder:
    """The tile folder of a running job of Alice's, whose tiles 0 to 19 and 1005 are finished."""
    layout = made_layout(tiles=TILES, core_px=128, offset=(13, 77))
    path = settings.DATA_DIR / "tiles" / f"made-{request.node.name[:40]}"
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    folder = TileFolder(path)
    folder.publish_part("layout", layout.to_json())
    for tile in (*range(20), 1005):
        folder.publish(tile, made_tile(layout, tile, CELLS))
    levels = slide_levels(layout)
    Slide.objects.filter(pk=slide.pk).update(width=levels[0]["width"], height=levels[0]["height"], levels=levels, mpp=0.5)
    submit(CELLS_JOB, slide=str(slide.pk))
    Job.objects.update(digest=path.name, state=JobState.RUNNING, tiles_total=TILES)
    return folder


@pytest.fixture
def base(tiles: TileFolder) -> str:
    """The address of the job."""
    return base_of(Job.objects.select_related("workflow").get())


def base_of(job: Job) -> str:
    return f"/workflow/{job.workflow.uuid}/job/{job.job_id}"


def shown(tiles: TileFolder) -> ShownTiles:
    return ShownTiles(tiles=tiles, layout=made_layout(tiles=TILES, core_px=128, offset=(13, 77)), mpp=0.5)


def complete(tiles: TileFolder) -> None:
    """As a worker ends it: every tile, counts gathered, packed."""
    layout = made_layout(tiles=TILES, core_px=128, offset=(13, 77))
    for tile in range(TILES):
        tiles.publish(tile, made_tile(layout, tile, CELLS))
    for step in shown(tiles).gathering():
        step()
    for number in (0, 1):
        tiles.pack(number, TILES)


def under(manifest: dict[str, Any], level: int, column: int, row: int) -> list[int]:
    """The finished tiles that may show in a picture, reckoned as the documentation tells a client to."""
    place = manifest["overlay"]["levels"][level]
    span, reach, core = manifest["overlay"]["tile_px"] * place["downsample"], place["reach_px"], manifest["core_px"]
    found = []
    for tile in from_ranges(manifest["finished"]):
        number = manifest["cores"][tile]
        left = manifest["left"] + number % manifest["columns"] * core
        top = manifest["top"] + number // manifest["columns"] * core
        is_near = left < (column + 1) * span + reach and left + core > column * span - reach
        if is_near and top < (row + 1) * span + reach and top + core > row * span - reach:
            found.append(tile)
    return found


def image_of(answer: Any) -> np.ndarray[Any, Any]:
    assert answer.status_code == 200, answer.content
    assert answer["Content-Type"] == "image/png"
    return np.asarray(cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_UNCHANGED))


def test_tiles_of_an_earlier_version_are_not_shown_and_the_answer_says_why(alice: APIClient, tiles: TileFolder, base: str) -> None:
    (tiles.path / "layout").unlink()
    tiles.publish_part("layout", b'{"grid":{},"cores":[],"calibration":{"dark_level":90}}')
    for address in (f"{base}/tiles", f"{base}/tiles/3", f"{base}/overlay/0/0_0"):
        answer = alice.get(address)
        assert (answer.status_code, "earlier version" in answer.json()["detail"]) == (404, True)


def test_the_manifest_says_where_tiles_lie_and_which_are_finished(alice: APIClient, base: str, slide: Slide) -> None:
    answer = alice.get(f"{base}/tiles")
    check(answer, "/workflow/{workflow_id}/job/{job_id}/tiles")
    body = answer.json()
    assert body["finished"] == [[0, 20], [1005, 1006]]
    assert (body["tiles_total"], len(body["cores"]), body["state"], body["slide"]) == (TILES, TILES, "RUNNING", str(slide.pk))
    assert (body["core_px"], body["left"], body["top"], body["halo_px"]) == (128, -13, -77, 64)
    assert body["classes"] == [{"number": 0, "name": "Nucleus", "color": "#00d68f"}]
    assert [level["draws"] for level in body["overlay"]["levels"]] == ["cells", "cells", "density"]
    assert answer["Cache-Control"] == "private, no-cache"


def test_an_unchanged_manifest_is_not_sent_again_and_one_that_changed_is(alice: APIClient, base: str, tiles: TileFolder) -> None:
    etag = alice.get(f"{base}/tiles")["ETag"]
    assert alice.get(f"{base}/tiles", HTTP_IF_NONE_MATCH=etag).status_code == 304
    tiles.publish(21, made_tile(shown(tiles).layout, 21, CELLS))
    changed = alice.get(f"{base}/tiles", HTTP_IF_NONE_MATCH=etag)
    assert changed.json()["finished"] == [[0, 20], [21, 22], [1005, 1006]]


def test_a_finished_tile_is_to_be_had_while_the_job_runs_and_kept_for_ever(alice: APIClient, base: str) -> None:
    version = alice.get(f"{base}/tiles").json()["version"]
    answer = alice.get(f"{base}/tiles/1005?v={version}")
    assert (answer.status_code, answer["Content-Type"], answer["Cache-Control"]) == (200, "application/vnd.wsi-cells", IMMUTABLE)
    tile = decode(answer.content)
    assert (tile.tile, len(tile.rows), tile.rows.tolist()) == (1005, CELLS, list(range(CELLS)))
    again = alice.get(f"{base}/tiles/1005", HTTP_IF_NONE_MATCH=answer["ETag"])
    assert (again.status_code, again.content, again["Cache-Control"]) == (304, b"", "private, no-cache")
    assert alice.get(f"{base}/tiles/1005?v=old")["Cache-Control"] == "private, no-cache"


def test_answers_are_packed_for_who_takes_gzip_and_only_for_them(alice: APIClient, base: str) -> None:
    plain = alice.get(f"{base}/tiles/3")
    assert "Content-Encoding" not in alice.get(f"{base}/tiles/3", HTTP_ACCEPT_ENCODING="gzip;q=0, br")
    for address in (f"{base}/tiles", f"{base}/tiles/3"):
        packed = alice.get(address, HTTP_ACCEPT_ENCODING="br, gzip")
        assert packed["Content-Encoding"] == "gzip"
        assert packed["Vary"].count("Accept-Encoding") == 1
        assert gzip.decompress(packed.content) == alice.get(address).content
        assert packed["Content-Length"] == str(len(packed.content))
    assert decode(plain.content).tile == 3


def test_a_tile_that_is_not_finished_is_asked_for_again_later_and_one_beyond_the_last_never(alice: APIClient, base: str) -> None:
    waiting = alice.get(f"{base}/tiles/500")
    assert (waiting.status_code, waiting.json(), waiting["Retry-After"]) == (404, {"detail": "Tile 500 is not finished."}, "2")
    beyond = alice.get(f"{base}/tiles/{TILES}")
    assert (beyond.status_code, "Retry-After" in beyond) == (404, False)
    assert beyond.json() == {"detail": "The job has no such tile."}
    Job.objects.update(state=JobState.CANCELLED)
    assert "Retry-After" not in alice.get(f"{base}/tiles/500")


@pytest.mark.parametrize("state", [JobState.PENDING, JobState.RUNNING, JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED])
def test_whatever_state_the_job_is_in_its_finished_tiles_are_shown(alice: APIClient, base: str, state: JobState) -> None:
    Job.objects.update(state=state)
    assert alice.get(f"{base}/tiles").json()["finished"] == [[0, 20], [1005, 1006]]
    assert alice.get(f"{base}/tiles/0").status_code == 200
    assert image_of(alice.get(f"{base}/overlay/0/0_0"))[..., 3].any()


def test_a_picture_is_immutable_under_the_token_of_the_tiles_in_it(alice: APIClient, base: str) -> None:
    manifest = alice.get(f"{base}/tiles").json()
    for level in range(len(manifest["overlay"]["levels"])):
        token = token_of(manifest["version"], under(manifest, level, 0, 0))
        answer = alice.get(f"{base}/overlay/{level}/0_0?v={token}")
        assert image_of(answer)[..., 3].any(), level
        assert (answer["Cache-Control"], answer["ETag"]) == (IMMUTABLE, f'W/"{token}"')
        assert alice.get(f"{base}/overlay/{level}/0_0", HTTP_IF_NONE_MATCH=answer["ETag"]).status_code == 304
        assert alice.get(f"{base}/overlay/{level}/0_0")["Cache-Control"] == "private, no-cache"


def test_a_tile_that_is_finished_changes_the_pictures_it_shows_in_and_no_other(alice: APIClient, base: str, tiles: TileFolder) -> None:
    places = [(level, column) for level in range(3) for column in range(2 - level // 2)]
    before = {place: alice.get(f"{base}/overlay/{place[0]}/{place[1]}_0") for place in places}
    tiles.publish(1, b"")  # is there already
    tiles.publish(34, made_tile(shown(tiles).layout, 34, CELLS))  # the first of the second row of cores
    after = {place: alice.get(f"{base}/overlay/{place[0]}/{place[1]}_0") for place in places}
    changed = {place for place in places if before[place]["ETag"] != after[place]["ETag"]}
    assert changed == {(0, 0), (1, 0), (2, 0)}
    assert {place for place in places if before[place].content != after[place].content} == changed


def test_pictures_of_the_running_job_end_as_those_of_the_finished_one(alice: APIClient, base: str, tiles: TileFolder) -> None:
    """Asked for all the while, so that what was kept in between would show."""
    addresses = [f"{base}/overlay/{level}/0_0" for level in range(3)]
    half = [alice.get(address).content for address in addresses]
    complete(tiles)
    Job.objects.update(state=JobState.SUCCEEDED)
    done = [alice.get(address).content for address in addresses]
    assert all(mine != other for mine, other in zip(half, done, strict=True))
    _forget()
    assert [alice.get(address).content for address in addresses] == done
    assert decode(alice.get(f"{base}/tiles/1005").content).tile == 1005


def _forget() -> None:
    overlays.PICTURES.clear()
    MOSAICS.clear()
    overlays.read_layout.cache_clear()
    settled_parts.cache_clear()


def test_a_damaged_tile_is_not_shown_and_not_in_the_token(alice: APIClient, base: str, tiles: TileFolder) -> None:
    manifest = alice.get(f"{base}/tiles").json()
    path = tiles.tile_path(2)
    path.write_bytes(path.read_bytes()[:30])
    assert alice.get(f"{base}/tiles/2").status_code == 404
    for level in (0, 2):
        token = token_of(manifest["version"], [tile for tile in under(manifest, level, 0, 0) if tile != 2])
        assert alice.get(f"{base}/overlay/{level}/0_0")["ETag"] == f'W/"{token}"'


def test_where_nothing_is_finished_the_picture_is_transparent_and_outside_there_is_none(alice: APIClient, base: str) -> None:
    levels = alice.get(f"{base}/tiles").json()["overlay"]["levels"]
    image = image_of(alice.get(f"{base}/overlay/0/{levels[0]['columns'] - 1}_{levels[0]['rows'] - 2}"))
    assert not image.any()
    for place in (f"0/{levels[0]['columns']}_0", "0/0_99", "3/0_0", "999999999/0_0"):
        assert alice.get(f"{base}/overlay/{place}").json() == {
            "detail": "The overlay has no such level." if place[0] in "39" else "The overlay has no such tile."
        }, place
    for place in ("0/0_-1", "x/0_0", "0/0", "0/0_0.png"):
        assert alice.get(f"{base}/overlay/{place}").status_code == 404


def test_pictures_are_as_large_as_the_slides_own_tiles(alice: APIClient, base: str) -> None:
    levels = alice.get(f"{base}/tiles").json()["overlay"]["levels"]
    for number, level in enumerate(levels):
        column, row = level["columns"] - 1, level["rows"] - 1
        height, width = image_of(alice.get(f"{base}/overlay/{number}/{column}_{row}")).shape[:2]
        assert (width, height) == (level["width"] - column * 512, level["height"] - row * 512)


def test_another_users_cells_do_not_exist_and_staff_see_them(bob: APIClient, staff: APIClient, base: str) -> None:
    for path in ("tiles", "tiles/0", "overlay/0/0_0"):
        theirs = bob.get(f"{base}/{path}")
        assert (theirs.status_code, theirs.json()) == (404, {"detail": "Not found."})
        assert staff.get(f"{base}/{path}").status_code == 200
        assert APIClient().get(f"{base}/{path}").status_code == 401


def test_a_job_without_cells_says_why(alice: APIClient, submit: Callable[..., str], slide: Slide) -> None:
    submit(CELLS_JOB)
    simulated = Job.objects.select_related("workflow").get()
    submit([{"job_id": "mask", "branch": "b", "job_type": "TISSUE_MASK"}, {**CELLS_JOB[0]}], slide=str(slide.pk))
    jobs = {job.job_id: job for job in Job.objects.select_related("workflow").exclude(pk=simulated.pk)}
    for job, reason, is_later in (
        (simulated, "A simulated job has no cells to show.", False),
        (jobs["mask"], "A job of type TISSUE_MASK has no cells to show.", False),
        (jobs["cells"], "The job is not planned yet.", True),
    ):
        for path in ("tiles", "tiles/0", "overlay/0/0_0"):
            answer = alice.get(f"{base_of(job)}/{path}")
            assert (answer.status_code, answer.json(), "Retry-After" in answer) == (404, {"detail": reason}, is_later)


def test_a_job_whose_tiles_were_removed_says_so(alice: APIClient, base: str, tiles: TileFolder) -> None:
    Job.objects.update(state=JobState.SUCCEEDED)
    shutil.rmtree(tiles.path)
    answer = alice.get(f"{base}/tiles")
    assert (answer.status_code, answer.json()) == (404, {"detail": "The tiles of this job are not there any more."})


def test_a_deleted_workflow_takes_its_cells_with_it(alice: APIClient, base: str, tiles: TileFolder) -> None:
    workflow_id = base.split("/")[2]
    finish(workflow_id)
    assert alice.get(f"{base}/overlay/0/0_0").status_code == 200
    assert alice.delete(f"/workflow/{workflow_id}").status_code == 204
    assert not Path(tiles.path).exists()
    for path in ("tiles", "tiles/0", "overlay/0/0_0"):
        assert alice.get(f"{base}/{path}").status_code == 404


def test_every_cell_is_counted_in_the_picture_of_the_whole_slide(alice: APIClient, base: str, tiles: TileFolder) -> None:
    complete(tiles)
    job = Job.objects.select_related("slide", "workflow").get()
    seen = overlays.overlay_of(job)
    total = sum(int(counts.sum()) for _, counts in seen.shown.counts(range(TILES)))
    assert total == TILES * CELLS
    assert alice.get(f"{base}/overlay/2/0_0").status_code == 200


def test_addresses_change_once_if_the_seams_change_what_is_shown(alice: APIClient, base: str, tiles: TileFolder) -> None:
    before = alice.get(f"{base}/tiles").json()["version"]
    tiles.publish_part(SETTLED, to_json({}))
    assert alice.get(f"{base}/tiles").json()["version"] == before
    (tiles.path / SETTLED).unlink()
    settled_parts.cache_clear()
    tiles.publish_part(SETTLED, to_json({3: [0]}))
    assert alice.get(f"{base}/tiles").json()["version"] != before
    assert len(decode(alice.get(f"{base}/tiles/3").content).rows) == CELLS - 1
