"""The Celery task: for each bundle of a parcel one call into the job types, one outcome. Runs in a worker's child; no Django, no database."""

from __future__ import annotations

import logging
import os
import time
import traceback
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from functools import cache
from typing import Any, cast

from celery import Task, shared_task
from redis import Redis, RedisError

from scheduling import env
from scheduling.jobtypes import registry
from scheduling.jobtypes.base import JobContext, JobFailed, JobType, WorkerSettings
from scheduling.protocol.inbox import Inbox, connect
from scheduling.protocol.messages import TASK, Bundle, Failure, Kind, Outcome, Planned
from scheduling.protocol.stops import stop_key
from scheduling.tilestore.disk_errors import missing_root, refusal_of
from scheduling.tilestore.stage_times import Work
from scheduling.tilestore.tilefiles import FolderGone, TilesLost
from scheduling.worker import kernels, running
from scheduling.worker.watching.slots import carrying

logger = logging.getLogger(__name__)

#: Delivering an outcome is tried this long; after that the ledger finds the bundle lost.
DELIVERY_S = 20.0
#: Outcomes of small bundles are delivered together, this late at most.
GATHER_S = 0.02


@shared_task(name=TASK, ignore_result=True, bind=True)
def parcel(self: Task[[list[dict[str, Any]]], None], messages: list[dict[str, Any]]) -> None:
    """Carry out the bundles of a parcel, one after the other, and deliver what became of them to the leader that sent them."""
    orders = [Bundle.from_json(message) for message in messages]
    worker = f"{self.request.hostname}/{os.getpid()}"
    with Delivery(redis(), orders[0].term) as delivery:
        for outcome in carry_out(orders, worker_settings(), worker=worker, stopped=stopped_among(orders)):
            delivery.add(outcome)


def carry_out(orders: Sequence[Bundle], settings: WorkerSettings, *, worker: str, stopped: Collection[str]) -> Iterator[Outcome]:
    """What becomes of these bundles, in order. Those of which nothing has begun when the time box is over come back as they are."""
    is_over = running.time_box(orders[0].time_box_s)
    for place, order in enumerate(orders):
        skips = order.id in stopped or (place > 0 and is_over())
        with carrying(order, parcel=orders[0].id):
            outcome = run(order, settings, worker=worker, is_stopped=skips)
        yield outcome


class Delivery:
    """Outcomes on their way to the leader: at once, but not more often than every GATHER_S."""

    def __init__(self, client: Redis, term: int) -> None:
        self._client, self._term = client, term
        self._waiting: list[Outcome] = []
        self._at = time.monotonic()

    def __enter__(self) -> Delivery:
        return self

    def __exit__(self, *_: object) -> None:
        self._send()

    def add(self, outcome: Outcome) -> None:
        """Deliver this one soon."""
        self._waiting.append(outcome)
        if time.monotonic() - self._at >= GATHER_S:
            self._send()

    def _send(self) -> None:
        if self._waiting:
            deliver(self._client, self._term, *self._waiting)
            self._waiting.clear()
        self._at = time.monotonic()


def run(order: Bundle, settings: WorkerSettings, *, worker: str = "", is_stopped: bool = False) -> Outcome:
    """Carry out a bundle; never raises: whatever happens becomes an outcome."""
    began = time.monotonic()
    context = JobContext(spec=order.spec, settings=settings)
    base: dict[str, Any] = {"bundle": order.id, "job": order.spec.id, "epoch": order.epoch, "worker": worker}
    try:
        result = {} if is_stopped else _refused(order) or _carry_out(order, context)
    except FolderGone as error:
        why = missing_root(settings.data_dir) or refusal_of(error)
        result = {"failure": Failure(message=str(error), refusal=why)} if why else {"is_gone": True}
    except TilesLost as error:
        logger.warning("a finished tile is lost: %s", error, extra={"action": "tiles_lost", "job_id": order.spec.id, "epoch": order.epoch})
        result = {"is_damaged": True}
    except JobFailed as error:
        result = {"failure": Failure(message=str(error), is_final=True, refusal=refusal_of(error))}
    except Exception as error:  # a worker reports everything and lives on
        logger.exception("bundle failed", extra={"action": "bundle_failed", "job_id": order.spec.id, "epoch": order.epoch})
        result = {"failure": _failure(error, None)}
    return Outcome(**base, **result, seconds=time.monotonic() - began)


def _refused(order: Bundle) -> dict[str, Any]:
    """Work on a slide waits for kernels, a simulation does not."""
    why = kernels.gate.refusal if order.spec.slide is not None else ""
    return {"failure": Failure(message=why, refusal=why)} if why else {}


