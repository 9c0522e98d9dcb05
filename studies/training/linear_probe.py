"""Run a trial that trains a linear classifier on a fixed network."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from lightning_modules.data.trial_data import ReadableSplit
from lightning_modules.evaluation.inference import Scorer, ViewScheme
from lightning_modules.evaluation.linear_probe import (
    FeatureSet,
    LinearClassifier,
    extract_features,
    fit_linear_classifier,
    preload_sklearn,
)
from lightning_modules.modules.metrics import TOP_K
from lightning_modules.networks.initialization import build_initialized_network
from lightning_modules.rng import redraw_seed
from studies.hardware import PeakMemory
from studies.storage.trial_folder import TrialFolder
from studies.training.outcome import TrialContext, TrialOutcome
from studies.training.status import training_status
from studies.training.weights import copy_source_layers, hash_initial_weights, writing_weights


@dataclass(frozen=True, kw_only=True)
class _ProbeFit:
    """A linear classifier and its measurements.

    Attributes:
        classifier: ``None`` where the network gives no finite activations.
        predictions: of the test split; ``None`` where it was not read.
    """

    classifier: LinearClassifier | None
    metrics: Mapping[str, float]
    cost: Mapping[str, float]
    predictions: npt.NDArray[np.uint16] | None


def run_linear_probe(context: TrialContext) -> TrialOutcome:
    """Train, choose and test a linear classifier on the initial network.

    Every data-parallel worker does all of it.
    """
    setup = context.trial.setup
    network = build_initialized_network(
        setup.network, setup.scale, redraw_seed(context.trial.seed, setup.redraws, setup.redraw_name)
    )
    inherited = copy_source_layers(network, context)
    # After the source's layers are copied: paired trials must agree in the network that is read, not in what was drawn.
    weight_hashes = hash_initial_weights(network)
    probe = _fit_and_evaluate(network, context)
    weights_checksum = ""
    if context.dp_rank.is_rank_zero:
        if probe.classifier:
            _save_classifier(probe.classifier, context.folder)
        with writing_weights(network, context.folder) as checksum:
            weights_checksum = checksum.result()
    return TrialOutcome(
        status=training_status(network, probe.metrics, {}),
        metrics=probe.metrics,
        cost=probe.cost,
        evidence={
            **weight_hashes,
            "split": context.data.split_digest,
            **inherited,
            "classifier": _describe_classifier(probe.classifier),
        },
        predictions=probe.predictions,
        weights_checksum=weights_checksum,
        extra_versions={"scikit-learn": metadata.version("scikit-learn")},
    )


def _fit_and_evaluate(network: nn.Module, context: TrialContext) -> _ProbeFit:
    """Fit the classifier, choose its penalty on validation, and test it.

    A tuning candidate reads no test split.
    """
    preload_sklearn()
    setup, data, heartbeat = context.trial.setup, context.data, context.callbacks.heartbeat
    memory, started_at = PeakMemory(context.machine.device), time.perf_counter()
    # The layout in which its sources were trained: convolutions round differently in the other one.
    network = network.to(context.device).to(memory_format=torch.channels_last)
    scorer, view_scheme = Scorer(network, setup.network, setup.recipe).eval(), ViewScheme.from_setup(setup)

    def read_features(split: ReadableSplit) -> FeatureSet:
        return extract_features(scorer, view_scheme, split, heartbeat)

    train, validation = read_features(data.train), read_features(data.validation)
    classifier = None
    # scikit-learn refuses NaN and infinity; a network that overflows is a result, though, and no error.
    if train.is_finite and validation.is_finite:
        classifier = fit_linear_classifier(train, validation, context.machine.num_threads, heartbeat)
    seconds = time.perf_counter() - started_at
    cost = {
        "train_seconds": seconds,
        "images_per_second": len(train.labels) / seconds,
        "peak_memory_bytes": memory.peak_bytes(),
    }
    if classifier is None:
        undefined = _undefined_metrics(with_test=not context.trial.is_candidate)
        return _ProbeFit(classifier=None, metrics=undefined, cost=cost, predictions=None)

    memory, started_at = PeakMemory(context.machine.device), time.perf_counter()
    feature_sets = {"train": train, "validation": validation}
    if not context.trial.is_candidate:
        feature_sets["test"] = read_features(data.test)
    metrics: dict[str, float] = {}
    predictions = None
    for name, features in feature_sets.items():
        tally, classes = classifier.evaluate(features)
        metrics |= tally.final_values(name)
        if name == "test":
            predictions = classes.numpy().astype(np.uint16)
            cost["inference_images_per_second"] = tally.num_examples / (time.perf_counter() - started_at)
            cost["inference_peak_memory_bytes"] = memory.peak_bytes()
            # With five classes or fewer, the top-5 error is 0 whatever the network answers.
            if setup.scale.classes > TOP_K:
                metrics["test_top5_error"] = tally.top5_error
    return _ProbeFit(classifier=classifier, metrics=metrics, cost=cost, predictions=predictions)


def _undefined_metrics(*, with_test: bool) -> dict[str, float]:
    """Not-a-number for every metric: the trial counts as non-finite."""
    metrics = {}
    for split in ("train", "validation", "test") if with_test else ("train", "validation"):
        metrics[f"{split}_error"] = math.nan
        metrics[f"{split}_loss"] = math.nan
    return metrics


def _save_classifier(classifier: LinearClassifier, folder: TrialFolder) -> None:
    with folder.atomic_writer(folder.classifier) as partial, partial.open("wb") as file:
        np.savez(file, weight=classifier.weight, bias=classifier.bias)


def _describe_classifier(classifier: LinearClassifier | None) -> str:
    if classifier is None:
        return "none: activations are not finite"
    steps = f"{classifier.num_iterations} iterations for all strengths"
    convergence = "" if classifier.has_converged else ", not converged"
    return f"C = {classifier.inverse_penalty:g}, {steps}{convergence}"
