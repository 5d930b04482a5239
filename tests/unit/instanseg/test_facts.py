"""What is kept of a model, read back as it was written."""

from __future__ import annotations

import pytest

from scheduling.instanseg.facts import ModelFacts
from tests.support.models import facts_of


def test_facts_are_read_back_as_they_were_written() -> None:
    facts = facts_of("nuclei", "cells")
    assert ModelFacts.from_json(facts.to_json()) == facts
    assert facts.has_cells
    assert not facts_of("nuclei").has_cells


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"name": "a"}', b'{"outputs": 3}'])
def test_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):
        ModelFacts.from_json(data)
