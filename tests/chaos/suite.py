"""One run from its first process to its last: start, load and faults together, wait for every end, collect, stop, judge."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from contextlib import ExitStack
from subprocess import TimeoutExpired

from scheduling.env import BASE_DIR
from tests.chaos import report as reporting
from tests.chaos.cluster import Cluster
from tests.chaos.database import ERRORS
from tests.chaos.evidence import collect
from tests.chaos.faults import Happened, Saboteur
from tests.chaos.installation import STOP_WITHIN_S, Installation, kept
from tests.chaos.load import Load, summary
from tests.chaos.plan import draw
from tests.chaos.report import Report
from tests.chaos.settings import ChaosSettings
from tests.chaos.verdict import judge
from tests.chaos.watch import Watcher

#: Everything has ended when the load is over for so long, or nothing has moved for so long.
DRAINED_WITHIN_S, MOVES_WITHIN_S = 600.0, 60.0
CHECKED_WITHIN_S = 300
_UNFINISHED = "SELECT w.uuid, j.job_id, j.state, j.lane, j.epoch, j.tiles_processed, j.tiles_total FROM scheduling_job j \
JOIN scheduling_workflow w ON w.id = j.workflow_id WHERE j.state IN ('PENDING', 'RUNNING') ORDER BY j.id"


def say(line: str) -> None:
    """To the person who waits."""
    print(line, flush=True)


class Run:
    """One run of the suite. What it starts ends with `stack`, however the run ends."""

    def __init__(self, settings: ChaosSettings, stack: ExitStack) -> None:
        self.report = Report(settings=settings)
        self._settings, self._stack = settings, stack
        self._plan = draw(settings.seed, settings.seconds, settings.database)

    def carry_out(self) -> Report:
        """Do it all. A product that cannot even be asked ends the run with AssertionError or TimeoutError."""
        self._announce()
        cluster = self._cluster() if self._settings.database == "postgres" else None
        installation = Installation(cluster.url if cluster else None)
        self._stack.callback(installation.clean_up)
        self._stack.callback(self._keep, installation)
        installation.start()
        watcher = Watcher(installation.database, installation.product.status).start()
        self._stack.callback(watcher.stop)
        load = Load(installation.product.port, self._settings.seed)
        self._stack.callback(load.stop)
        saboteur = Saboteur(installation, cluster)
        began, happened, ended = self._disturb(saboteur, installation, load)
        self._drain(installation, load, watcher)
        watcher.stop()
        self.report.recoveries = reporting.recoveries(happened, watcher.samples, began)
        self.report.standstills = reporting.pauses(watcher.samples, began, ended)
        self._judge(installation, load, watcher)
        self._stop(installation)
        self._verify(installation)
        return self.report

    def _announce(self) -> None:
        settings = self._settings
        say(f"CHAOS_SEED={settings.seed} CHAOS_SECONDS={settings.seconds} CHAOS_DATABASE={settings.database}: {len(self._plan)} faults")
        for fault in self._plan:
            say(f"  {fault.at_s:7.2f} s  {fault.kind}{f' for {fault.lasts_s} s' if fault.lasts_s else ''}")

    def _cluster(self) -> Cluster:
        cluster = Cluster()
        self._stack.callback(cluster.stop)
        return cluster.start()

    def _keep(self, installation: Installation) -> None:
        """The logs of a run that did not pass, or did not come to its end."""
        if self.report.failures or sys.exc_info()[0] is not None or not self.report.checker:
            folder = reporting.RESULTS / f"{self._settings.database}-{self._settings.seed}"
            kept(installation, folder)
            say(f"the logs are in {folder}")

    # -- load and faults

    def _disturb(self, saboteur: Saboteur, installation: Installation, load: Load) -> tuple[float, list[Happened], float]:
        """Load and faults, side by side: when they began, what happened, when they ended."""
        began = time.monotonic()
        load.start()
        try:
            happened = saboteur.carry_out(self._plan, began, lambda fault: _tell(fault, began))
            time.sleep(max(0.0, began + self._settings.seconds - time.monotonic()))
        finally:
            installation.resume_all()
            load.stop()
        if saboteur.strays:
            self.report.notes.append(f"written while the results folder was away: {', '.join(saboteur.strays[:5])}")
        return began, happened, time.monotonic()

    def _drain(self, installation: Installation, load: Load, watcher: Watcher) -> None:
        """Wait until everything has ended, or say what is stuck."""
        began = time.monotonic()
        try:
            load.finish()
        except (AssertionError, TimeoutError) as error:
            self.report.violations.append(f"the load could not be brought to its end: {error}")
        while left := _unfinished(installation):
            if time.monotonic() - began > DRAINED_WITHIN_S or watcher.idle_s() > MOVES_WITHIN_S:
                self.report.violations += [f"stuck: {row}" for row in left]
                break
            time.sleep(0.3)
        self.report.drained_in_s = round(time.monotonic() - began, 1)
        if (status := installation.product.status("/readyz")) != 200:
            self.report.violations.append(f"/readyz answers {status} when all is over")

    # -- afterwards

    def _judge(self, installation: Installation, load: Load, watcher: Watcher) -> None:
        try:
            evidence = collect(installation.product.port, load.submissions, installation.database, load.answers)
        except TimeoutError as error:
            self.report.violations.append(f"the API does not answer any more: {error}")
        else:
            verdict = judge(load.submissions, evidence)
            self.report.lost += verdict.lost
            self.report.doubled += verdict.doubled
            self.report.violations += verdict.violations
            self.report.states = dict(Counter(job.state for job in evidence.jobs))
        self.report.violations += load.problems
        self.report.load = summary(load.submissions)
        self.report.answers = dict(sorted(load.answers.counts.items()))
        self.report.ready = {str(status): count for status, count in sorted(watcher.ready.items())}

    def _stop(self, installation: Installation) -> None:
        try:
            self.report.stopped_in_s = round(installation.stop(), 1)
        except TimeoutExpired:
            self.report.violations.append("it did not stop")
        if self.report.stopped_in_s > STOP_WITHIN_S:
            self.report.violations.append(f"the stop took {self.report.stopped_in_s} s")
        self.report.violations += [f"left behind: {pid} {line}" for pid, line in installation.product.processes().items()]

    def _verify(self, installation: Installation) -> None:
        """The event log of the run, by the product's own checker."""
        command = [sys.executable, "manage.py", "verify_events", "--json", "--finished"]
        ended = subprocess.run(
            command, cwd=BASE_DIR, env=installation.environ, capture_output=True, text=True, check=False, timeout=CHECKED_WITHIN_S
        )
        try:
            self.report.checker = json.loads(ended.stdout)
            found = [f"verify_events: {violation}" for violation in self.report.checker["violations"]]
        except (ValueError, KeyError, TypeError):
            self.report.checker, found = {}, []
        self.report.violations += found
        if ended.returncode and not found:
            self.report.violations.append(f"verify_events ended with {ended.returncode}: {ended.stderr[-500:]}")


def _tell(fault: Happened, began: float) -> None:
    say(f"{fault.began - began:8.1f} s  {fault.fault.kind} ({fault.what}), over after {fault.ended - fault.began:.1f} s")


def _unfinished(installation: Installation) -> list[str]:
    try:
        return [str(row) for row in installation.database.rows(_UNFINISHED)]
    except ERRORS as error:
        return [f"the database: {error}"]
