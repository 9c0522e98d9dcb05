"""The training of one trial: a plain function that needs neither Ray nor MLflow, and gives the same bits each time."""

from __future__ import annotations

import copy
import errno
import hashlib
import io
import json
import math
import pickle
import platform
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytorch_lightning as lightning
import torch
from torch import nn

from lightning_modules.batches import Readable, TrialData
from lightning_modules.build import weight_layers
from lightning_modules.chance import seed_everything
from lightning_modules.data import Examples
from lightning_modules.initialise import copy_layers, initialised
from lightning_modules.learner import Learner, learner
from lightning_modules.pictures import Pictures
from lightning_modules.reading import trial_data
from lightning_modules.sharing import Share
from lightning_modules.spec import Scratch
from lightning_modules.streams import generator
from lightning_modules.tally import TOP
from lightning_modules.tally import evaluate as evaluated
from studies.classifying import classify
from studies.evaluating import evaluate_donors, final_weights
from studies.fits import Fit
from studies.machine import Machine, PeakMemory, device_name
from studies.results import SCHEMA, Result, Status, failed
from studies.spool import Mirror, Spool

CHECKPOINT_SECONDS = 15.0
DIVERGED_ABOVE = 0.9  # of the error of guessing; on training data, unaugmented, in evaluation mode

FAULTS_OF_THE_MACHINE = frozenset(
    (
        *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.ESTALE),  # disk
        *(errno.ENOMEM, errno.EMFILE, errno.ENFILE),
    )
)
OTHER_WORKER_LOST = (
    "gloo/transport",
    "NCCL",
    "onnection closed by peer",
    "onnection reset by peer",
)  # of RuntimeErrors
OUT_OF_MEMORY = ("can't allocate memory", "out of memory")  # of torch's RuntimeErrors, on a CPU and on a GPU

Report = Callable[[Mapping[str, float]], None]
Item = TypeVar("Item")


def _nothing(*_: object) -> None:
    return


def train(
    fit: Fit,
    examples: Examples | Pictures | None,
    folder: Path,
    *,
    digests: Mapping[str, str],
    machine: Machine,
    donors: Sequence[Path] = (),
    report: Report = _nothing,
    note: Callable[[str], None] = _nothing,
    beat: Callable[[], None] = _nothing,
    guard: Callable[[], None] = _nothing,
    mirror: Mirror | None = None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    share: Share | None = None,
) -> Result:
    """Train one fit to its end, from its own checkpoint where it left one, and write the result to its folder.

    A fit whose setup trains nothing tests what its donors have trained; one that trains a linear classifier has no
    epochs, and leaves the network as it started beside the classifier.

    Args:
        examples: what the setup's data are; ``None`` where a foreign module reads its own.
        folder: the trial's own; checkpoint, weights, predictions and result lie there.
        donors: folders of the trials that this one starts from, or tests.
        report: called after every epoch with the epoch's curves and its number; for a trial that goes on from a
            checkpoint, first with those of the epochs already trained.
        note: called with news in words.
        beat: called at every batch that is trained on or evaluated: a sign of life.
        guard: called before any file takes its place; raises where this process should no longer write.
        mirror: where the trial's files are kept as well.
        checkpoint_seconds: least time between two checkpoints, which are written as an epoch begins.
        share: of several workers on this trial, which one this is; all see the folder, and the first one writes.

    Returns:
        The result; an exception in training becomes one of status ``failed``, with its traceback.

    Raises:
        Exception: in a worker that is not alone, once it is recorded: the others wait for it, and must be ended.
        Exception: where it is the machine's fault (its memory or its disk is full, or fails): nothing is written then,
            and the fit, tried again, goes on from its checkpoint.
    """
    spool, share = Spool(folder, guard, mirror), share or Share()
    folder.mkdir(parents=True, exist_ok=True)
    recording = Recording(report=report, note=note, beat=beat, checkpoint_seconds=checkpoint_seconds)
    try:
        result = _train(fit, examples, spool, digests, machine, donors, recording, share)
    except Exception as error:  # a failed run is a result: it is kept, with the reason
        if is_fault_of_the_machine(error):
            raise
        result = failed(fit.fingerprint, digests, traceback.format_exc())
        if not share.alone:
            spool.write(result)
            raise
    if share.leads:
        spool.write(result)
    return result


