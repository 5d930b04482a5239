"""The Celery task: one call into the job types, one outcome. Runs in a worker's child; no Django, no database."""

from __future__ import annotations

import logging
import os
import time
import traceback
from functools import cache
from typing import Any

from celery import Task, shared_task
from redis import Redis, RedisError

from scheduling import kernels
from scheduling.engine.inbox import Inbox, connect
from scheduling.engine.messages import Bundle, Failure, Kind, Outcome, Planned
from scheduling.jobtypes import registry, running
from scheduling.jobtypes.base import JobContext, JobFailed, WorkerSettings
from scheduling.jobtypes.refusals import missing_root, refusal_of
from scheduling.jobtypes.tilefiles import FolderGone, TilesLost
from workflowsite import env

logger = logging.getLogger(__name__)

TASK = "scheduling.bundle"
#: Delivering an outcome is tried this long; after that the ledger finds the bundle lost.
DELIVERY_S = 20.0
STOPPED = "stopped"


@shared_task(name=TASK, ignore_result=True, bind=True)
def bundle(self: Task[[dict[str, Any]], None], message: dict[str, Any]) -> None:
    """Carry out a bundle and deliver what became of it to the leader that sent it."""
    order = Bundle.from_json(message)
    worker = f"{self.request.hostname}/{os.getpid()}"
    deliver(redis(), order.term, run(order, worker_settings(), worker=worker, is_stopped=is_stopped(order)))


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
        return {"done": tuple(done), "failure": _failure(failed.error, failed.index) if failed else None}
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


def deliver(client: Redis, term: int, outcome: Outcome, *, within_s: float = DELIVERY_S) -> None:
    """Push an outcome, again and again while Redis is away."""
    end = time.monotonic() + within_s
    while True:
        try:
            return Inbox(client).push(term, outcome.to_json())
        except RedisError as error:
            if time.monotonic() > end:
                logger.warning(
                    "an outcome could not be delivered: %s", error, extra={"action": "outcome_undelivered", "job_id": outcome.job}
                )
                return None
            time.sleep(0.5)


def stop_key(job: str, epoch: int) -> str:
    """The Redis key that says that bundles of this claim need not be started any more."""
    return f"{STOPPED}:{job}:{epoch}"


def is_stopped(order: Bundle) -> bool:
    """Whether the job was cancelled while the bundle waited; unknown counts as no."""
    try:
        return bool(redis().exists(stop_key(order.spec.id, order.epoch)))
    except RedisError:
        return False


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
