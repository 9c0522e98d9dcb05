"""The training of one trial: a plain function that needs neither Ray nor MLflow, and gives the same bits each time."""

from __future__ import annotations

import hashlib
import json
import math
import platform
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as lightning
import torch

from lightning_modules.batches import ClassificationData, Part
from lightning_modules.build import weight_layers
from lightning_modules.classifier import Classifier, Tally, rate_factor
from lightning_modules.data import Examples
from lightning_modules.spec import Recipe
from lightning_modules.streams import generator
from studies.fits import Fit
from studies.machine import PeakMemory, device_name
from studies.results import Result, Status, failed
from studies.spool import Spool, replacing

CHECKPOINT_SECONDS = 15.0
DIVERGED_ABOVE = 0.9  # of the error of guessing; on training data, unaugmented, in evaluation mode

Report = Callable[[Mapping[str, float]], None]


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What a trial may use: ``cpu`` or ``cuda``, and threads for its arithmetic."""

    device: str = "cpu"
    threads: int = 1


def train(
    fit: Fit,
    examples: Examples,
    folder: Path,
    *,
    digests: Mapping[str, str],
    machine: Machine,
    report: Report = lambda _: None,
) -> Result:
    """Train one fit to its end, from its own checkpoint where it left one, and write the result to its folder.

    Args:
        folder: the trial's own; checkpoint, weights, predictions and result lie there.
        report: called after every epoch with the epoch's curves and its number; for a trial that goes on from a
            checkpoint, first with those of the epochs already trained.

    Returns:
        The result; an exception in training becomes one of status ``failed``, with its traceback.
    """
    spool = Spool(folder)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        result = _train(fit, examples, spool, digests, machine, report)
    except Exception:  # a failed run is a result: it is kept, with the reason
        result = failed(fit.fingerprint, digests, traceback.format_exc())
    spool.write(result)
    return result


def _train(
    fit: Fit, examples: Examples, spool: Spool, digests: Mapping[str, str], machine: Machine, report: Report
) -> Result:
    torch.set_num_threads(machine.threads)
    setup = fit.setup
    device = torch.device(machine.device)
    data = ClassificationData(examples, setup.data, setup.recipe, fit.seed, device)
    memory = PeakMemory(machine.device)
    model = Classifier(setup.network, setup.scale, setup.recipe, fit.seed)
    recorder = Recorder(data, fit.seed, spool.checkpoint, report)
    recorder.weights = initial_weights(model)
    trainer = _trainer(setup.recipe.epochs, machine, recorder)
    resumed = spool.checkpoint if spool.checkpoint.exists() else None
    trainer.fit(model, datamodule=data, ckpt_path=resumed, weights_only=False if resumed else None)
    peak = memory.bytes()
    recorder.report_the_rest()
    model.to(device)
    metrics, predictions = evaluate(model, data)
    with replacing(spool.weights) as partial:
        torch.save(model.network.state_dict(), partial)
    return Result(
        fingerprint=fit.fingerprint,
        digests=digests,
        status=judge(model, metrics, recorder.curves, setup.scale.classes),
        metrics=metrics,
        curves={name: tuple(values) for name, values in recorder.curves.items()},
        times=tuple(recorder.times),
        cost=_cost(recorder, len(data.train), peak),
        environment=environment(machine),
        evidence=recorder.evidence() | {"split": data.split_digest},
        predictions=predictions,
    )


def evaluate(model: Classifier, data: ClassificationData) -> tuple[dict[str, float], np.ndarray]:
    """Final metrics of the three parts, and the predicted class of every test example. The test part is read once."""
    metrics: dict[str, float] = {}
    predicted = torch.empty(0)
    parts: dict[str, Part] = {"train": data.train, "validation": data.validation, "test": data.test}
    for name, part in parts.items():
        tally, predicted = model.evaluate(part.evaluation())
        metrics |= {f"{name}_error": tally.error, f"{name}_loss": tally.mean_loss}
    return metrics, predicted.cpu().numpy().astype(np.uint16)


def judge(
    model: Classifier, metrics: Mapping[str, float], curves: Mapping[str, Sequence[float]], classes: int
) -> Status:
    """``diverged`` where weights or losses are not finite, or where training did not leave chance behind."""
    finite = all(math.isfinite(value) for value in (*metrics.values(), *curves["train_loss"]))
    finite = finite and all(bool(torch.isfinite(weights).all()) for weights in model.parameters())
    chance = 100 * (1 - 1 / classes)
    return "finished" if finite and metrics["train_error"] <= DIVERGED_ABOVE * chance else "diverged"


def initial_weights(model: Classifier) -> dict[str, str]:
    """A hash of every layer's weights, by place."""
    return {
        f"weights.{place}": hashlib.sha256(layer.weight.detach().contiguous().numpy().tobytes()).hexdigest()[:12]
        for place, layer in weight_layers(model.network)
    }


