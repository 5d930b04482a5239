"""The named scenarios, each a function of a seeded random generator."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from random import Random

from scheduling.simulator.scenario import Failures, JobPlan, Scenario, Submission

TILE_S = 0.05
Maker = Callable[[Random], Scenario]


def make(name: str, seed: int) -> Scenario:
    """The scenario of that name. Raises KeyError when there is none."""
    return SCENARIOS[name](Random(f"{name}/{seed}"))


def _workflow(at_s: float, user: int, tiles: list[int], branches: int = 1, seconds_per_tile: float = TILE_S) -> Submission:
    """Jobs in turn over the branches."""
    jobs = (JobPlan(branch=f"b{n % branches}", tiles=count, seconds_per_tile=seconds_per_tile) for n, count in enumerate(tiles))
    return Submission(at_s=at_s, user=user, jobs=tuple(jobs))


def _slide(random: Random, least: int = 10, most: int = 100_000) -> int:
    """Tiles of a slide: as many small ones as large ones on a logarithmic scale."""
    return round(least * math.pow(most / least, random.random()))


def _steady(random: Random, user: int, every_s: float, until_s: float, most: int = 300) -> Iterator[Submission]:
    at_s = random.expovariate(1 / every_s)
    while at_s < until_s:
        yield _workflow(at_s, user, [_slide(random, 10, most) for _ in range(random.randint(1, 4))], branches=2)
        at_s += random.expovariate(1 / every_s)


def _paper(random: Random) -> Scenario:
    """The small system this one re-creates: four workers, three of four users active, jobs of 20, 30 and 60 tiles."""
    kinds = (JobPlan(branch="", tiles=20, seconds_per_tile=0.3), JobPlan(branch="", tiles=30, seconds_per_tile=0.2))
    jobs = [replace(random.choice(kinds), branch=f"b{n % 2}") for n in range(6)]
    return Scenario(name="paper", submissions=tuple(Submission(at_s=user * 0.1, user=user, jobs=tuple(jobs)) for user in range(1, 5)))


def _burst(random: Random) -> Scenario:
    """Six users hand in their cohorts within a second."""
    flows = (
        _workflow(random.random(), user, [_slide(random, 50, 2000) for _ in range(8)], branches=4) for user in range(1, 7) for _ in range(5)
    )
    return Scenario(name="burst", submissions=tuple(flows), processes=8, max_workers=8)


def _steady_load(random: Random) -> Scenario:
    """Five users come back all day, at two thirds of what the machine can do."""
    flows = (flow for user in range(1, 6) for flow in _steady(random, user, every_s=22.0, until_s=900.0))
    return Scenario(name="steady", submissions=tuple(flows), processes=4, max_workers=4)


def _greedy(random: Random) -> Scenario:
    """One user's slide of 100,000 tiles is on the machine when two colleagues come."""
    flows = [_workflow(0.0, 1, [100_000])]
    flows += [_workflow(10.0 + user, user, [4_000 + random.randint(0, 200)] * 2) for user in (2, 3)]
    return Scenario(name="greedy", submissions=tuple(flows), processes=4, max_workers=4)


def _zipf(random: Random) -> Scenario:
    """Ten users; the n-th hands in 1/n as many workflows as the first."""
    flows = (
        _workflow(random.random() * 600, user, [_slide(random, 10, 3000) for _ in range(2)], branches=2)
        for user in range(1, 11)
        for _ in range(max(1, 60 // user))
    )
    return Scenario(name="zipf", submissions=tuple(flows), processes=8, max_workers=8)


def _failing(random: Random) -> Scenario:
    """The burst while workers die each minute and the leader every two."""
    failures = Failures(worker_every_s=60.0, processes=2, leader_every_s=120.0)
    return replace(_burst(random), name="failures", failures=failures)


def _tenure(random: Random) -> Scenario:
    """More users than slots, each with more work than a slot's time of 60 s."""
    flows = (_workflow(user * 0.5, user, [_slide(random, 2000, 4000) for _ in range(2)], branches=2) for user in range(1, 7))
    return Scenario(name="tenure", submissions=tuple(flows), slot_max_s=60.0)


def _weights(random: Random) -> Scenario:
    """Three users, one of weight 2 and one of weight 4."""
    flows = (_workflow(random.random(), user, [8_000] * 2, branches=2) for user in (1, 2, 3))
    return Scenario(name="weights", submissions=tuple(flows), weights=((2, 2.0), (3, 4.0)), processes=8, max_workers=8)


def _many_users(random: Random) -> Scenario:
    """Thirty users and three slots."""
    flows = (_workflow(random.random() * 120, user, [_slide(random, 20, 800) for _ in range(4)], branches=2) for user in range(1, 31))
    return Scenario(name="many-users", submissions=tuple(flows), slot_max_s=120.0)


def _device(random: Random) -> Scenario:
    """Five users and three slots; two need a gpu after their mask, and its only worker is away from 20 s to 200 s."""
    mask, cells = JobPlan(branch="b", tiles=200, seconds_per_tile=TILE_S), JobPlan(branch="b", tiles=50, seconds_per_tile=TILE_S)
    infer = JobPlan(branch="b", tiles=random.randint(550, 650), seconds_per_tile=TILE_S, queue="gpu")
    flows = [Submission(at_s=random.random(), user=user, jobs=(mask, infer, cells)) for user in (1, 2)]
    flows += [_workflow(1.0 + random.random(), user, [4_000] * 2, branches=2) for user in (3, 4, 5)]
    return Scenario(name="device", submissions=tuple(flows), gpu_s=((0.0, 20.0), (200.0, math.inf)))


def _million(random: Random) -> Scenario:
    """A million tiles of five users on sixteen processes."""
    sizes = [100_000] * 8 + [10_000] * 16 + [400] * 100
    random.shuffle(sizes)
    flows = (_workflow(random.random() * 300, n % 5 + 1, [tiles]) for n, tiles in enumerate(sizes))
    return Scenario(name="million", submissions=tuple(flows), processes=16, max_workers=16)


SCENARIOS: dict[str, Maker] = {
    "paper": _paper,
    "burst": _burst,
    "steady": _steady_load,
    "greedy": _greedy,
    "zipf": _zipf,
    "failures": _failing,
    "tenure": _tenure,
    "weights": _weights,
    "many-users": _many_users,
    "device": _device,
    "million": _million,
}
