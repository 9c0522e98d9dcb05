"""Inputs and outcome of every kind of trial, and its `Result`."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from lightning_modules.data.trial_data import TrialDataModule
from lightning_modules.distributed import DataParallelRank
from lightning_modules.specs.setup import Setup
from studies.design.trial import Trial
from studies.hardware import Machine, device_name
from studies.records.results import Result, ResultStatus
from studies.storage.trial_folder import TrialFolder
from studies.training.progress import TrialCallbacks

MultiplyAddCounter = Callable[[Setup], int]


@dataclass(frozen=True, kw_only=True)
class TrialContext:
    """A trial with all that running it takes.

    Attributes:
        dependency_folders: of the source network, or of the evaluated networks, in the order of ``trial.dependencies``.
        count_multiply_adds: of a whole test; ``None`` where the cost of an evaluation is to be left out.
    """

    trial: Trial
    data: TrialDataModule
    folder: TrialFolder
    dependency_folders: Sequence[Path]
    machine: Machine
    callbacks: TrialCallbacks
    dp_rank: DataParallelRank
    count_multiply_adds: MultiplyAddCounter | None = None

    @property
    def device(self) -> torch.device:
        """Device on which the trial computes."""
        return torch.device(self.machine.device)


@dataclass(frozen=True, kw_only=True)
class TrialOutcome:
    """What one kind of trial measured.

    The fields are those of :class:`studies.records.results.Result`.

    Attributes:
        extra_versions: of libraries that only this kind of trial uses, added to the recorded environment.
        weights_checksum: of the file of the final weights, where it was hashed as it was written.
    """

    status: ResultStatus
    metrics: Mapping[str, float]
    cost: Mapping[str, float]
    evidence: Mapping[str, str | int]
    predictions: npt.NDArray[np.uint16] | None
    curves: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    times: tuple[float, ...] = ()
    extra_versions: Mapping[str, str] = field(default_factory=dict)
    weights_checksum: str = ""


def result_from_outcome(context: TrialContext, outcome: TrialOutcome, digests: Mapping[str, str]) -> Result:
    """The result of a trial that ran to its end."""
    return Result(
        fingerprint=context.trial.fingerprint,
        digests=digests,
        status=outcome.status,
        metrics=outcome.metrics,
        curves=outcome.curves,
        times=outcome.times,
        cost=outcome.cost,
        environment={**_runtime_environment(context.machine, context.dp_rank.world_size), **outcome.extra_versions},
        evidence=outcome.evidence,
        predictions=outcome.predictions,
    )


def _runtime_environment(machine: Machine, world_size: int) -> dict[str, str | int]:
    """Versions, device and threads of this process, and the world size."""
    # Seconds and memory of a trial in a bundle are those of the bundle; a record of before has no such key.
    bundle = {"bundle_size": machine.bundle_size} if machine.bundle_size > 1 else {}
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "lightning": metadata.version("pytorch-lightning"),
        "numpy": np.__version__,
        "device": machine.device,
        "device_name": device_name(machine.device),
        # Selects the vectorized kernels (AVX2, AVX-512, …), whose sums round differently.
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": machine.num_threads,
        "workers": world_size,
        **bundle,
    }
