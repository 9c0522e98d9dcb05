"""What a trial gives: the recorded type, beside the live one of ``studies.trials``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from studies.settings import without_credentials

SCHEMA = 1
Status = Literal["finished", "diverged", "failed"]


@dataclass(frozen=True, kw_only=True)
class Result:
    """What one trial gave.

    Attributes:
        fingerprint: identity of the trial: setup, seed and donor.
        digests: ``data``, ``code`` and ``platform``: what else decides the bits; and ``user_code``, of what the user
            wrote of this trial's network, donor and data, where there is any.
        status: ``finished``; ``diverged`` (non-finite, or training error above 0.9 x chance; for an evaluation, where
            that is said of a network that it tests); ``failed`` (exception).
        metrics: final values: ``test_error``, ``validation_error``, ``train_error`` (percent, evaluation mode, no
            augmentation) and ``test_loss``, ``validation_loss``, ``train_loss`` (nats); where there are more than five
            classes ``test_top5_error``. Of an evaluation, those of the test part alone.
        curves: per epoch: ``train_loss``, ``validation_loss`` (nats), ``train_error``, ``validation_error`` (percent;
            the training ones as seen during the epoch), ``learning_rate``, ``gradient_norm``, ``seconds``; and, of each
            layer's weights over the epoch's first steps, ``gradient_norm/<layer>``. Of a module that trains itself
            there is no ``train_error``, and ``train_loss`` only where it tells one. Of a linear classifier: none.
        times: seconds since 1970 at the end of each epoch.
        cost: ``train_seconds``, ``images_per_second``, ``peak_memory_bytes`` (of training, beyond what was held
            before the network was built); ``inference_images_per_second``, ``inference_peak_memory_bytes`` (of the pass
            over the test examples, beyond what was held before it). Of an evaluation only these, and
            ``inference_multiply_adds``: of the whole test of one image.
        environment: versions, device, threads.
        evidence: what the trial did: ``order``, ``augmentation``, ``split`` (hashes), ``steps``, and the hash of every
            layer's initial weights under ``weights.<layer>``; for a warm start ``donor``, the fingerprint of the trial
            that it starts from, and ``copied``, the places of the layers copied. For an evaluation instead ``donors``,
            the fingerprints of the trials whose networks it tested, and ``tested``, hashes of their weights. For a
            linear classifier neither order, augmentation nor steps, but ``classifier``: its strength, and iterations.
        predictions: predicted class of every test example, in the order of the test set; ``None`` where there are none.
        error: the traceback of a failed trial.
    """

    fingerprint: str
    digests: Mapping[str, str]
    status: Status
    metrics: Mapping[str, float]
    curves: Mapping[str, tuple[float, ...]]
    times: tuple[float, ...]
    cost: Mapping[str, float]
    environment: Mapping[str, str | int]
    evidence: Mapping[str, str | int]
    predictions: npt.NDArray[np.uint16] | None = field(default=None, compare=False, repr=False)
    error: str = ""
    schema: int = SCHEMA


def failed(fingerprint: str, digests: Mapping[str, str], error: str) -> Result:
    """The result of a trial that raised, or whose process died: nothing but the reason."""
    return Result(
        fingerprint=fingerprint,
        digests=digests,
        status="failed",
        metrics={},
        curves={},
        times=(),
        cost={},
        environment={},
        evidence={},
        error=without_credentials(error),
    )
