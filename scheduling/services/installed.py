"""Use cases of installed models."""

from __future__ import annotations

from django.conf import settings

from scheduling.errors import Conflict, NotFound
from scheduling.instanseg.facts import ModelFacts
from scheduling.instanseg.store import ModelStore
from scheduling.models import Job
from scheduling.states import UNFINISHED


def model_remove(*, name_or_sha256: str) -> ModelFacts:
    """Remove a model. Raises NotFound, Conflict while an unfinished job has it, or several have the name.

    A job that is submitted at the same moment fails when it is planned, and says that its model is gone.
    """
    store = ModelStore(settings.DATA_DIR)
    found = [facts for facts in store.all() if name_or_sha256 in {facts.name, facts.sha256}]
    if not found:
        raise NotFound(f"There is no model {name_or_sha256}.")
    if len(found) > 1:
        hashes = ", ".join(facts.sha256 for facts in found)
        raise Conflict(f"{len(found)} models are called {name_or_sha256}; name one by its hash: {hashes}.")
    waiting = Job.objects.filter(state__in=UNFINISHED, parameters__model_sha256=found[0].sha256).count()
    if waiting:
        raise Conflict(f"{waiting} unfinished job{'s need' if waiting > 1 else ' needs'} this model.")
    store.remove(found[0].sha256)
    return found[0]
