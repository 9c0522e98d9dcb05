"""Run a trial that trains a network.

Fit it, from its own checkpoint where there is one, and evaluate every split.
"""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager

import numpy as np
import numpy.typing as npt
import pytorch_lightning as lightning
import torch
from pytorch_lightning.accelerators import CUDAAccelerator

from lightning_modules.data.trial_data import ReadableSplit, TrialDataModule
from lightning_modules.distributed import DataParallelRank
from lightning_modules.modules.classifier import Classifier
from lightning_modules.modules.external import ExternalTrainable
from lightning_modules.modules.metrics import TOP_K, evaluate_network
from lightning_modules.modules.trainable import Trainable, make_trainable
from lightning_modules.rng import seed_everything, seeded_generator
from lightning_modules.user_code.logger import RecordingLogger
from studies.hardware import PeakMemory
from studies.training.callback import TrainingRecorder
from studies.training.checkpoints import CheckpointRejected, allow_number_types, drop_checkpoint, usable_checkpoint
from studies.training.history import TrainingHistory
from studies.training.outcome import TrialContext, TrialOutcome
from studies.training.progress import do_nothing, with_heartbeats
from studies.training.status import training_status
from studies.training.weights import copy_source_layers, writing_weights

EXPECTED_WARNINGS = (
    ".*but have no `validation_step`.*",  # the recorder validates
    ".*`LightningModule.configure_optimizers` returned `None`.*",  # told before the study starts
    ".*in `LightningModule` but have passed in a `LightningDataModule`.*",  # this package's: it has no hooks
    ".*Your `IterableDataset` has `__len__` defined.*",  # the length was compared with what is yielded
)


class SharedCudaAccelerator(CUDAAccelerator):
    """Lightning's accelerator for a GPU on which other threads of the process replay captured steps.

    Lightning frees the workspaces of cuBLAS, of all threads, as a fit starts and as it ends; a captured step goes on
    to write into its own.
    """

    def setup(self, trainer: lightning.Trainer) -> None:
        """Free nothing."""

    def teardown(self) -> None:
        """Free nothing: the process ends with its trials."""


def train_network(context: TrialContext) -> TrialOutcome:
    """Train a setup's network, evaluate it on every split, and save it."""
    trial, data = context.trial, context.data
    setup = trial.setup
    is_on_gpu = context.machine.device == "cuda"
    shares_gpu = is_on_gpu and context.machine.bundle_size > 1
    memory = PeakMemory(context.machine.device, is_shared=shares_gpu)  # before the network: its parameters count
    trainable = make_trainable(setup, trial.seed, context.dp_rank)
    inherited = copy_source_layers(trainable.network, context)
    # A module that trains itself has what Lightning guarantees; a recipe's own metrics need no logger.
    logger = None
    if isinstance(trainable, ExternalTrainable):
        logger = RecordingLogger(context.folder.folder, context.callbacks.log)
    recorder = TrainingRecorder(trainable, data, trial.seed, context.folder, context.callbacks, context.dp_rank, logger)
    # A stream of its own: what dropout draws must not depend on how many numbers initialization drew.
    seed_everything(seeded_generator(trial.seed, "dropout", "start"))
    data.layout = trainable.layout
    if isinstance(trainable, Classifier):
        data.gives_whole_epochs, trainable.on_step = True, context.callbacks.heartbeat
    trainer = _make_trainer(context, (*trainable.callbacks, recorder), logger)
    _fit_from_checkpoint(trainer, trainable, context, recorder)
    if isinstance(trainable, Classifier) and trainable.why_not_captured:
        context.callbacks.log(
            f"the steps could not be captured as a CUDA graph ({trainable.why_not_captured}): they were launched one "
            "by one, which takes a small network several times as long"
        )
    peak_bytes = memory.peak_bytes()
    recorder.report_pending_epochs()  # those of a checkpoint that already held the last epoch

    checksum: Future[str] | None = None
    with ExitStack() as stack:
        if context.dp_rank.is_rank_zero:
            if logger and logger.hyperparameters:
                context.folder.write_hyperparameters(logger.hyperparameters)
            # The device evaluates while the disk writes. A CPU, which has to hash the file as well, waits for it before
            # the split whose time is recorded.
            writing = writing_weights(trainable.network, context.folder, moves_away=is_on_gpu)
            checksum = stack.enter_context(writing)
        trainable.module.to(context.device)  # Lightning moves it back to the CPU when the fit ends
        metrics, predictions, inference_cost = evaluate_splits(
            trainable,
            data,
            context.dp_rank,
            with_test=not trial.is_candidate,
            with_top5=setup.scale.classes > TOP_K,
            heartbeat=context.callbacks.heartbeat,
            before_timed_split=checksum.result if checksum and not is_on_gpu else do_nothing,
            shares_gpu=shares_gpu,
        )
    history = recorder.history
    return TrialOutcome(
        status=training_status(trainable.network, metrics, history.curves),
        metrics=metrics,
        curves={name: tuple(values) for name, values in history.curves.items()},
        times=tuple(history.epoch_times),
        cost=_training_cost(history, peak_bytes) | inference_cost,
        evidence={**history.evidence(), **recorder.weight_hashes, "split": data.split_digest, **inherited},
        predictions=predictions,
        weights_checksum=checksum.result() if checksum else "",
    )


