"""`manage.py up`: what `make run` runs. Loads no Django: the programs that it starts do."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from scheduling import env
from workflowsite.embedded_redis import NoRedis
from workflowsite.preflight import CannotStart


def main(arguments: Sequence[str]) -> int:
    """Start the web server, the scheduler, a worker and, without REDIS_URL, Redis; keep them alive; stop them in order. The exit code."""
    parser = argparse.ArgumentParser(prog="manage.py up", description=main.__doc__)
    parser.add_argument("--with-parent", action="store_true", help="end when the process that started this one is gone, however that ended")
    options = parser.parse_args(arguments)
    parent = os.getppid() if options.with_parent else None
    from twisted.internet import reactor  # noqa: PLC0415  (importing it installs it)

    from workflowsite.startup import run  # noqa: PLC0415

    try:
        return run(env.read({**os.environ, "EMBEDDED": "1"}), reactor, parent)
    except (CannotStart, NoRedis) as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 1