@dataclass(frozen=True, kw_only=True)
class Recording:
    """Whom a trial tells of its progress, and how often it writes a checkpoint; see :func:`train`."""

    report: Report = _nothing
    note: Callable[[str], None] = _nothing
    beat: Callable[[], None] = _nothing
    checkpoint_seconds: float = CHECKPOINT_SECONDS


def is_fault_of_the_machine(error: BaseException | None) -> bool:
    """Whether an exception, or one behind it, says that memory, disk or another worker of the trial is gone or fails.

    That is nothing of the trial's own.
    """
    if error is None:
        return False
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in FAULTS_OF_THE_MACHINE):
        return True
    if isinstance(error, torch.distributed.DistError):  # of several workers on a trial, another one is gone
        return True
    told = (*OUT_OF_MEMORY, *OTHER_WORKER_LOST)
    if isinstance(error, RuntimeError) and any(words in str(error) for words in told):
        return True
    return is_fault_of_the_machine(error.__cause__)


def _train(
    fit: Fit,
    examples: Examples | Pictures | None,
    spool: Spool,
    digests: Mapping[str, str],
    machine: Machine,
    donors: Sequence[Path],
    recording: Recording,
    share: Share,
) -> Result:
    torch.set_num_threads(machine.threads)
    setup = fit.setup
    device = torch.device(machine.device)
    if machine.device == "cuda" and machine.gpu_share < 1:
        torch.cuda.set_per_process_memory_fraction(machine.gpu_share)
    data = trial_data(setup, examples, fit.seed, device, share)
    if fit.tunes:
        data.withhold_test()
    if not setup.trains:
        tested = evaluate_donors(fit, data, donors, device, share, recording.beat)
        return Result(
            fingerprint=fit.fingerprint,
            digests=digests,
            status=tested.status,
            metrics=tested.metrics,
            curves={},
            times=(),
            cost=tested.cost,
            environment=environment(machine, share.workers),
            evidence=tested.evidence,
            predictions=tested.predictions,
        )
    if setup.recipe.trains == "linear classifier":
        return _classified(fit, data, spool, digests, machine, donors, recording, share)
    memory = PeakMemory(machine.device)
    trained = learner(setup, fit.seed, share)
    inherited = inherit(trained.network, fit, donors)
    recorder = Recorder(trained, data, fit.seed, spool, recording, share)
    seed_everything(generator(fit.seed, "dropout", "start"))
    _fit(_trainer(setup.recipe.epochs, machine, (*trained.watchers, recorder)), trained, data, spool, recording)
    peak = memory.bytes()
    recorder.report_the_rest()
    trained.module.to(device)
    metrics, predictions, inference = evaluate(
        trained, data, share, test=not fit.tunes, top5=setup.scale.classes > TOP, beat=recording.beat
    )
    if share.leads:
        _keep_weights(trained.network, spool)
    return Result(
        fingerprint=fit.fingerprint,
        digests=digests,
        status=judge(trained.network, metrics, recorder.curves, setup.scale.classes),
        metrics=metrics,
        curves={name: tuple(values) for name, values in recorder.curves.items()},
        times=tuple(recorder.times),
        cost=_cost(recorder, peak) | inference,
        environment=environment(machine, share.workers),
        evidence=recorder.evidence() | {"split": data.split_digest} | inherited,
        predictions=predictions,
    )


def _classified(
    fit: Fit,
    data: TrialData,
    spool: Spool,
    digests: Mapping[str, str],
    machine: Machine,
    donors: Sequence[Path],
    recording: Recording,
    share: Share,
) -> Result:
    """Train a linear classifier on a network as it starts; every one of several workers does all of it."""
    network = initialised(fit.setup.network, fit.setup.scale, fit.seed)
    inherited = inherit(network, fit, donors)
    weights = initial_weights(network)
    found = classify(fit, network, data, machine, torch.device(machine.device), recording.beat)
    if share.leads:
        if found.classifier:
            with spool.replacing(spool.classifier) as partial, partial.open("wb") as file:
                np.savez(file, weight=found.classifier.weight, bias=found.classifier.bias)
        _keep_weights(network, spool)
    return Result(
        fingerprint=fit.fingerprint,
        digests=digests,
        status=judge(network, found.metrics, {}, fit.setup.scale.classes),
        metrics=found.metrics,
        curves={},
        times=(),
        cost=found.cost,
        environment=environment(machine, share.workers) | {"scikit-learn": metadata.version("scikit-learn")},
        evidence={**weights, "split": data.split_digest, **inherited, **found.evidence},
        predictions=found.predictions,
    )


