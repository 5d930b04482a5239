"""`manage.py remove_model`: by name or hash, and not while a job needs the model."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from scheduling.instanseg.facts import ModelFacts
from scheduling.instanseg.store import ModelStore
from scheduling.models import Job
from scheduling.services.workflows import JobRequest
from scheduling.states import JobState
from tests.integration.working import new_slide, new_user, submit
from tests.support.models import facts_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def store(tmp_path: Path, settings: Any) -> ModelStore:
    """Where the command looks."""
    settings.DATA_DIR = tmp_path
    return ModelStore(tmp_path)


def added(store: ModelStore, tmp_path: Path, name: str, content: bytes) -> ModelFacts:
    facts = facts_of("nuclei", file=content, name=name)
    (tmp_path / "given.pt").write_bytes(content)
    store.add(tmp_path / "given.pt", facts)
    return facts


def remove(model: str) -> str:
    out = StringIO()
    call_command("remove_model", model, stdout=out)
    return out.getvalue().strip()


def refusal(model: str) -> str:
    with pytest.raises(CommandError) as refused:
        remove(model)
    return str(refused.value)


def test_a_model_goes_by_name_or_by_hash_with_all_its_files(store: ModelStore, tmp_path: Path) -> None:
    a, b = added(store, tmp_path, "a", b"1"), added(store, tmp_path, "b", b"2")
    assert remove("a") == f"removed: a, model {a.sha256}"
    assert store.all() == [b]
    assert remove(b.sha256) == f"removed: b, model {b.sha256}"
    assert list((tmp_path / "models").iterdir()) == []
    assert refusal("a") == "There is no model a."


def test_of_two_with_one_name_the_hash_says_which(store: ModelStore, tmp_path: Path) -> None:
    old, new = added(store, tmp_path, "a", b"1"), added(store, tmp_path, "a", b"2")
    assert refusal("a").startswith("2 models are called a; name one by its hash: ")
    remove(old.sha256)
    assert store.all() == [new]


def test_a_model_stays_while_an_unfinished_job_has_it(store: ModelStore, tmp_path: Path) -> None:
    used = added(store, tmp_path, "used", b"1")
    alice = new_user()
    submit(alice, JobRequest(job_id="j", branch="b", job_type="INSTANSEG_WSI", slide=new_slide(alice).pk))
    added(store, tmp_path, "other", b"2")
    assert refusal("used") == "1 unfinished job needs this model."
    remove("other")
    Job.objects.update(state=JobState.SUCCEEDED)
    remove("used")
    assert store.find(used.sha256) is None
