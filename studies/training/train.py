"""Run one trial on any machine: no Ray, no MLflow, no Optuna."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

import torch

from lightning_modules.data.image_index import ImageFileDataset
from lightning_modules.data.inventory import make_data_module
from lightning_modules.data.trial_data import TrialDataModule
from lightning_modules.data.types import InMemoryDataset
from lightning_modules.distributed import DataParallelRank
from lightning_modules.specs.errors import UserError
from studies.design.trial import Trial
from studies.hardware import Machine
from studies.records.results import Result, failed_result
from studies.settings import CHECKPOINT_INTERVAL_SECONDS
from studies.storage.atomic import RemoteCopy
from studies.storage.trial_folder import TrialFolder
from studies.training.checkpoints import CheckpointRejected
from studies.training.evaluation import evaluate_trained_networks
from studies.training.faults import is_machine_fault
from studies.training.linear_probe import run_linear_probe
from studies.training.network_training import train_network
from studies.training.outcome import MultiplyAddCounter, TrialContext, TrialOutcome, result_from_outcome
from studies.training.progress import EpochCallback, TrialCallbacks, do_nothing


def train_trial(
    trial: Trial,
    examples: InMemoryDataset | ImageFileDataset | None,
    folder: Path,
    *,
    digests: Mapping[str, str],
    machine: Machine,
    dependency_folders: Sequence[Path] = (),
    on_epoch: EpochCallback = do_nothing,
    log: Callable[[str], None] = do_nothing,
    heartbeat: Callable[[], None] = do_nothing,
    guard: Callable[[], None] = do_nothing,
    remote_copy: RemoteCopy | None = None,
    checkpoint_seconds: float = CHECKPOINT_INTERVAL_SECONDS,
    dp_rank: DataParallelRank | None = None,
    count_multiply_adds: MultiplyAddCounter | None = None,
) -> Result:
    """Run a trial, from its checkpoint if there is one, and write its result.

    A trial whose setup trains nothing tests the networks of its dependencies. One that trains a linear classifier has
    no epochs, and saves the network as it started beside the classifier.

    Args:
        examples: the setup's data; ``None`` where a user's data module reads its own.
        folder: the trial's own: checkpoint, weights, predictions and result.
        digests: of data, code and platform, recorded with the result.
        dependency_folders: of the trials that this one starts from or evaluates, in their order.
        on_epoch: called after every epoch with its number and curves; on a resumption, first with the epochs before it.
        log: called with log lines.
        heartbeat: called at every batch that is trained on or evaluated.
        guard: called before any file is renamed into place; raises where this process may no longer write.
        remote_copy: where the trial's files are uploaded.
        checkpoint_seconds: least time between two checkpoints, which are written as an epoch starts.
        dp_rank: of this process among the trial's data-parallel workers; all see the folder, and rank zero writes.
        count_multiply_adds: of the whole test that a setup declares, recorded as the cost of an evaluation. Handed in,
            and not imported, because it decides no bits: the code digest must not cover the profiler.

    Returns:
        The result. An exception in training becomes one of status ``failed``, with its traceback.

    Raises:
        Exception: in one of several workers, after it is recorded: the others wait for this one and must be stopped.
        Exception: where it is a fault of the machine (:mod:`studies.training.faults`): no result is written, and the
            trial, tried again, resumes from its checkpoint.
    """
    dp_rank = dp_rank or DataParallelRank()
    trial_folder = TrialFolder(folder, guard, remote_copy)
    folder.mkdir(parents=True, exist_ok=True)
    callbacks = TrialCallbacks(on_epoch=on_epoch, log=log, heartbeat=heartbeat, checkpoint_seconds=checkpoint_seconds)
    try:
        _configure_torch(machine)
        with _own_stream(machine):
            context = TrialContext(
                trial=trial,
                data=_open_data(trial, examples, machine, dp_rank),
                folder=trial_folder,
                dependency_folders=dependency_folders,
                machine=machine,
                callbacks=callbacks,
                dp_rank=dp_rank,
                count_multiply_adds=count_multiply_adds,
            )
            try:
                outcome = _run_trial(context)
            except CheckpointRejected:
                if not dp_rank.is_single_worker:  # the others may have restored it: all must start over
                    raise
                context = replace(context, data=_open_data(trial, examples, machine, dp_rank))
                outcome = _run_trial(context)
        result, weights_checksum = result_from_outcome(context, outcome, digests), outcome.weights_checksum
        _release_data(context)
    except Exception as error:  # a failed trial is a result too, with its traceback
        if is_machine_fault(error):
            raise
        result, weights_checksum = failed_result(trial.fingerprint, digests, traceback.format_exc()), ""
        if not dp_rank.is_single_worker:
            trial_folder.write_result(result)  # by whichever rank failed: rank zero may be waiting for it
            raise
    if dp_rank.is_rank_zero:
        trial_folder.write_result(result, weights_checksum)
    return result


def _configure_torch(machine: Machine) -> None:
    # The number of threads decides how sums are split, and so their rounding.
    torch.set_num_threads(machine.num_threads)
    if machine.device != "cuda":
        return
    # Deterministic algorithms do not need it, and it is 200 launches in each step of VGG-D.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    if machine.gpu_memory_fraction < 1:
        # Several trials share the GPU: each runs out of memory by itself, instead of taking it from another.
        torch.cuda.set_per_process_memory_fraction(machine.gpu_memory_fraction)


def _own_stream(machine: Machine) -> AbstractContextManager[object]:
    """The CUDA stream of a trial: those of one process then run at once, and a step can be captured."""
    if machine.device != "cuda":
        return nullcontext()
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    return torch.cuda.stream(stream)


def _open_data(
    trial: Trial, examples: InMemoryDataset | ImageFileDataset | None, machine: Machine, dp_rank: DataParallelRank
) -> TrialDataModule:
    data = make_data_module(trial.setup, examples, trial.seed, torch.device(machine.device), dp_rank)
    if trial.is_candidate:
        data.withhold_test()  # a recipe that was chosen on test data would be judged by what chose it
    return data


def _release_data(context: TrialContext) -> None:
    """Let a user's data module release what it holds; the result stands whatever comes of it."""
    try:
        context.data.release()
    except UserError as error:
        context.callbacks.log(str(error))


def _run_trial(context: TrialContext) -> TrialOutcome:
    setup = context.trial.setup
    if not setup.has_training:
        return evaluate_trained_networks(context)
    if setup.recipe.trains == "linear classifier":
        return run_linear_probe(context)
    return train_network(context)