def _fit(trainer: lightning.Trainer, trained: Learner, data: TrialData, spool: Spool, recording: Recording) -> None:
    """Train, from the checkpoint where there is one."""
    resumed = usable_checkpoint(spool, recording)
    with warnings.catch_warnings(), torch.serialization.safe_globals(_safe_globals()):
        warnings.filterwarnings("ignore", message=".*but have no `validation_step`.*")  # the recorder validates
        trainer.fit(trained.module, datamodule=data, ckpt_path=resumed, weights_only=True if resumed else None)


def usable_checkpoint(spool: Spool, recording: Recording) -> Path | None:
    """The checkpoint that a fit may go on from; one that cannot be read is dropped, and the fit begins anew.

    Nothing in it is executed: it holds tensors, numbers, text, and containers of those.
    """
    if not spool.checkpoint.exists():
        return None
    try:
        schema = _loaded(spool.checkpoint).get("schema")
        if schema == SCHEMA:
            return spool.checkpoint
        reason = f"it was written under schema {schema}, and this version reads {SCHEMA}"
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
    recording.note(f"the checkpoint {spool.checkpoint} cannot be used ({reason}): the trial begins anew")
    spool.drop(spool.checkpoint)
    return None


def _loaded(checkpoint: Path) -> dict[str, Any]:
    with torch.serialization.safe_globals(_safe_globals()):
        loaded: dict[str, Any] = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)
    return loaded


def _safe_globals() -> list[Any]:
    """What a module may keep in its checkpoint beside tensors: NumPy's numbers and arrays, which execute nothing."""
    scalar = np.float64(0).__reduce__()[0]
    rebuilt = np.zeros(0).__reduce__()[0]
    kinds = {type(np.dtype(name)) for name in ("f4", "f8", "i4", "i8", "u1", "u2", "u4", "u8", "?")}
    return [scalar, rebuilt, np.ndarray, np.dtype, *kinds]


def _keep_weights(network: nn.Module, spool: Spool) -> None:
    with spool.replacing(spool.weights) as partial:
        partial.write_bytes(_saved(network.state_dict()))


def _saved(state: Mapping[str, Any]) -> bytes:
    """What ``torch.save`` writes; into memory first, for on a full disk it tells less than the file itself does."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def inherit(network: nn.Module, fit: Fit, donors: Sequence[Path]) -> dict[str, str]:
    """Copy what the fit takes over from its donor; says which layers, and whose."""
    start = fit.setup.start
    if isinstance(start, Scratch):
        return {}
    (donor,), (folder,) = fit.donors, donors
    copied = copy_layers(network, final_weights(donor, folder), start.layers)
    return {"donor": donor.fingerprint, "copied": ",".join(copied)}


def evaluate(
    trained: Learner,
    data: TrialData,
    share: Share | None = None,
    *,
    test: bool = True,
    top5: bool = False,
    beat: Callable[[], None] = _nothing,
) -> tuple[dict[str, float], np.ndarray | None, dict[str, float]]:
    """Final metrics of every part, the predicted class of every test example, and what inference cost.

    The test part is read once, and last: by then everything is warm, and its pass is the one that is timed. A fit that
    tunes reads it not at all.

    Args:
        top5: tell of the test part, too, how often the right class is not among the five most likely ones.
    """
    metrics: dict[str, float] = {}
    predicted, cost = torch.empty(0), {}
    device = trained.module.device
    parts: dict[str, Readable] = {"train": data.train, "validation": data.validation}
    parts |= {"test": data.test} if test else {}
    for name, part in parts.items():
        memory, began = PeakMemory(device.type), time.perf_counter()
        tally, predicted = evaluated(trained.module, _beating(part.evaluation(), beat), device, share)
        metrics |= {f"{name}_error": tally.error, f"{name}_loss": tally.mean_loss}  # waits for the device
        cost = {
            "inference_images_per_second": tally.examples / (time.perf_counter() - began),
            "inference_peak_memory_bytes": memory.bytes(),
        }
        if name == "test" and top5:
            metrics["test_top5_error"] = tally.top5_error
    return metrics, predicted.cpu().numpy().astype(np.uint16) if test else None, cost


def _beating(batches: Iterable[Item], beat: Callable[[], None]) -> Iterator[Item]:
    """The same batches, with a sign of life at each."""
    for batch in batches:
        beat()
        yield batch


def judge(
    network: nn.Module, metrics: Mapping[str, float], curves: Mapping[str, Sequence[float]], classes: int
) -> Status:
    """``diverged`` where weights or losses are not finite, or where training did not leave chance behind."""
    finite = all(math.isfinite(value) for value in (*metrics.values(), *curves.get("train_loss", ())))
    finite = finite and all(bool(torch.isfinite(weights).all()) for weights in network.parameters())
    chance = 100 * (1 - 1 / classes)
    return "finished" if finite and metrics["train_error"] <= DIVERGED_ABOVE * chance else "diverged"


def initial_weights(network: nn.Module) -> dict[str, str]:
    """A hash of every layer's weights, by place."""
    return {
        f"weights.{place}": hashlib.sha256(layer.weight.detach().contiguous().numpy().tobytes()).hexdigest()[:12]
        for place, layer in weight_layers(network)
    }


