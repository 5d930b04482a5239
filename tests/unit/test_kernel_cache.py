"""Where compiled kernels lie, which version they are of, and what becomes of those of others."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from scheduling import kernel_cache
from scheduling.worker import kernels
from tests.support.waiting import PATIENCE_S

ROOM = Path(kernel_cache.__file__).parent


@pytest.fixture
def beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder beside the environment, of the test's own."""
    monkeypatch.setattr(kernel_cache, "BESIDE", tmp_path / "beside")
    return tmp_path / "beside" / kernel_cache.key()


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """All that kernels are made of."""
    file = tmp_path / "kernel.py"
    file.write_text("one = 1")
    monkeypatch.setattr(kernel_cache, "sources", lambda: (file,))
    return file


def test_every_file_with_a_kernel_decides_the_version_and_no_other_room_does() -> None:
    found = set(kernel_cache.sources())
    with_kernels = {file for file in ROOM.rglob("*.py") if "@njit" in file.read_text() and file.name != "kernel_cache.py"}
    assert with_kernels <= found
    assert {file.relative_to(ROOM).parts[0] for file in found} <= {"slides", "instanseg", "errors.py", "states.py"}


def test_kernels_lie_beside_the_environment_and_where_that_cannot_be_written_in_the_data(beside: Path, tmp_path: Path) -> None:
    assert kernel_cache.folder(tmp_path / "data", {}) == beside
    beside.rmdir()
    beside.parent.rmdir()
    beside.parent.write_text("in the way")
    assert kernel_cache.folder(tmp_path / "data", {}) == tmp_path / "data" / "numba" / beside.name


def test_the_operators_own_folder_is_taken_as_it_is(beside: Path, tmp_path: Path) -> None:
    assert kernel_cache.folder(tmp_path / "data", {"NUMBA_CACHE_DIR": "/mnt/kernels"}) == Path("/mnt/kernels")


def test_kernels_of_an_environment_that_can_only_be_read_are_copied(beside: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    beside.mkdir(parents=True)
    (beside / "kernel.nbc").write_bytes(b"compiled")
    monkeypatch.setattr(kernel_cache, "_can_be_written", lambda folder: False)
    within = kernel_cache.folder(tmp_path / "data", {})
    assert (within / "kernel.nbc").read_bytes() == b"compiled"
    (within / "another.nbc").write_bytes(b"compiled here")
    assert (kernel_cache.folder(tmp_path / "data", {}) / "another.nbc").exists()


def test_a_source_that_was_touched_is_compiled_again(source: Path, tmp_path: Path) -> None:
    kernel_cache.complete(tmp_path)
    assert kernel_cache.is_complete(tmp_path)
    os.utime(source, (1, 1))
    assert not kernel_cache.is_complete(tmp_path)


def test_another_processor_has_a_folder_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel_cache.key.cache_clear()
    own = kernel_cache.key()
    monkeypatch.setattr(kernel_cache, "processor", lambda: "another")
    kernel_cache.key.cache_clear()
    assert kernel_cache.key().partition("-")[0] == own.partition("-")[0]
    assert kernel_cache.key() != own
    monkeypatch.undo()
    kernel_cache.key.cache_clear()


def test_kernels_of_other_versions_go_when_nobody_has_used_them_for_long(tmp_path: Path) -> None:
    own, unused, used, fresh = (tmp_path / f"{digit * 12}-{digit * 12}" for digit in "0123")
    descriptors = [kernel_cache.use(folder) for folder in (own, unused, used, fresh)]
    for folder in (own, unused, used):
        os.utime(folder / "in-use", (1, 1))
    os.close(descriptors[1])
    (tmp_path / "something else").mkdir()
    kernel_cache.drop_others(own, time.time())
    assert sorted(tmp_path.iterdir()) == sorted([own, used, fresh, tmp_path / "something else"])
    for descriptor in (descriptors[0], *descriptors[2:]):
        os.close(descriptor)


def test_of_two_that_compile_at_once_one_does_and_the_other_waits_for_it(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[tuple[str, ...]] = []
    both = threading.Barrier(2, timeout=PATIENCE_S)
    folder = tmp_path / "kernels"

    def compile_once() -> None:
        both.wait()
        kernels.compile_all(folder)
        assert kernel_cache.is_complete(folder)

    monkeypatch.setattr(kernels, "_run", lambda parts, _: ran.append(parts))
    threads = [threading.Thread(target=compile_once) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ran == [kernels.PARTS, ("list",)]


def test_the_gate_lets_work_on_slides_in_when_the_compiling_has_ended_however(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = kernels.Gate()
    assert gate.refusal == ""
    gate.close()
    assert gate.refusal == kernels.WAITING
    monkeypatch.setattr(kernels, "MODULE", "no.such.module")
    gate.open_when_compiled().join(30)
    assert gate.refusal == ""