def _carry_out(order: Bundle, context: JobContext) -> dict[str, Any]:
    job_type = registry.runner(order.spec.job_type, simulated=order.spec.slide is None)
    is_over = running.time_box(order.time_box_s)
    if order.kind is Kind.PLAN:
        return _planned(running.survey(job_type, context, step=order.step, is_over=is_over), context)
    if order.kind is Kind.TILES:
        done, failed = running.compute(job_type, context, order.tiles, batch=order.batch, is_over=is_over)
        told = {"done": tuple(done), "failure": _failure(failed.error, failed.index) if failed else None}
        is_complete = order.is_last and len(done) == len(order.tiles) and not is_over()
        return told | (_finished_at_once(order, job_type, context, is_over) if is_complete else {})
    return _finished(order, job_type, context, is_over)


def _finished_at_once(order: Bundle, job_type: JobType, context: JobContext, is_over: Callable[[], bool]) -> dict[str, Any]:
    """What finishing has come to in the time left. Whatever goes wrong is found, and told, by a bundle that finishes and nothing else."""
    try:
        # A context of its own: what the tiles have worked is noted already.
        return _finished(order, job_type, replace(context, warnings=[], work=Work()), is_over)
    except Exception as error:  # noqa: BLE001  (as said)
        logger.info("finishing is left to a bundle of its own: %r", error, extra={"action": "not_finished", "job_id": order.spec.id})
        return {}


def _finished(order: Bundle, job_type: JobType, context: JobContext, is_over: Callable[[], bool]) -> dict[str, Any]:
    step = running.finish(job_type, context, step=order.step, is_over=is_over, tiles_total=order.tiles_total)
    complete = {} if step is not None else _complete(context, order.tiles_total)
    return {"next_step": step, "warnings": tuple(context.warnings), **complete}


def _planned(survey: running.Survey, context: JobContext) -> dict[str, Any]:
    plan, found = survey.plan, _ranges(survey.finished)
    planned = Planned(
        tiles_total=plan.tiles_total, batch=plan.batch, seconds_per_tile=plan.seconds_per_tile, warnings=plan.warnings, finished=found
    )
    answer: dict[str, Any] = {"plan": planned, "next_step": survey.next_step}
    if survey.is_cached and context.spec.reuse is not None:
        answer |= {"artifacts": context.spec.reuse.artifacts, "found": found, "disk_bytes": running.artifacts_bytes(context)}
    return answer


def _complete(context: JobContext, tiles_total: int) -> dict[str, Any]:
    kept = running.kept(context, tiles_total)
    return {"artifacts": tuple(running.artifacts(context)), "found": _ranges(kept.found), "disk_bytes": kept.disk_bytes}


def _ranges(found: list[list[int]]) -> tuple[tuple[int, int], ...]:
    return tuple((start, stop) for start, stop in found)


def _failure(error: Exception, tile: int | None) -> Failure:
    text = "".join(traceback.format_exception(error))
    message = str(error) or type(error).__name__
    return Failure(message=message, traceback=text, tile=tile, is_final=isinstance(error, JobFailed), refusal=refusal_of(error))


def deliver(client: Redis, term: int, *outcomes: Outcome, within_s: float = DELIVERY_S) -> None:
    """Push outcomes, again and again while Redis is away."""
    end = time.monotonic() + within_s
    while True:
        try:
            return Inbox(client).push(term, *[outcome.to_json() for outcome in outcomes])
        except RedisError as error:
            if time.monotonic() > end:
                logger.warning(
                    "outcomes could not be delivered: %s",
                    error,
                    extra={"action": "outcome_undelivered", "jobs": [outcome.job for outcome in outcomes]},
                )
                return None
            time.sleep(0.5)


def stopped_among(orders: Sequence[Bundle]) -> set[str]:
    """Those of these bundles whose jobs were cancelled while they waited; unknown counts as not."""
    try:
        found = redis().mget([stop_key(order.spec.id, order.epoch) for order in orders])
    except RedisError:
        return set()
    return {order.id for order, stop in zip(orders, cast("Sequence[bytes | None]", found), strict=True) if stop is not None}


@cache
def redis() -> Redis:
    """This process's connection. Made on first use, in the child: a socket must not be shared over a fork."""
    return connect(env.read().redis_url)


@cache
def worker_settings() -> WorkerSettings:
    """What this worker reads from its environment."""
    environment = env.read()
    return WorkerSettings(
        data_dir=environment.data_dir,
        slide_roots={root.name: root.path for root in environment.slide_roots},
        simulated_seconds_per_tile=environment.simulated_seconds_per_tile,
        torch_device=environment.torch_device,
    )
