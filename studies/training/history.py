"""What a fit did, epoch by epoch.

Its curves, and the evidence that arms were trained alike.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, TypedDict


class EpochRecord(NamedTuple):
    """What an epoch read and did.

    Hashes of its order and augmentation, its optimizer steps and its examples.
    """

    order_hash: str
    augmentation_hash: str
    num_steps: int
    num_examples: int


class HistoryState(TypedDict):
    """A history as a checkpoint holds it.

    Numbers and text only, so that reading it executes nothing.
    """

    curves: str
    times: list[float]
    epochs_seen: list[tuple[str, str, int, int]]


@dataclass
class TrainingHistory:
    """The epochs of a fit so far, those before a resumption included.

    Attributes:
        curves: one value per epoch, by name.
        epoch_times: seconds since 1970 at the end of each epoch.
    """

    curves: dict[str, list[float]] = field(default_factory=dict)
    epoch_times: list[float] = field(default_factory=list)
    epoch_records: list[EpochRecord] = field(default_factory=list)

    @property
    def num_epochs(self) -> int:
        """Epochs trained."""
        return len(self.epoch_times)

    @property
    def num_examples(self) -> int:
        """Examples trained on, over all epochs."""
        return sum(record.num_examples for record in self.epoch_records)

    def append_epoch(self, values: Mapping[str, float], record: EpochRecord) -> None:
        """Add an epoch; a curve without a value in it gets not-a-number."""
        # Curves may start late or pause: the gradient norm of a layer that is frozen in the first epochs.
        for name in dict.fromkeys((*self.curves, *values)):
            curve = self.curves.setdefault(name, [math.nan] * self.num_epochs)
            curve.append(values.get(name, math.nan))
        self.epoch_times.append(time.time())
        self.epoch_records.append(record)

    def add_to_last_epoch(self, values: Mapping[str, float]) -> None:
        """Add values that were known only after the epoch was appended."""
        for name, value in values.items():
            self.curves.setdefault(name, [math.nan] * self.num_epochs)[-1] = value

    def values_at(self, epoch: int) -> dict[str, float]:
        """The value of every curve in an epoch."""
        return {name: values[epoch] for name, values in self.curves.items()}

    def evidence(self) -> dict[str, str | int]:
        """Hashes of all epochs' order and augmentation, and the number of steps."""
        orders = "".join(record.order_hash for record in self.epoch_records)
        augmentations = "".join(record.augmentation_hash for record in self.epoch_records)
        return {
            "order": hashlib.sha256(orders.encode()).hexdigest()[:16],
            "augmentation": hashlib.sha256(augmentations.encode()).hexdigest()[:16],
            "steps": sum(record.num_steps for record in self.epoch_records),
        }

    def to_state(self) -> HistoryState:
        """The history for a checkpoint."""
        # Curves as JSON and records as plain tuples: torch.load(weights_only=True) refuses classes that it does not
        # know, a NamedTuple included. JSON keeps floats exactly, not-a-number too.
        return {
            "curves": json.dumps(self.curves),
            "times": self.epoch_times,
            "epochs_seen": [
                (record.order_hash, record.augmentation_hash, record.num_steps, record.num_examples)
                for record in self.epoch_records
            ],
        }

    @classmethod
    def from_state(cls, state: HistoryState) -> TrainingHistory:
        """The history that a checkpoint holds; the inverse of :meth:`to_state`."""
        return cls(
            curves=json.loads(state["curves"]),
            epoch_times=list(state["times"]),
            epoch_records=[EpochRecord(*fields) for fields in state["epochs_seen"]],
        )