def environment(machine: Machine) -> dict[str, str | int]:
    """Versions, device and threads of this process."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "lightning": metadata.version("pytorch-lightning"),
        "numpy": np.__version__,
        "device": machine.device,
        "device_name": device_name(machine.device),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": machine.threads,
    }


class Recorder(lightning.Callback):
    """Keeps the curves and the evidence of a fit, validates after every epoch, reports, and writes checkpoints."""

    def __init__(self, data: ClassificationData, seed: int, checkpoint: Path, report: Report) -> None:
        self.data, self.seed, self.checkpoint, self.report = data, seed, checkpoint, report
        self.curves: dict[str, list[float]] = {}
        self.times: list[float] = []
        self.epochs_seen: list[tuple[str, str, int]] = []
        self.weights: dict[str, str] = {}
        self.saved_at = time.monotonic()
        self.started_at = 0.0
        self.num_reported = 0

    def evidence(self) -> dict[str, str | int]:
        """What the fit did: hashes of its order, its augmentation and its initial weights, and its steps."""
        orders, augmentations, steps = zip(*self.epochs_seen, strict=True) if self.epochs_seen else ((), (), ())
        return {
            "order": hashlib.sha256("".join(orders).encode()).hexdigest()[:16],
            "augmentation": hashlib.sha256("".join(augmentations).encode()).hexdigest()[:16],
            "steps": sum(steps),
            **self.weights,
        }

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Report the epochs that a checkpoint brought along."""
        self.report_the_rest()

    def report_the_rest(self) -> None:
        """Report every epoch that has not been reported yet."""
        for epoch in range(self.num_reported, len(self.times)):
            self.report({"epoch": epoch, "time": self.times[epoch], **self._at(epoch)})
        self.num_reported = len(self.times)

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Draw dropout from (seed, epoch), so that a resumed fit draws the same."""
        torch.manual_seed(int(generator(self.seed, "dropout", trainer.current_epoch).integers(2**62)))
        self.started_at = time.perf_counter()

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Close the epoch's books; stop where the loss is no longer a number."""
        model, epoch = _classifier(pl_module), self.data.epoch
        training = model.tally
        train_loss = training.mean_loss  # waits for the device: the clock stops after it
        seconds = time.perf_counter() - self.started_at
        validation, _ = model.evaluate(self.data.validation.evaluation())
        self._append(_curves(training, validation, _learning_rate(model.recipe, trainer), seconds))
        if epoch is not None:
            self.epochs_seen.append((epoch.seen_order.hexdigest(), epoch.seen_augmentation.hexdigest(), training.steps))
        self.report_the_rest()
        if not math.isfinite(train_loss):
            trainer.should_stop = True
        elif time.monotonic() - self.saved_at > CHECKPOINT_SECONDS:
            self.save(trainer)

    def save(self, trainer: lightning.Trainer) -> None:
        """Write a checkpoint from which the fit goes on to the same bits."""
        with replacing(self.checkpoint) as partial:
            trainer.save_checkpoint(partial)
        self.saved_at = time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        """What a resumed fit needs to tell the whole story."""
        return {"curves": json.dumps(self.curves), "times": self.times, "epochs_seen": self.epochs_seen}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The inverse of :meth:`state_dict`."""
        self.curves, self.times = json.loads(state_dict["curves"]), list(state_dict["times"])
        self.epochs_seen = [(order, augmentation, steps) for order, augmentation, steps in state_dict["epochs_seen"]]

    def _append(self, values: Mapping[str, float]) -> None:
        self.times.append(time.time())
        for name, value in values.items():
            self.curves.setdefault(name, []).append(value)

    def _at(self, epoch: int) -> dict[str, float]:
        return {name: values[epoch] for name, values in self.curves.items()}


def _curves(training: Tally, validation: Tally, learning_rate: float, seconds: float) -> dict[str, float]:
    return {
        "train_loss": training.mean_loss,
        "train_error": training.error,
        "validation_loss": validation.mean_loss,
        "validation_error": validation.error,
        "gradient_norm": training.mean_gradient,
        "learning_rate": learning_rate,
        "seconds": seconds,
        **{f"gradient_norm/{place}": norm for place, norm in training.mean_layers.items()},
    }


def _learning_rate(recipe: Recipe, trainer: lightning.Trainer) -> float:
    """Of the epoch's last step: the optimiser already holds the next one's."""
    total = int(trainer.estimated_stepping_batches)
    return recipe.learning_rate * rate_factor(recipe, trainer.global_step - 1, total)


def _classifier(module: lightning.LightningModule) -> Classifier:
    if not isinstance(module, Classifier):
        raise TypeError(f"the recorder records a Classifier, not a {type(module).__name__}")
    return module


def _trainer(epochs: int, machine: Machine, recorder: Recorder) -> lightning.Trainer:
    return lightning.Trainer(
        max_epochs=epochs,
        accelerator="gpu" if machine.device == "cuda" else "cpu",
        devices=1,
        deterministic="warn" if machine.device == "cuda" else None,
        callbacks=[recorder],
        reload_dataloaders_every_n_epochs=1,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def _cost(recorder: Recorder, examples: int, peak_memory: float) -> dict[str, float]:
    seconds = sum(recorder.curves["seconds"])
    return {
        "train_seconds": seconds,
        "images_per_second": examples * len(recorder.times) / seconds,
        "peak_memory_bytes": peak_memory,
    }