def _make_trainer(
    context: TrialContext, callbacks: Sequence[lightning.Callback], logger: RecordingLogger | None
) -> lightning.Trainer:
    uses_gpu = context.machine.device == "cuda"
    return lightning.Trainer(
        max_epochs=context.trial.setup.recipe.epochs,
        accelerator=SharedCudaAccelerator() if uses_gpu else "cpu",
        devices=[torch.cuda.current_device()] if uses_gpu else 1,
        # Only warn: some CUDA kernels, such as the backward pass of adaptive pooling, have no deterministic version.
        deterministic="warn" if uses_gpu else None,
        callbacks=list(callbacks),
        reload_dataloaders_every_n_epochs=1,  # every epoch has its own order
        use_distributed_sampler=False,  # the data module shards the batches itself
        # The recorder validates, writes checkpoints and reports; a sanity check would read validation data before
        # the first epoch and cost time in every trial.
        num_sanity_val_steps=0,
        logger=logger or False,
        log_every_n_steps=1,  # the value of an epoch's last step is the one that a logger records
        default_root_dir=context.folder.folder,  # where callbacks of a module that trains itself write
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


@contextmanager
def ignore_expected_warnings() -> Iterator[None]:
    """Ignore what Lightning warns of although it is meant.

    Python's filters belong to the process: where several threads train, whoever starts them ignores it for all.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    with warnings.catch_warnings():
        for message in EXPECTED_WARNINGS:
            warnings.filterwarnings("ignore", message=message)
        yield


def _fit_from_checkpoint(
    trainer: lightning.Trainer, trainable: Trainable, context: TrialContext, recorder: TrainingRecorder
) -> None:
    """Fit from the trial's checkpoint, if there is one.

    Raises:
        CheckpointRejected: where anything went wrong while it was restored; it is deleted.
    """
    checkpoint = usable_checkpoint(context.folder, context.callbacks)
    try:
        allow_number_types()
        with ignore_expected_warnings():
            trainer.fit(
                trainable.module,
                datamodule=context.data,
                ckpt_path=checkpoint,
                weights_only=True if checkpoint else None,
            )
    except Exception as error:
        # An error before the first step may be any error: of a forged state, or of a module's own hook.
        if checkpoint is None or recorder.has_started:
            raise
        raise CheckpointRejected(drop_checkpoint(context.folder, context.callbacks, error)) from error


def evaluate_splits(
    trainable: Trainable,
    data: TrialDataModule,
    dp_rank: DataParallelRank | None = None,
    *,
    with_test: bool = True,
    with_top5: bool = False,
    heartbeat: Callable[[], None] = do_nothing,
    before_timed_split: Callable[[], object] = do_nothing,
    shares_gpu: bool = False,
) -> tuple[dict[str, float], npt.NDArray[np.uint16] | None, dict[str, float]]:
    """Final metrics of every split, test predictions, and inference cost.

    Args:
        with_test: whether to read the test split, once; a tuning candidate must not.
        with_top5: whether to add the top-5 error on the test split.
        before_timed_split: called before the last split, whose pass is the one that is timed.
        shares_gpu: whether other trials of this process use the GPU as well; the memory of a pass is then not known.
    """
    device = trainable.module.device
    # The test split is last: by then everything is warm, and its pass is the one whose cost is kept.
    splits: dict[str, ReadableSplit] = {"train": data.train, "validation": data.validation}
    if with_test:
        splits["test"] = data.test
    *_, last_name = splits
    metrics: dict[str, float] = {}
    cost: dict[str, float] = {}
    predicted = torch.empty(0)
    for name, split in splits.items():
        if name == last_name:
            before_timed_split()
        memory, started_at = PeakMemory(device.type, is_shared=shares_gpu), time.perf_counter()
        batches = with_heartbeats(trainable.transfer_batches(split.evaluation_batches()), heartbeat)
        tally, predicted = evaluate_network(trainable.module, batches, device, dp_rank)
        # Reading the sums waits for the device, so the clock stops after them.
        metrics |= tally.final_values(name)
        cost = {"inference_images_per_second": tally.num_examples / (time.perf_counter() - started_at)}
        if not shares_gpu:
            cost["inference_peak_memory_bytes"] = memory.peak_bytes()
        if name == "test" and with_top5:
            metrics["test_top5_error"] = tally.top5_error
    predictions = predicted.cpu().numpy().astype(np.uint16) if with_test else None
    return metrics, predictions, cost


def _training_cost(history: TrainingHistory, peak_memory_bytes: float) -> dict[str, float]:
    seconds = sum(history.curves["seconds"])
    return {
        "train_seconds": seconds,
        "images_per_second": history.num_examples / seconds,
        "peak_memory_bytes": peak_memory_bytes,
    }
