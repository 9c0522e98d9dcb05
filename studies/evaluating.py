"""A trial that trains nothing: it tests, as its setup says, the final weights of the trials that are its donors."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from lightning_modules.batches import TrialData
from lightning_modules.sharing import Share
from lightning_modules.tally import TOP
from lightning_modules.testing import Looking, examine, multiply_adds, restored
from studies.fits import Fit
from studies.machine import PeakMemory
from studies.results import Status
from studies.spool import Spool

State = Mapping[str, torch.Tensor]


@dataclass(frozen=True, kw_only=True)
class Tested:
    """What an evaluation gave; see :class:`studies.results.Result`."""

    status: Status
    metrics: Mapping[str, float]
    cost: Mapping[str, float]
    evidence: Mapping[str, str | int]
    predictions: npt.NDArray[np.uint16]


def evaluate_donors(
    fit: Fit,
    data: TrialData,
    donors: Sequence[Path],
    device: torch.device,
    share: Share,
    beat: Callable[[], None],
) -> Tested:
    """Test the donors' networks on the test part, and on no other.

    Nothing was trained here, so whether training succeeded is the donors' to say: the evaluation is ``diverged`` where
    one of them is, or where a loss is not finite.

    Args:
        donors: folders of the trials whose weights are tested.

    Raises:
        FileNotFoundError: where one of them has left no weights.
    """
    states = [final_weights(donor, folder) for donor, folder in zip(fit.donors, donors, strict=True)]
    memory = PeakMemory(device.type)
    scorers = [restored(donor.setup, state, device) for donor, state in zip(fit.donors, states, strict=True)]
    began = time.perf_counter()
    tally, predicted = examine(scorers, Looking.of(fit.setup), data.test, device, share, beat)
    metrics = {"test_error": tally.error, "test_loss": tally.mean_loss}  # waits for the device
    seconds = time.perf_counter() - began
    if fit.setup.scale.classes > TOP:
        metrics["test_top5_error"] = tally.top5_error
    return Tested(
        status=_status(donors, metrics.values()),
        metrics=metrics,
        cost={
            "inference_images_per_second": tally.examples / seconds,
            "inference_peak_memory_bytes": memory.bytes(),
            "inference_multiply_adds": float(multiply_adds(fit.setup)),
        },
        evidence={
            "donors": ",".join(donor.fingerprint for donor in fit.donors),
            "tested": ",".join(map(_hash, states)),
        },
        predictions=predicted.cpu().numpy().astype(np.uint16),
    )


def final_weights(donor: Fit, folder: Path) -> State:
    """The weights with which a trial ended.

    Raises:
        FileNotFoundError: where it has left none.
    """
    if not Spool(folder).weights.exists():
        raise FileNotFoundError(f"the {donor.arm}, under seed {donor.seed}, left no weights to start from")
    state: State = torch.load(Spool(folder).weights, map_location="cpu", weights_only=True)
    return state


def _status(donors: Iterable[Path], values: Iterable[float]) -> Status:
    results = [Spool(folder).result() for folder in donors]
    trained = all(result is not None and result.status == "finished" for result in results)
    return "finished" if trained and all(map(math.isfinite, values)) else "diverged"


def _hash(state: State) -> str:
    """Of all tensors of a network, by name."""
    digest = hashlib.sha256()
    for name, tensor in state.items():
        digest.update(name.encode() + tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]
