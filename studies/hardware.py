"""The machine that a trial runs on: cores, GPUs, device name, peak memory."""

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
    """The resources that a trial may use.

    Attributes:
        device: ``cpu`` or ``cuda``.
        num_threads: threads of PyTorch's CPU kernels.
        gpu_memory_fraction: fraction of the GPU's memory; below 1 where the processes of several trials share it.
        bundle_size: trials that the trial's process trains at once, itself included.
    """

    device: str = "cpu"
    num_threads: int = 1
    gpu_memory_fraction: float = 1.0
    bundle_size: int = 1


def count_cores() -> int:
    """CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # Linux: a batch system may have bound the process to some of the cores
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory_gib() -> float:
    """Physical memory, GiB."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30


def count_gpus() -> int:
    """CUDA devices that this process sees."""
    # Without a driver there are none, and importing torch to learn that takes about a second.
    if not Path("/proc/driver/nvidia/version").exists() and not Path("/dev/nvidia0").exists():
        return 0
    import torch

    return torch.cuda.device_count()


def gpu_names() -> list[str]:
    """Model names of the CUDA devices that this process sees, in their order."""
    num_gpus = count_gpus()
    if not num_gpus:
        return []
    import torch

    return [torch.cuda.get_device_name(index) for index in range(num_gpus)]


def device_name(device: str) -> str:
    """Model name of the CPU, or of the GPU for ``cuda``."""
    if device == "cuda":
        import torch

        return torch.cuda.get_device_name()
    # platform.processor() is empty or only "x86_64" on most Linux distributions.
    cpu_info = Path("/proc/cpuinfo")
    if cpu_info.exists():
        for line in cpu_info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


class PeakMemory:
    """Peak memory since creation, in bytes beyond what was held then.

    On a GPU, memory allocated by PyTorch; on a CPU, resident memory. Where the kernel cannot reset an older peak, work
    that stays below it counts as 0.

    Args:
        is_shared: whether other trials of this process use the GPU at the same time. PyTorch counts the memory of a
            process, so the peak is then that of all, since the process began.
    """

    def __init__(self, device: str, *, is_shared: bool = False) -> None:
        self.device = device
        self.initial_bytes = 0
        if is_shared and device == "cuda":
            return  # resetting the peak would take it from the other trials
        if device == "cuda":
            import torch

            torch.cuda.reset_peak_memory_stats()
        else:
            _reset_cpu_peak()
        self.initial_bytes = self._read_peak()

    def peak_bytes(self) -> float:
        """The peak since the creation, less what was held then."""
        return float(max(0, self._read_peak() - self.initial_bytes))

    def _read_peak(self) -> int:
        if self.device == "cuda":
            import torch

            return torch.cuda.max_memory_allocated()
        status = Path("/proc/self/status")
        if status.exists():
            for line in status.read_text().splitlines():
                if line.startswith(
                    "VmHWM:"
                ):  # proc(5): peak resident set size, in KiB; unlike ru_maxrss it can be reset
                    return int(line.split()[1]) * 1024
        unit = 1 if sys.platform == "darwin" else 1024  # getrusage(2): bytes on macOS, KiB elsewhere
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _reset_cpu_peak() -> None:
    """Reset the kernel's record of this process's peak memory."""
    # First return what malloc holds in reserve: work that reuses it would seem to take no memory.
    with suppress(AttributeError, OSError):  # a C library other than glibc
        ctypes.CDLL(None).malloc_trim(0)
    try:
        Path("/proc/self/clear_refs").write_text("5")  # proc(5): resets VmHWM
    except OSError:  # no Linux, or a container that forbids it
        return
