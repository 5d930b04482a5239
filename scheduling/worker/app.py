"""The Celery application of the workers. Knows the environment, not Django.

Re-delivery is the scheduler's alone (its ledger of dispatched bundles), so Celery acknowledges early, keeps no results
and never sends anything again: a visibility timeout would replay old work.
"""

from __future__ import annotations

import os

# Before anything imports numpy: a worker process is one core; the libraries' own threads would fight over it.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
# A library that starts a thread when it is loaded: children would be forked without it.
os.environ.setdefault("JE_ARROW_MALLOC_CONF", "background_thread:false")

from celery import Celery  # noqa: E402
from kombu.transport.redis import Channel  # noqa: E402

from scheduling import env, kernel_cache  # noqa: E402
from scheduling.version import broker_prefix  # noqa: E402

# Nothing that was received is put back when the connection is lost: the ledger sends it again. Besides, a worker that tries to, with
# Redis away, ends with an AttributeError of kombu's.
Channel.do_restore = False

ENV = env.read()
os.environ.setdefault(kernel_cache.VARIABLE, str(kernel_cache.folder(ENV.data_dir)))

app = Celery(
    "workflows",
    broker=ENV.broker_url,
    include=["scheduling.worker.task", "scheduling.worker.signals", "scheduling.worker.preloading", "scheduling.worker.resting"],
)
app.conf.update(
    task_serializer="json",
    accept_content=["json"],
    task_ignore_result=True,
    task_acks_late=False,
    task_reject_on_worker_lost=False,
    task_default_queue="cpu",
    task_default_delivery_mode="transient",
    task_store_errors_even_if_ignored=False,
    worker_prefetch_multiplier=1,
    worker_hijack_root_logger=False,
    worker_send_task_events=False,
    worker_cancel_long_running_tasks_on_connection_loss=False,
    worker_max_tasks_per_child=None,
    broker_connection_retry=True,
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    broker_transport_options={
        "global_keyprefix": broker_prefix(),
        # No books in Redis about what is not acknowledged, and no visibility timeout.
        "ack_emulation": False,
        "priority_steps": [0, 1],
        "queue_order_strategy": "priority",
        "socket_timeout": 2,
        "socket_connect_timeout": 2,
        "max_retries": 1,
        "interval_start": 0,
        "interval_step": 0.2,
        "interval_max": 0.5,
    },
    redis_socket_timeout=2,
    redis_socket_connect_timeout=2,
    task_publish_retry=False,
)
