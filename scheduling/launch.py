"""Become a program of `make run`: in a session of its own, so that Ctrl-C in the terminal passes it by and its whole group
can be ended at once; and killed by the kernel (on Linux) when its starter is gone, however that ended: nobody would start it again or stop
it, and a part of a run that stays for long holds up the next.

    python -m scheduling.launch PARENT_PID PROGRAM ARGUMENT…
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def follow_parent(parent: int) -> None:
    """Have the kernel kill this process when the parent dies; exit when it is dead already."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            sys.exit(f"process {parent} is gone")


def main() -> None:
    """Replace this process by the program given."""
    parent, *command = sys.argv[1:]
    with contextlib.suppress(PermissionError):  # it leads a group already
        os.setsid()
    follow_parent(int(parent))
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
