"""Stand-in models on disk, and networks made of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
import torch

from scheduling.instanseg.network import Network
from tests.support.models import facts_of
from tests.support.standin import write_standin

OUTPUTS = {"nuclei": ("nuclei",), "cells": ("nuclei", "cells")}


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """As in a worker; threads that wait for each other cost most on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def network(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, bool], Network]:
    """network(variant, is_fast): a stand-in, loaded once in a session."""
    folder = tmp_path_factory.mktemp("models")

    @cache
    def made(variant: str, is_fast: bool) -> Network:
        path: Path = write_standin(folder / f"{variant}.pt", variant)
        return Network.load(path, facts_of(*OUTPUTS[variant], file=path.read_bytes(), is_fast=is_fast))

    return made
