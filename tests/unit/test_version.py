from __future__ import annotations

from pathlib import Path

from scheduling import version


def test_kernels_of_another_version_lie_elsewhere_and_are_removed(tmp_path: Path) -> None:
    own, other = version.kernel_cache(tmp_path), tmp_path / "0.1.0+0123456789ab"
    for folder in (own, other):
        folder.mkdir()
        (folder / "kernel.nbc").write_bytes(b"compiled")
    assert own.name == version.code_version()
    version.drop_other_kernels(tmp_path)
    assert list(tmp_path.iterdir()) == [own]
    assert (own / "kernel.nbc").exists()


def test_where_nothing_was_compiled_nothing_is_removed(tmp_path: Path) -> None:
    version.drop_other_kernels(tmp_path / "numba")
    assert list(tmp_path.iterdir()) == []
