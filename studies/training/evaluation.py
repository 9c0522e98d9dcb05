"""Run a trial that trains nothing.

Test the final weights of other trials, as its setup declares.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from lightning_modules.evaluation.inference import ViewScheme, evaluate_scorers, restore_scorer
from lightning_modules.modules.metrics import TOP_K
from studies.hardware import PeakMemory
from studies.records.results import UNTRAINED_STATUSES, ResultStatus
from studies.storage.trial_folder import TrialFolder
from studies.training.outcome import TrialContext, TrialOutcome
from studies.training.weights import hash_state, load_final_weights


def evaluate_trained_networks(context: TrialContext) -> TrialOutcome:
    """Test the networks of the trial's dependencies on the test split alone.

    Nothing is trained, so whether training succeeded is the evaluated trials' to say: the evaluation is ``non-finite``
    where one of them or a loss is, else ``at chance`` where one of them is.

    Raises:
        FileNotFoundError: where an evaluated trial left no weights.
    """
    setup, device = context.trial.setup, context.device
    evaluated = context.trial.dependencies
    states = []
    for trial, folder in zip(evaluated, context.dependency_folders, strict=True):
        states.append(load_final_weights(trial, folder))
    memory = PeakMemory(device.type)
    scorers = []
    for trial, state in zip(evaluated, states, strict=True):
        scorers.append(restore_scorer(trial.setup, state, device))

    started_at = time.perf_counter()
    tally, predicted = evaluate_scorers(
        scorers, ViewScheme.from_setup(setup), context.data.test, device, context.dp_rank, context.callbacks.heartbeat
    )
    # Reading the sums waits for the device, so the clock stops after them.
    metrics = tally.final_values("test")
    seconds = time.perf_counter() - started_at
    if setup.scale.classes > TOP_K:
        metrics["test_top5_error"] = tally.top5_error

    cost = {
        "inference_images_per_second": tally.num_examples / seconds,
        "inference_peak_memory_bytes": memory.peak_bytes(),
    }
    if context.count_multiply_adds:
        cost["inference_multiply_adds"] = float(context.count_multiply_adds(setup))
    return TrialOutcome(
        status=_evaluation_status(context.dependency_folders, metrics.values()),
        metrics=metrics,
        cost=cost,
        evidence={
            "donors": ",".join(trial.fingerprint for trial in evaluated),
            "tested": ",".join(map(hash_state, states)),
        },
        predictions=predicted.cpu().numpy().astype(np.uint16),
    )


def _evaluation_status(evaluated_folders: Sequence[Path], metrics: Iterable[float]) -> ResultStatus:
    if not all(map(math.isfinite, metrics)):
        return "non-finite"
    statuses = set()
    for folder in evaluated_folders:
        result = TrialFolder(folder).read_result()
        if result is None or result.status == "failed":
            raise FileNotFoundError(f"{folder.name} has no result, so its network cannot be evaluated")
        statuses.add(result.status)
    for status in UNTRAINED_STATUSES:
        if status in statuses:
            return status
    return "finished"
