"""What a worker's parent loads before it forks, so that its children share it; and the kernels that it has compiled when they are missing.

Connected by signals when `worker.app` loads it. Nothing that is loaded here is run, starts a thread or opens a slide before the
fork; torch is loaded in the child alone.
"""

from __future__ import annotations

import gc
import logging
import os
from importlib import import_module
from pathlib import Path
from typing import Any

from celery import signals

from scheduling import kernel_cache
from scheduling.jobtypes import registry
from scheduling.worker import kernels

logger = logging.getLogger(__name__)

#: What the built-in types load at their first bundle.
LIBRARIES = ("scheduling.slides.reading.reader", "scheduling.jobtypes.simulated")


@signals.worker_init.connect
def _load(**_: Any) -> None:
    """Before the fork. Without kernels it is not even numba that is loaded: the worker should be there soon."""
    folder = Path(os.environ[kernel_cache.VARIABLE])
    kernel_cache.use(folder)
    if not kernel_cache.is_complete(folder):
        kernels.gate.close()
        return
    for module in (*LIBRARIES, *(place.partition(":")[0] for place in registry.BUILT_IN.values())):
        import_module(module)
    try:
        kernels.load(folder)
    except Exception as error:  # noqa: BLE001  (whatever is wrong with the files: each child loads or compiles what it needs)
        logger.warning("kernels are not loaded ahead: %r", error, extra={"action": "kernels_unread"})


@signals.worker_before_create_process.connect
def _freeze(**_: Any) -> None:
    """The collector marks what it looks at, and a page that is marked is shared no more."""
    gc.freeze()


@signals.worker_ready.connect
def _compile(**_: Any) -> None:
    if kernels.gate.refusal:
        kernels.gate.open_when_compiled()


@signals.worker_shutdown.connect
def _end(**_: Any) -> None:
    kernels.gate.give_up()