def environment(machine: Machine, workers: int = 1) -> dict[str, str | int]:
    """Versions, device and threads of this process, and how many like it trained the trial."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "lightning": metadata.version("pytorch-lightning"),
        "numpy": np.__version__,
        "device": machine.device,
        "device_name": device_name(machine.device),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": machine.threads,
        "workers": workers,
    }


class Recorder(lightning.Callback):
    """Keeps the curves and the evidence of a fit, validates after every epoch, reports, and writes checkpoints."""

    def __init__(
        self,
        trained: Learner,
        data: TrialData,
        seed: int,
        spool: Spool,
        recording: Recording,
        share: Share | None = None,
    ) -> None:
        self.trained, self.data, self.seed = trained, data, seed
        self.spool, self.recording, self.share = spool, recording, share or Share()
        self.curves: dict[str, list[float]] = {}
        self.times: list[float] = []
        self.epochs_seen: list[tuple[str, str, int, int]] = []
        self.weights = initial_weights(trained.network)
        self.saved_at = time.monotonic()
        self.started_at = 0.0
        self.num_reported = 0
        self.is_proved = False
        self.progress: dict[str, Any] = {}

    def evidence(self) -> dict[str, str | int]:
        """What the fit did: hashes of its order, its augmentation and its initial weights, and its steps."""
        orders, augmentations, steps, _ = zip(*self.epochs_seen, strict=True) if self.epochs_seen else ((),) * 4
        return {
            "order": hashlib.sha256("".join(orders).encode()).hexdigest()[:16],
            "augmentation": hashlib.sha256("".join(augmentations).encode()).hexdigest()[:16],
            "steps": sum(steps),
            **self.weights,
        }

    @property
    def num_examples(self) -> int:
        """Trained on, over all epochs."""
        return sum(examples for _, _, _, examples in self.epochs_seen)

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Report the epochs that a checkpoint brought along."""
        self.share.require_same(trainer.current_epoch, "numbers of epochs in the trial's checkpoint")
        self.report_the_rest()

    def report_the_rest(self) -> None:
        """Report every epoch that has not been reported yet."""
        for epoch in range(self.num_reported, len(self.times) if self.share.leads else 0):
            self.recording.report({"epoch": epoch, "time": self.times[epoch], **self._at(epoch)})
        self.num_reported = len(self.times)

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Save what the last epoch left, all its hooks included; draw dropout from (seed, epoch), resumed or not."""
        waited = time.monotonic() - self.saved_at
        if self.share.leads and self.times and waited > self.recording.checkpoint_seconds:
            self.save(trainer)
        seed_everything(generator(self.seed, "dropout", trainer.current_epoch))
        self.started_at = time.perf_counter()

    def on_train_batch_end(self, *_: Any, **__: Any) -> None:
        """Give a sign of life."""
        self.recording.beat()

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Close the epoch's books; stop where the loss is no longer a number."""
        curves = dict(self.trained.curves())  # waits for the device: the clock stops after it
        curves["seconds"] = time.perf_counter() - self.started_at
        examples = _beating(self.data.validation.evaluation(), self.recording.beat)
        validation, _ = evaluated(pl_module, examples, pl_module.device, self.share)
        self._append(curves | {"validation_loss": validation.mean_loss, "validation_error": validation.error})
        self.trained.validated(validation.error)
        batches: Any = trainer.train_dataloader
        seen = (batches.seen_order.hexdigest(), batches.seen_augmentation.hexdigest())
        self.epochs_seen.append((*seen, self.trained.steps, batches.seen_examples))
        self.progress = copy.deepcopy(trainer.fit_loop.state_dict())
        self.report_the_rest()
        trainer.should_stop = trainer.should_stop or not math.isfinite(curves.get("train_loss", 0.0))

    def save(self, trainer: lightning.Trainer) -> None:
        """Write a checkpoint from which the fit goes on to the same bits.

        Where the disk takes none, training goes on: what it would have saved is time, after a fault yet to come.
        """
        try:
            with self.spool.replacing(self.spool.checkpoint) as partial:
                trainer.save_checkpoint(partial)
                self._require_safe(partial)
        except OSError as error:
            self.recording.note(f"no checkpoint could be written to {self.spool.folder} ({error.strerror or error})")
        except pickle.UnpicklingError as error:
            told = str(error).strip().splitlines()[0]
            self.recording.note(f"no checkpoints: a module keeps what cannot be read without executing code ({told})")
            self.recording = replace(self.recording, checkpoint_seconds=math.inf)
        self.saved_at = time.monotonic()

    def _require_safe(self, partial: Path) -> None:
        """Prove, on the first checkpoint of a process, that it will be read."""
        if not self.is_proved:
            _loaded(partial)
            self.is_proved = True

    def on_save_checkpoint(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Let a checkpoint that is written as an epoch begins go on from the end of the one before.

        Only then has a module's own ``on_train_epoch_end`` run, and a schedule that follows a metric made its step.
        """
        checkpoint["loops"]["fit_loop"] = self.progress
        checkpoint["schema"] = SCHEMA
        for names in (pl_module.CHECKPOINT_HYPER_PARAMS_KEY, pl_module.CHECKPOINT_HYPER_PARAMS_TYPE):
            checkpoint.pop(names, None)  # any objects, which a fit that makes its module anew does not read

    def state_dict(self) -> dict[str, Any]:
        """What a resumed fit needs to tell the whole story."""
        return {"curves": json.dumps(self.curves), "times": self.times, "epochs_seen": self.epochs_seen}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The inverse of :meth:`state_dict`."""
        self.curves, self.times = json.loads(state_dict["curves"]), list(state_dict["times"])
        self.epochs_seen = [tuple(seen) for seen in state_dict["epochs_seen"]]

    def _append(self, values: Mapping[str, float]) -> None:
        """Add an epoch to every curve; where one has no value, as a layer that is frozen at first, it is no number."""
        for name in dict.fromkeys((*self.curves, *values)):
            self.curves.setdefault(name, [math.nan] * len(self.times)).append(values.get(name, math.nan))
        self.times.append(time.time())

    def _at(self, epoch: int) -> dict[str, float]:
        return {name: values[epoch] for name, values in self.curves.items()}


def _trainer(epochs: int, machine: Machine, callbacks: Sequence[lightning.Callback]) -> lightning.Trainer:
    return lightning.Trainer(
        max_epochs=epochs,
        accelerator="gpu" if machine.device == "cuda" else "cpu",
        devices=[torch.cuda.current_device()] if machine.device == "cuda" else 1,
        deterministic="warn" if machine.device == "cuda" else None,
        callbacks=list(callbacks),
        reload_dataloaders_every_n_epochs=1,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def _cost(recorder: Recorder, peak_memory: float) -> dict[str, float]:
    seconds = sum(recorder.curves["seconds"])
    return {
        "train_seconds": seconds,
        "images_per_second": recorder.num_examples / seconds,
        "peak_memory_bytes": peak_memory,
    }
