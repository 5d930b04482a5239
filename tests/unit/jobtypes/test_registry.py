"""Job types by name; a worker's parent process learns the names without loading an image library."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint

import pytest
from jsonschema import Draft202012Validator

from scheduling.env import BASE_DIR
from scheduling.jobtypes import registry
from scheduling.jobtypes.base import JobType
from scheduling.jobtypes.simulated import Simulated

NAMES = ["TISSUE_MASK", "SEGMENT_CELLS", "INSTANSEG_WSI"]


def test_the_three_types_are_there() -> None:
    assert set(NAMES) <= set(registry.names())


@pytest.mark.parametrize("name", NAMES)
def test_a_job_without_a_slide_is_simulated_and_one_with_a_slide_is_real(name: str) -> None:
    assert isinstance(registry.runner(name, simulated=True), Simulated)
    real = registry.runner(name, simulated=False)
    assert isinstance(real, JobType)
    assert not isinstance(real, Simulated)
    assert real.name == name


@pytest.mark.parametrize("name", NAMES)
def test_every_schema_is_one_and_refuses_what_it_does_not_know(name: str) -> None:
    for simulated in (True, False):
        schema = registry.parameter_schema(name, simulated=simulated)
        Draft202012Validator.check_schema(schema)
        assert Draft202012Validator(schema).is_valid({})
        assert not Draft202012Validator(schema).is_valid({"no_such_parameter": 1})


def test_the_description_has_the_parameters_of_both_kinds_of_job() -> None:
    described = {found["name"]: found for found in registry.describe()}
    assert list(described["SEGMENT_CELLS"]) == ["name", "title", "description", "parameters"]
    for name in NAMES:
        assert described[name]["description"]
        offered = set(described[name]["parameters"]["properties"])
        assert offered == {"tiles", "seconds_per_tile", "fail_at_tile"} | set(registry.get(name).parameters["properties"])


def test_an_unknown_type_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        registry.get("NO_SUCH_TYPE")
    with pytest.raises(KeyError):
        registry.runner("NO_SUCH_TYPE", simulated=True)


def test_a_package_can_add_a_type_by_an_entry_point_but_not_replace_one_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    group = registry.ENTRY_POINTS
    added = [
        EntryPoint(name="MINE", value="scheduling.jobtypes.instanseg_wsi:InstansegWsi", group=group),
        EntryPoint(name="TISSUE_MASK", value="elsewhere:Evil", group=group),
    ]
    monkeypatch.setattr(registry, "entry_points", lambda **wanted: added if wanted == {"group": group} else [])
    registry._locations.cache_clear()
    try:
        assert "MINE" in registry.names()
        assert registry.get("MINE").__name__ == "InstansegWsi"
        assert registry._locations()["TISSUE_MASK"] == registry.BUILT_IN["TISSUE_MASK"]
    finally:
        registry._locations.cache_clear()
        registry.get.cache_clear()


def test_the_names_are_known_without_loading_an_image_library() -> None:
    code = (
        "import sys; from scheduling.jobtypes import registry; registry.names(); "
        "print([m for m in ('cv2', 'numba', 'openslide', 'numpy', 'django') if m in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], cwd=BASE_DIR, capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "[]"
