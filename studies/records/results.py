"""The result of a trial, and its JSON form.

The JSON of a result is here, not in ``records.serialization``: training writes results, and must import no ablation
(else :func:`studies.records.digests.code_digest` would change with every new ablation).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from itertools import chain
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt

from studies.records.json_numbers import nonfinite_to_null, null_to_nan
from studies.settings import redact_credentials

RECORD_SCHEMA = 1  # of results, registrations, manifests and checkpoints alike
LOGGED_PREFIX = "logged/"  # of curves that a module which trains itself logs, apart from this package's own
ResultStatus = Literal["finished", "non-finite", "at chance", "failed"]
# A trial that ran to its end without a network that has learned: a result of its arm, and never trained again.
UNTRAINED_STATUSES: tuple[ResultStatus, ...] = ("non-finite", "at chance")
LEGACY_STATUS = "diverged"  # earlier versions had one word for both


@dataclass(frozen=True, kw_only=True)
class Result:
    """The outcome of one trial: metrics, costs, and the evidence of what it did.

    Fields with a default do not apply to every kind of trial: an evaluation has no curves, a failed trial only an
    error.

    Attributes:
        fingerprint: identity of the trial: setup, seed and dependencies.
        digests: ``data``, ``code`` and ``platform``, which decide the result's bits as well; and ``user_code``, of the
            user's own network, source network and data, where the trial has any.
        status: ``finished``; ``non-finite`` (a loss or weight); ``at chance`` (the training error is about that of a
            constant answer, see :func:`studies.training.status.training_status`); ``failed`` (exception). An
            evaluation has the status of the networks that it evaluates.
        metrics: final values: ``test_error``, ``validation_error``, ``train_error`` (percent, evaluation mode, no
            augmentation) and ``test_loss``, ``validation_loss``, ``train_loss`` (nats); of each split also
            ``balanced_error`` (mean over the classes' own errors), and ``constant_error`` and
            ``constant_balanced_error``, those of always answering its largest class; with more than five classes
            ``test_top5_error``. An evaluation has those of the test split alone.
        curves: per epoch: ``train_loss``, ``validation_loss`` (nats), ``train_error``, ``validation_error`` (percent;
            training values are running ones, under augmentation), ``learning_rate``, ``gradient_norm``, ``seconds``;
            and ``gradient_norm/<layer>``, of each layer's weights over the epoch's first steps. A module that trains
            itself has no ``train_error``, and ``train_loss`` only where it logs one. Empty for a linear classifier.
        times: seconds since 1970 at the end of each epoch.
        cost: ``train_seconds``, ``images_per_second``, ``peak_memory_bytes`` (of training, beyond what was allocated
            before the network was built); ``inference_images_per_second``, ``inference_peak_memory_bytes`` (of the pass
            over the test examples, beyond what was allocated before it). An evaluation has only these two, and
            ``inference_multiply_adds``: of the complete test of one image. In a bundle on a GPU the first peak is that
            of all its trials, and there is no second one.
        environment: versions, device, threads.
        evidence: what the trial did: ``order``, ``augmentation``, ``split`` (hashes), ``steps``, and the hash of every
            layer's initial weights under ``weights.<layer>``; for a warm start ``donor``, the fingerprint of the source
            trial, and ``copied``, the paths of the copied layers. For an evaluation instead ``donors``, the
            fingerprints of the trials whose networks it evaluated, and ``tested``, hashes of their weights. For a
            linear classifier neither order, augmentation nor steps, but ``classifier``: its strength, and iterations.
        predictions: predicted class of every test example, ``uint16`` of shape ``(examples,)``, in the order of the
            test set; ``None`` for a candidate of the tuning, and where a trial could predict nothing.
        error: traceback of a failed trial.
        checksums: SHA-256 of the trial's other files, by name: ``weights.pt``, ``predictions.npy``,
            ``classifier.npz``; empty in results of earlier versions.
    """

    # The names of these fields are the keys of ``result.json``, and their order is its order.
    fingerprint: str
    digests: Mapping[str, str]
    status: ResultStatus
    metrics: Mapping[str, float] = field(default_factory=dict)
    curves: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    times: tuple[float, ...] = ()
    cost: Mapping[str, float] = field(default_factory=dict)
    environment: Mapping[str, str | int] = field(default_factory=dict)
    evidence: Mapping[str, str | int] = field(default_factory=dict)
    # An array has no single truth value, so the generated ``__eq__`` cannot compare it.
    predictions: npt.NDArray[np.uint16] | None = field(default=None, compare=False, repr=False)
    error: str = ""
    schema: int = RECORD_SCHEMA
    checksums: Mapping[str, str] = field(default_factory=dict, compare=False)

    def __repr__(self) -> str:
        from lightning_modules.specs.notebook_html import describe_object

        errors = [f"{name} {value:.2f}" for name, value in self.metrics.items() if name.endswith("_error")]
        return describe_object(self, f"{self.status}: {', '.join(errors) or 'no errors'}")

    def _repr_html_(self) -> str:
        from lightning_modules.specs.notebook_html import render_line, render_table, render_view

        values = [(name, f"{value:.6g}") for name, value in (*self.metrics.items(), *self.cost.items())]
        error_lines = self.error.strip().splitlines()
        return render_view(
            f"Result: {self.status}",
            render_line(error_lines[-1] if error_lines else ""),
            render_table(("metric or cost", "value"), values, numbers=(1,)),
            render_line(f"Fingerprint {self.fingerprint}; {len(self.times)} epochs.", quiet=True),
        )


def failed_result(fingerprint: str, digests: Mapping[str, str], error: str) -> Result:
    """Make the result of a trial that raised, or whose process died, from the reason.

    Credentials in the text are redacted: a traceback may show the URI of the tracking store.
    """
    return Result(fingerprint=fingerprint, digests=digests, status="failed", error=redact_credentials(error))


def result_to_json(result: Result) -> dict[str, Any]:
    """Return plain JSON data of a result without its predictions; non-finite numbers become ``null``."""
    data = asdict(replace(result, predictions=None))
    del data["predictions"]  # stored beside it, as a NumPy file
    if not data["checksums"]:
        del data["checksums"]
    return {key: nonfinite_to_null(value) for key, value in data.items()}


def result_from_json(data: dict[str, Any]) -> Result:
    """Invert :func:`result_to_json`; the result has no predictions."""
    metrics = {name: null_to_nan(value) for name, value in data["metrics"].items()}
    curves = {name: tuple(map(null_to_nan, values)) for name, values in data["curves"].items()}
    status = current_status(data["status"], chain(metrics.values(), curves.get("train_loss", ())))
    return Result(**data | {"status": status, "metrics": metrics, "curves": curves, "times": tuple(data["times"])})


def current_status(status: str, values: Iterable[float]) -> ResultStatus:
    """Translate the status of an earlier version, ``diverged``, by the trial's metrics and losses."""
    if status == LEGACY_STATUS:
        return "at chance" if all(map(math.isfinite, values)) else "non-finite"
    return cast(ResultStatus, status)


def recorded_statuses_of(status: ResultStatus) -> tuple[str, ...]:
    """The words under which a tracking store may hold a status, that of earlier versions included."""
    return (status, LEGACY_STATUS) if status in UNTRAINED_STATUSES else (status,)
