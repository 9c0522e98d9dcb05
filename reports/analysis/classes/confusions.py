"""Confusions between classes, arm by arm, as means over the finished networks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from studies.records.study_record import StudyRecord

MAX_CLASSES = 1000  # beyond which a matrix per arm would cost more memory than it tells

Shares = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class ArmConfusions:
    """Answers of an arm's networks to the test examples of each class.

    Attributes:
        shares: true class x answer, in percent of the true class's examples; mean over the networks, NaN for a class
            without examples.
        num_networks: finished networks whose predictions are stored.
    """

    arm: str
    shares: Shares
    num_networks: int

    @property
    def class_errors(self) -> Shares:
        """Error on each class, percent."""
        errors: Shares = 100 - np.diagonal(self.shares)
        return errors


@dataclass(frozen=True, kw_only=True, eq=False)
class Confusions:
    """Confusions of all arms that have any, the baseline among them, and the names of the classes."""

    class_names: tuple[str, ...]
    arms: tuple[ArmConfusions, ...]


def summarize_confusions(record: StudyRecord) -> Confusions | None:
    """Summarize the stored predictions; ``None`` without them, or with more than a thousand classes."""
    labels = record.labels
    if labels is None or not len(labels):
        return None
    predictions: dict[str, list[npt.NDArray[np.uint16]]] = {arm: [] for arm in record.registration.arms}
    for trial in record.trials:
        found = trial.result.predictions if trial.result and trial.state == "finished" else None
        is_planned = trial.arm in predictions and trial.seed in record.registration.seeds
        if is_planned and found is not None and found.shape == labels.shape:
            predictions[trial.arm].append(found)
    known = [classes for of_arm in predictions.values() for classes in of_arm]
    if not known or not predictions[record.registration.baseline]:
        return None
    num_classes = 1 + max(int(labels.max()), *(int(classes.max()) for classes in known))
    names = tuple(record.registration.class_counts)
    if len(names) < num_classes:
        names = tuple(map(str, range(num_classes)))
    if len(names) > MAX_CLASSES:
        return None
    arms = []
    for arm, of_arm in predictions.items():
        if of_arm:
            arms.append(
                ArmConfusions(arm=arm, shares=_mean_shares(labels, of_arm, len(names)), num_networks=len(of_arm))
            )
    return Confusions(class_names=names, arms=tuple(arms))


def _mean_shares(labels: npt.NDArray[np.uint16], predictions: list[npt.NDArray[np.uint16]], num_classes: int) -> Shares:
    counts = np.zeros((num_classes, num_classes))
    for classes in predictions:
        cells = labels.astype(np.int64) * num_classes + classes
        counts += np.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes)
    totals = counts.sum(axis=1, keepdims=True)
    shares: Shares = np.divide(100 * counts, totals, out=np.full_like(counts, np.nan), where=totals > 0)
    return shares
