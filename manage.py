#!/usr/bin/env python
"""Entry point of the management commands."""

from __future__ import annotations

import os
import sys

from scheduling.env import BadSetting


def main() -> int:
    """Run a command; a bad setting ends it with one line that names the variable."""
    try:
        if sys.argv[1:2] == ["up"]:
            from workflowsite import up  # noqa: PLC0415  (only here)

            return up.main(sys.argv[2:])
        os.environ.setdefault("DJANGO_SETTINGS_MODULE", "workflowsite.settings")
        from django.core.management import execute_from_command_line  # noqa: PLC0415  (reads the settings)

        execute_from_command_line(sys.argv)
    except BadSetting as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
