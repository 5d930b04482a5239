"""Whoever looks for the same work finds it by its index, however many jobs there have been."""

from __future__ import annotations

import pytest

from scheduling.models import Job
from scheduling.store.specs import needed_digests, shared_work, spec_of
from tests.integration.store.test_query_plans import leader, statements, walks_among  # noqa: F401  (a fixture)
from tests.integration.working import Leader, new_slide

pytestmark = pytest.mark.django_db


def test_no_statement_about_a_work_walks_through_all_jobs(leader: Leader) -> None:  # noqa: F811
    job = Job.objects.select_related("owner").earliest("id")
    job.slide = new_slide(job.owner)
    spec = spec_of(job, [])

    def ask() -> None:
        shared_work([(job, spec)])
        needed_digests([spec.digest, "another"])

    sent = statements(ask)
    assert sum("digest" in sql for sql in sent) >= 2
    assert walks_among(sent) == {}
