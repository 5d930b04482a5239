"""`make chaos`: one run by the settings of the environment. Exit code 0 only when nothing was lost, doubled or violated."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import ExitStack

from tests.chaos.cluster import NoPostgres
from tests.chaos.settings import BadSetting, read
from tests.chaos.suite import Run, say


def main() -> int:
    """0 passed, 1 failed, 2 cannot be run; 130 and 143 when interrupted, after everything has been ended."""
    try:
        settings = read(os.environ)
    except BadSetting as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupted)
    try:
        with ExitStack() as stack:
            report = Run(settings, stack).carry_out()
            for line in report.lines():
                say(line)
            say(f"written to {report.write()}")
    except NoPostgres as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    say("FAILED" if report.failures else "passed")
    return 1 if report.failures else 0


def _interrupted(number: int, _: object) -> None:
    """Unwind the stack, which ends every process; a second signal is for whoever cannot wait."""
    signal.signal(number, signal.SIG_DFL)
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
