"""A trial that trains a linear classifier on a network that stays as it starts."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from lightning_modules.batches import Readable, TrialData
from lightning_modules.features import Described, LinearClassifier, described, linear_classifier, load
from lightning_modules.tally import TOP
from lightning_modules.testing import Looking, Scorer
from studies.fits import Fit
from studies.machine import Machine, PeakMemory

PARTS = ("train", "validation", "test")


@dataclass(frozen=True, kw_only=True)
class Classified:
    """What a linear classifier gave; see :class:`studies.results.Result`.

    Attributes:
        classifier: ``None`` where the network gives no finite activations.
    """

    metrics: Mapping[str, float]
    cost: Mapping[str, float]
    evidence: Mapping[str, str | int]
    predictions: npt.NDArray[np.uint16] | None
    classifier: LinearClassifier | None


def classify(
    fit: Fit, network: nn.Module, data: TrialData, machine: Machine, device: torch.device, beat: Callable[[], None]
) -> Classified:
    """Train the classifier, choose its strength on validation, and test it; a fit that tunes reads no test part."""
    load()
    setup, memory, began = fit.setup, PeakMemory(device.type), time.perf_counter()
    network = network.to(device).to(memory_format=torch.channels_last)
    scorer, looking = Scorer(network, setup.network, setup.recipe).eval(), Looking.of(setup)

    def read(part: Readable) -> Described:
        return described(scorer, looking, part, beat)

    parts = {"train": read(data.train), "validation": read(data.validation)}
    finite = all(part.is_finite for part in parts.values())
    classifier = linear_classifier(parts["train"], parts["validation"], machine.threads, beat) if finite else None
    seconds = time.perf_counter() - began
    cost = {
        "train_seconds": seconds,
        "images_per_second": len(parts["train"].labels) / seconds,
        "peak_memory_bytes": memory.bytes(),
    }
    if classifier is None:
        names = PARTS[:2] if fit.tunes else PARTS
        lost = {f"{name}_{what}": math.nan for name in names for what in ("error", "loss")}
        evidence = {"classifier": "none: activations are not finite"}
        return Classified(metrics=lost, cost=cost, evidence=evidence, predictions=None, classifier=None)
    memory, began = PeakMemory(device.type), time.perf_counter()
    if not fit.tunes:
        parts["test"] = read(data.test)
    metrics, predicted = dict[str, float](), None
    for name, part in parts.items():
        tally, classes = classifier.tally(part)
        metrics |= {f"{name}_error": tally.error, f"{name}_loss": tally.mean_loss}
        if name == "test":
            predicted = classes.numpy().astype(np.uint16)
            cost["inference_images_per_second"] = tally.examples / (time.perf_counter() - began)
            cost["inference_peak_memory_bytes"] = memory.bytes()
            if setup.scale.classes > TOP:
                metrics["test_top5_error"] = tally.top5_error
    return Classified(
        metrics=metrics,
        cost=cost,
        evidence={"classifier": _told(classifier)},
        predictions=predicted,
        classifier=classifier,
    )


def _told(classifier: LinearClassifier) -> str:
    steps = f"{classifier.iterations} iterations for all strengths"
    return f"C = {classifier.strength:g}, {steps}" + ("" if classifier.converged else ", not converged")
