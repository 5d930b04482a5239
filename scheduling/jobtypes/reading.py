"""The slide of a job, open. Apart from `parameters`, which processes import that must load no image library."""

from __future__ import annotations

from scheduling.jobtypes.base import JobContext
from scheduling.jobtypes.parameters import slide_of
from scheduling.slides.reading.interface import SlideReader
from scheduling.slides.reading.reader import cached_reader


def reader_of(context: JobContext) -> SlideReader:
    """This process's open reader of the job's slide; the caller does not close it. Raises JobFailed without a slide, UnreadableSlide."""
    return cached_reader(context.slide_path, slide_of(context).fingerprint)
