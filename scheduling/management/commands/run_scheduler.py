"""The scheduler: leads, or stands by until the leader is gone."""

from __future__ import annotations

import signal
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from scheduling import prepared
from scheduling.engine.config import EngineConfig
from scheduling.leader.service import SchedulerService
from scheduling.protocol.inbox import connect


class Command(BaseCommand):
    """Assign the head jobs of branches to the worker pool until stopped by SIGTERM or SIGINT."""

    help = __doc__

    def handle(self, *_: Any, **__: Any) -> None:
        """Run until a signal comes; a second one kills as usual."""
        prepared.wait()
        env = settings.ENV
        config = EngineConfig(
            data_dir=env.data_dir,
            max_workers=env.max_workers,
            max_concurrent_users=env.max_concurrent_users,
            slot_max_s=env.user_slot_max_seconds,
            no_progress_s=env.no_progress_seconds,
            event_retention_days=env.event_retention_days,
        )
        service = SchedulerService(config=config, redis=connect(env.redis_url))

        def stop(number: int, _: object) -> None:
            signal.signal(number, signal.SIG_DFL)
            service.stop()

        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)
        service.run()
