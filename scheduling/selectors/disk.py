"""Reads of the disk: what is free where DATA_DIR lies, and what each user's files take."""

from __future__ import annotations

import logging
import shutil
import time
from collections import Counter
from collections.abc import Mapping

from django.conf import settings
from django.db.models import Sum

from scheduling.models import Annotation, Job, Slide

logger = logging.getLogger(__name__)

#: With less, work will soon fail for want of space.
ENOUGH_BYTES = 10**9
#: Adding up walks through all jobs, and the queue is read several times a second while somebody looks at it.
KEPT_S = 15.0


def free_bytes() -> int | None:
    """Free bytes of the file system of DATA_DIR; None when it cannot be asked."""
    try:
        return shutil.disk_usage(settings.DATA_DIR).free
    except OSError as error:
        logger.warning("the disk does not answer: %s", error, extra={"action": "disk_unknown"})
        return None


def has_room(free: int | None) -> bool:
    """Whether so many free bytes are enough to work with."""
    return free is not None and free >= ENOUGH_BYTES


class DiskUse:
    """Bytes by user key: results and kept tiles of jobs, as workers last told, uploaded slides, annotations. Kept for a few seconds."""

    def __init__(self) -> None:
        self._bytes: Mapping[int, int] = {}
        self._read_at = float("-inf")

    def by_user(self) -> Mapping[int, int]:
        """Users with files; read again when it is too old."""
        if time.monotonic() - self._read_at > KEPT_S:
            self._bytes, self._read_at = _added_up(), time.monotonic()
        return self._bytes


def _added_up() -> Mapping[int, int]:
    jobs = Job.objects.filter(disk_bytes__gt=0).order_by().values_list("owner_id").annotate(total=Sum("disk_bytes"))
    slides = Slide.objects.filter(is_upload=True, deleted_at=None).order_by().values_list("owner_id").annotate(total=Sum("size_bytes"))
    drawn = Annotation.objects.filter(deleted_at=None).order_by().values_list("slide__owner_id").annotate(total=Sum("size_bytes"))
    total: Counter[int] = Counter()
    for user, size in (*jobs, *slides, *drawn):
        total[user] += size
    return total


disk_use = DiskUse()
