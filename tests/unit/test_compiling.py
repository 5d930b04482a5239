from __future__ import annotations

import platform
from pathlib import Path

import pytest

from scheduling.instanseg import devices
from workflowsite import compiling


def test_what_this_host_has_compiled_is_not_compiled_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert compiling.due(tmp_path) == compiling.MODULES
    compiling.done(tmp_path, "warm-cells")
    assert list(compiling.due(tmp_path)) == ["warm-nuclei", "warm-models"]
    monkeypatch.setattr(platform, "node", lambda: "another-host")
    assert compiling.due(tmp_path) == compiling.MODULES


def test_kernels_of_models_are_compiled_when_torch_has_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "has_torch", lambda: False)
    for name in compiling.MODULES:
        compiling.done(tmp_path, name)
    assert compiling.due(tmp_path) == {}
    monkeypatch.setattr(devices, "has_torch", lambda: True)
    assert compiling.due(tmp_path) == compiling.MODULES
