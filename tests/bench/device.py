"""How busy a CUDA device is while something runs, as nvidia-smi counts it twice a second, and the most memory that torch held."""

from __future__ import annotations

import shutil
import statistics
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.bench.figures import Figure

_EVERY_MS = 500


def has_cuda() -> bool:
    """Whether torch is there and sees a device."""
    try:
        import torch
    except ModuleNotFoundError:
        return False
    return torch.cuda.is_available()


@dataclass
class Use:
    """What was seen of the device."""

    name: str = ""
    #: Percent of the time in which a kernel ran, one number for each half second.
    busy: list[float] = field(default_factory=list)
    peak_mib: float = 0.0

    def figures(self) -> dict[str, Figure]:
        """By name; without nvidia-smi the memory alone."""
        memory = {"peak memory": Figure(round(self.peak_mib), f"MiB of {self.name}", "lower")}
        if not self.busy:
            print("note: nvidia-smi tells nothing, so how busy the device is cannot be said")
            return memory
        return {"mean use": Figure(round(statistics.fmean(self.busy), 1), f"% of {self.name}", "higher"), **memory}


@contextmanager
def watched() -> Iterator[Use]:
    """Watch torch's current device; what was seen is there afterwards."""
    import torch

    device = torch.cuda.get_device_properties(torch.cuda.current_device())
    use, smi = Use(name=device.name), shutil.which("nvidia-smi")
    query = [
        "--query-gpu=utilization.gpu",
        "--format=csv,noheader,nounits",
        f"--loop-ms={_EVERY_MS}",
        f"--id=GPU-{str(device.uuid).removeprefix('GPU-')}",
    ]
    torch.cuda.reset_peak_memory_stats()
    with sampled([smi, *query] if smi else ["true"], use.busy):
        yield use
    use.peak_mib = torch.cuda.max_memory_allocated() / 2**20


@contextmanager
def sampled(command: Sequence[str], numbers: list[float]) -> Iterator[None]:
    """Let a program run that writes a number a line; afterwards they are in `numbers`, whatever else it has said left out."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield
    finally:
        process.terminate()
        numbers += [float(line) for line in process.communicate()[0].splitlines() if line.strip().isdecimal()]
