"""The machine that a trial runs on: its cores, its name, its memory."""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What a trial may use: ``cpu`` or ``cuda``, threads for its arithmetic, and which share of a GPU's memory."""

    device: str = "cpu"
    threads: int = 1
    gpu_share: float = 1.0


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_gib() -> float:
    """Physical memory, GiB."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30


def gpus() -> int:
    """CUDA devices that this process sees; 0 without looking where no NVIDIA driver is loaded."""
    if not Path("/proc/driver/nvidia/version").exists() and not Path("/dev/nvidia0").exists():
        return 0
    import torch

    return torch.cuda.device_count()


def device_name(device: str) -> str:
    """The model of the CPU or of the GPU (``cuda``)."""
    if device == "cuda":
        import torch

        return torch.cuda.get_device_name()
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


class PeakMemory:
    """Memory that a stretch of work takes at its peak, beyond what the process held when it began; bytes.

    On a GPU, what PyTorch had allocated; on a CPU, resident memory. Where the kernel cannot forget an older peak, a
    stretch that stays below that one counts as 0.
    """

    def __init__(self, device: str) -> None:
        self.device = device
        if device == "cuda":
            import torch

            torch.cuda.reset_peak_memory_stats()
        else:
            _forget_peak()
        self.before = self._peak()

    def bytes(self) -> float:
        """The peak since the beginning, less what was held then."""
        return float(max(0, self._peak() - self.before))

    def _peak(self) -> int:
        if self.device == "cuda":
            import torch

            return torch.cuda.max_memory_allocated()
        status = Path("/proc/self/status")
        if status.exists():
            for line in status.read_text().splitlines():
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _forget_peak() -> None:
    """Have the kernel forget the peak; what the C library holds in reserve is given back first."""
    with suppress(AttributeError, OSError):  # not glibc
        ctypes.CDLL(None).malloc_trim(0)
    try:
        Path("/proc/self/clear_refs").write_text("5")  # proc(5): resets VmHWM to the present size
    except OSError:
        return
