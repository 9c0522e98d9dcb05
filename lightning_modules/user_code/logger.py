"""The logger of a module that trains itself: the last number of each name and epoch becomes a curve."""

from __future__ import annotations

import math
import re
from argparse import Namespace
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.loggers.logger import Logger

from lightning_modules.specs.values import Leaf

MAX_NAMES = 200  # curves of a trial: names that count steps or files would grow without bound
MAX_NAME_LENGTH = 200
INVALID_CHARACTERS = re.compile(r"[^\w./ -]")  # those that a tracking store refuses in a metric's name
# Methods of TensorBoard's, W&B's, MLflow's and Comet's writers that record something else than a number.
IGNORED_METHODS = re.compile(r"(add|log|set)_\w+|watch|unwatch")
HOUSEKEEPING_METHODS = ("flush", "close", "finish", "end")  # nothing is buffered
WRITTEN_METHODS = "add_scalar, add_scalars, log, log_metric and log_metrics"


class RecordingLogger(Logger):
    """Keep what a module logs until its epoch is recorded.

    Attributes:
        hyperparameters: that were logged; those that are no number, text or truth value as text.

    Args:
        folder: of the trial, in which the module may write files: ``self.logger.save_dir``.
        log: prints a line for each kind of call that is not recorded.
    """

    def __init__(self, folder: Path, log: Callable[[str], None]) -> None:
        super().__init__()
        self.folder, self.log = folder, log
        self.hyperparameters: dict[str, Leaf] = {}
        self.writer = NumberWriter(self)
        self._values: dict[str, float] = {}
        self._names: set[str] = set()
        self._reported: set[str] = set()

    @property
    def name(self) -> str:
        """A name for folders of what callbacks write."""
        return "logged"

    @property
    def version(self) -> str:
        """The name of the trial's folder."""
        return self.folder.name

    @property
    def save_dir(self) -> str:
        """The trial's folder."""
        return str(self.folder)

    @property
    def root_dir(self) -> str:
        """The trial's folder."""
        return str(self.folder)

    @property
    def log_dir(self) -> str:
        """The trial's folder."""
        return str(self.folder)

    @property
    def experiment(self) -> NumberWriter:
        """A writer with the methods of TensorBoard's that record numbers, and those of W&B's and MLflow's."""
        return self.writer

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:  # noqa: ARG002 - Lightning's
        """Keep numbers by name; a number replaces an earlier one of the epoch."""
        for name, value in metrics.items():
            if name != "epoch":  # added by Lightning
                self.keep(name, value)

    def log_hyperparams(self, params: Mapping[str, Any] | Namespace, *_: Any, **__: Any) -> None:
        """Keep hyperparameters."""
        for name, value in dict(vars(params) if isinstance(params, Namespace) else params).items():
            self.hyperparameters[str(name)] = value if isinstance(value, Leaf) else str(value)

    def keep(self, name: str, value: Any) -> None:
        """Keep a number; what is none, or has a name too many, is reported once."""
        if isinstance(value, Mapping):
            for part, item in value.items():
                self.keep(f"{name}/{part}", item)
            return
        try:
            number = float(value.detach()) if isinstance(value, torch.Tensor) else float(value)
        except (TypeError, ValueError, RuntimeError):
            self.report(f"{name!r}, a {type(value).__name__}, is not recorded: only numbers are")
            return
        curve = _curve_name(name)
        if curve not in self._names and len(self._names) >= MAX_NAMES:
            self.report(f"further names are not recorded: a trial has {MAX_NAMES} logged curves at most")
            return
        self._names.add(curve)
        self._values[curve] = number if math.isfinite(number) else math.nan

    def take_values(self) -> dict[str, float]:
        """Return the last number of each curve since the last call."""
        values, self._values = self._values, {}
        return values

    def report(self, message: str) -> None:
        """Print a line about what is not recorded, once."""
        if message not in self._reported and len(self._reported) < MAX_NAMES:
            self._reported.add(message)
            self.log(f"the module's logger: {message}")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or "writer" not in vars(self):
            raise AttributeError(name)
        return getattr(self.writer, name)


class NumberWriter:
    """What ``self.logger.experiment`` is: a writer that records numbers and ignores pictures, graphs and texts."""

    def __init__(self, logger: RecordingLogger) -> None:
        self._logger = logger

    def add_scalar(self, tag: str, scalar_value: Any, *_: Any, **__: Any) -> None:
        """Record a number, as TensorBoard's writer does."""
        self._logger.keep(tag, scalar_value)

    def add_scalars(self, main_tag: str, tag_scalar_dict: Mapping[str, Any], *_: Any, **__: Any) -> None:
        """Record several numbers, as TensorBoard's writer does."""
        self._logger.keep(main_tag, tag_scalar_dict)

    def add_hparams(self, hparam_dict: Mapping[str, Any], metric_dict: Mapping[str, Any], *_: Any, **__: Any) -> None:
        """Record hyperparameters and numbers, as TensorBoard's writer does."""
        self._logger.log_hyperparams(hparam_dict)
        self._logger.log_metrics(metric_dict)

    def log(self, data: Mapping[str, Any], *_: Any, **__: Any) -> None:
        """Record numbers, as W&B's run does."""
        self._logger.log_metrics(data)

    def log_metrics(self, metrics: Mapping[str, Any], *_: Any, **__: Any) -> None:
        """Record numbers, as Comet's experiment does."""
        self._logger.log_metrics(metrics)

    def log_metric(self, *arguments: Any, **named: Any) -> None:
        """Record a number: ``(name, value)``, or ``(run_id, name, value)`` as MLflow's client does."""
        *_, name, value = [*arguments[:3], *(named[key] for key in ("key", "name", "value") if key in named)]
        if not isinstance(name, str):  # (name, value, step)
            name, value = arguments[0], arguments[1]
        self._logger.keep(name, value)

    def __getattr__(self, name: str) -> Any:
        if not (IGNORED_METHODS.fullmatch(name) or name in HOUSEKEEPING_METHODS):
            raise AttributeError(f"a study's logger has no {name!r}; it records numbers, by {WRITTEN_METHODS}.")

        def ignore(*_: Any, **__: Any) -> None:
            if name not in HOUSEKEEPING_METHODS:
                self._logger.report(f"{name} is not recorded: only numbers are")

        return ignore


def _curve_name(name: str) -> str:
    """Make a name valid for a tracking store; paths must not be empty, ``.`` or ``..``."""
    valid = INVALID_CHARACTERS.sub("_", str(name)[:MAX_NAME_LENGTH])
    parts = [part for part in valid.split("/") if part.strip(". ")]
    return "/".join(parts) or "_"
