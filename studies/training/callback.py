"""The Lightning callback that validates, records and saves a fit."""

from __future__ import annotations

import copy
import math
import pickle
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytorch_lightning as lightning

from lightning_modules.data.datamodule import WholeEpoch
from lightning_modules.data.trial_data import TrialDataModule
from lightning_modules.distributed import DataParallelRank
from lightning_modules.modules.metrics import evaluate_network
from lightning_modules.modules.trainable import Trainable
from lightning_modules.rng import seed_everything, seeded_generator
from lightning_modules.user_code.logger import RecordingLogger
from studies.records.results import LOGGED_PREFIX, RECORD_SCHEMA
from studies.storage.trial_folder import TrialFolder
from studies.training.checkpoints import TRIAL_KEY, append_checksum, load_checkpoint
from studies.training.history import EpochRecord, HistoryState, TrainingHistory
from studies.training.progress import TrialCallbacks, with_heartbeats
from studies.training.weights import hash_initial_weights

# Of a trial's time. Weights and momentum of VGG-D at full width are 270 MB, and an H200 trains it for 0.6 s an epoch.
MAX_CHECKPOINT_SHARE = 0.02


class TrainingRecorder(lightning.Callback):
    """Lightning callback: validation, history, progress and checkpoints.

    The methods follow an epoch: its start (where the epoch before it is saved), its batches, its end, the checkpoint.

    Attributes:
        history: the epochs so far; restored from a checkpoint.
        weight_hashes: of the initial weights, by layer path.
        awaits_logged_values: whether what the module logged in the last epoch is still to be added to it.
        has_started: whether training has begun, after the checkpoint was restored where there is one.
    """

    def __init__(
        self,
        trainable: Trainable,
        data: TrialDataModule,
        seed: int,
        trial_folder: TrialFolder,
        callbacks: TrialCallbacks,
        dp_rank: DataParallelRank,
        logger: RecordingLogger | None = None,
    ) -> None:
        self.trainable = trainable
        self.data = data
        self.seed = seed
        self.trial_folder = trial_folder
        self.callbacks = callbacks
        self.dp_rank = dp_rank
        self.logger = logger

        self.history = TrainingHistory()
        self.weight_hashes = hash_initial_weights(trainable.network)
        self.num_reported_epochs = 0
        self.epoch_started_at = 0.0

        self.saved_at = time.monotonic()
        self.seconds_per_checkpoint = 0.0
        self.is_checkpoint_verified = False
        self.has_started = False
        self.awaits_logged_values = False
        self.loop_state: dict[str, Any] = {}  # Lightning's fit loop, as the last epoch ended

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Report the epochs that a checkpoint already holds."""
        # Workers that disagree on the epoch would wait for each other's gradients forever.
        self.dp_rank.require_same(trainer.current_epoch, "numbers of epochs in the trial's checkpoint")
        self.report_pending_epochs()
        self.has_started = True

    def report_pending_epochs(self) -> None:
        """Report every epoch that has not been reported yet."""
        if self.dp_rank.is_rank_zero:
            for epoch in range(self.num_reported_epochs, self.history.num_epochs):
                position = {"epoch": epoch, "time": self.history.epoch_times[epoch]}
                self.callbacks.on_epoch(position | self.history.values_at(epoch))
        self.num_reported_epochs = self.history.num_epochs

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Write a checkpoint where one is due, and seed the epoch's draws."""
        self._record_logged_values()
        # Not as that epoch ends: a module's own hook runs after the callbacks', and a schedule that follows a metric
        # makes its step after both; the checkpoint must hold what they did.
        if self.dp_rank.is_rank_zero and self.history.num_epochs and self._is_checkpoint_due():
            self.save_checkpoint(trainer)
        # Dropout draws from (seed, epoch), so a resumed fit draws what an uninterrupted one does.
        seed = seed_everything(seeded_generator(self.seed, "dropout", trainer.current_epoch))
        self.trainable.seed_dropout(seed)
        self.epoch_started_at = time.perf_counter()

    def _is_checkpoint_due(self) -> bool:
        """Whether the interval has passed since the last checkpoint; one that is slow to write comes less often."""
        interval = self.callbacks.checkpoint_seconds
        if interval:
            interval = max(interval, self.seconds_per_checkpoint / MAX_CHECKPOINT_SHARE)
        return time.monotonic() - self.saved_at > interval

    def on_train_batch_end(self, *_: Any, **__: Any) -> None:
        """Send a heartbeat: a whole epoch of the module's own steps sends one for each of them."""
        self.callbacks.heartbeat()

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Validate, append the epoch to the history and report it.

        Stop where the training loss is not finite.
        """
        values = dict(self.trainable.epoch_metrics())  # waits for the device: the clock stops after it
        values["seconds"] = time.perf_counter() - self.epoch_started_at
        batches = self.trainable.transfer_batches(self.data.validation.evaluation_batches())
        batches = with_heartbeats(batches, self.callbacks.heartbeat)
        validation, _ = evaluate_network(pl_module, batches, pl_module.device, self.dp_rank)
        values["validation_loss"] = validation.mean_loss
        values["validation_error"] = validation.error
        self.trainable.observe_validation_error(validation.error)

        loader: Any = trainer.train_dataloader
        if isinstance(loader, WholeEpoch):
            loader = loader.batches
        record = EpochRecord(
            order_hash=loader.order_hash.hexdigest(),
            augmentation_hash=loader.augmentation_hash.hexdigest(),
            num_steps=self.trainable.num_steps,
            num_examples=loader.num_examples_seen,
        )
        self.history.append_epoch(values, record)
        # A copy: the loop goes on to count the next epoch before the checkpoint of this one is written.
        self.loop_state = copy.deepcopy(trainer.fit_loop.state_dict())
        # Lightning hands the means over an epoch to the logger after all hooks of its end.
        self.awaits_logged_values = self.logger is not None
        if not self.awaits_logged_values:
            self.report_pending_epochs()
        if not math.isfinite(values.get("train_loss", 0.0)):  # a module that trains itself may log no loss
            trainer.should_stop = True

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Complete the last epoch by what the module logged in it."""
        self._record_logged_values()

    def _record_logged_values(self) -> None:
        """Add what the module logged in the last epoch to it, and report it."""
        if self.logger is None or not self.history.num_epochs:
            return
        values = self.logger.take_values()
        if self.awaits_logged_values:  # not what was logged before the first epoch of a resumed fit
            self.awaits_logged_values = False
            self.history.add_to_last_epoch({LOGGED_PREFIX + name: value for name, value in values.items()})
            self.report_pending_epochs()

    def save_checkpoint(self, trainer: lightning.Trainer) -> None:
        """Write a checkpoint from which the fit resumes bit-for-bit.

        Where it cannot be written, training continues: a checkpoint only saves time after a later fault.
        """
        started_at = time.monotonic()
        try:
            with self.trial_folder.atomic_writer(self.trial_folder.checkpoint) as partial:
                trainer.save_checkpoint(partial)
                append_checksum(partial)
                self._verify_loadable(partial)
        except OSError as error:
            reason = error.strerror or error
            self.callbacks.log(f"no checkpoint could be written to {self.trial_folder.folder} ({reason})")
        except pickle.UnpicklingError as error:
            reason = str(error).strip().splitlines()[0]
            self.callbacks.log(
                f"no checkpoints: the state of a module cannot be loaded without executing code ({reason})"
            )
            # Every later checkpoint would fail in the same way.
            self.callbacks = replace(self.callbacks, checkpoint_seconds=math.inf)
        self.saved_at = time.monotonic()
        self.seconds_per_checkpoint = self.saved_at - started_at

    def _verify_loadable(self, checkpoint: Path) -> None:
        """Load the first checkpoint of a process.

        What the later ones hold is of the same types.

        Raises:
            pickle.UnpicklingError: where loading would execute code.
        """
        if not self.is_checkpoint_verified:
            load_checkpoint(checkpoint)
            self.is_checkpoint_verified = True

    def on_save_checkpoint(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Make the checkpoint resume after the last epoch and safe to load."""
        # It is written as an epoch starts, when the loop already counts that epoch as begun.
        checkpoint["loops"]["fit_loop"] = self.loop_state
        checkpoint["schema"] = RECORD_SCHEMA
        checkpoint[TRIAL_KEY] = self.trial_folder.folder.name
        # Hyperparameters may be any objects, which loading refuses; a resumed fit builds its module from the setup.
        checkpoint.pop(pl_module.CHECKPOINT_HYPER_PARAMS_KEY, None)
        checkpoint.pop(pl_module.CHECKPOINT_HYPER_PARAMS_TYPE, None)

    def state_dict(self) -> dict[str, Any]:
        """The history, for Lightning's checkpoint."""
        return dict(self.history.to_state())

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the history from Lightning's checkpoint."""
        self.history = TrainingHistory.from_state(cast(HistoryState, state_dict))
