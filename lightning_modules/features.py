"""A linear classifier on a network's penultimate activations: the network stays as it is."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from lightning_modules.batches import Readable
from lightning_modules.tally import Tally
from lightning_modules.testing import Looking, Scorer

Numbers = npt.NDArray[np.float64]
STRENGTHS = tuple(10.0**power for power in range(-1, 6))  # scikit-learn's C: the larger, the less is the penalty
MOST_ITERATIONS = 200  # for each of them, from where the one before ended


@dataclass(frozen=True)
class Described:
    """A part of the data by its activations.

    Attributes:
        features: float64, examples x features; every row has the length 1.
        labels: int64 class indices.
    """

    features: Numbers
    labels: npt.NDArray[np.int64]

    @property
    def is_finite(self) -> bool:
        """Whether all activations are numbers."""
        return bool(np.isfinite(self.features).all())


@dataclass(frozen=True)
class LinearClassifier:
    """A multinomial logistic regression; it reads rows of length 1, so no layer of the network can stand for it.

    Attributes:
        weight: classes x features; ``bias``: classes.
        strength: scikit-learn's C, as chosen on validation.
        iterations: of all fits together.
        converged: whether the chosen fit came to its end before its last iteration.
    """

    weight: Numbers
    bias: Numbers
    strength: float
    iterations: int
    converged: bool

    def logits(self, features: Numbers) -> Numbers:
        """Class scores, examples x classes."""
        return features @ self.weight.T + self.bias

    def tally(self, part: Described) -> tuple[Tally, torch.Tensor]:
        """Tally and predicted classes ``(examples,)`` of a part."""
        logits, labels = torch.from_numpy(self.logits(part.features)), torch.from_numpy(part.labels)
        tally = Tally(torch.device("cpu"))
        tally.add(functional.cross_entropy(logits, labels), logits, labels)
        tally.add_top5(logits, labels)
        return tally, logits.argmax(1)


def load() -> None:
    """Have scikit-learn at hand: its import takes a second or two, which are no training time."""
    import sklearn.linear_model  # noqa: F401


@torch.no_grad()
def described(scorer: Scorer, looking: Looking, part: Readable, beat: Callable[[], None]) -> Described:
    """The penultimate activations of every example, in order: the mean over positions, mirror images, then sides.

    They are then scaled to the length 1 (Simonyan & Zisserman 2015, Sect. B.1).

    Args:
        scorer: the network, in evaluation mode.
        looking: at which sides, and whether mirrored as well; always at whole images.
        beat: called at every batch: a sign of life.
    """
    by_side, labels = [], torch.empty(0)
    for side in looking.sides:
        found = []
        for images, of_batch in part.rescaled(side):
            beat()
            views = [scorer.features(view) for view in looking.views(images, "dense")]
            found.append((torch.stack(views).mean(0), of_batch))
        by_side.append(torch.cat([features for features, _ in found]))
        labels = torch.cat([of_batch for _, of_batch in found])
    features = functional.normalize(torch.stack(by_side).mean(0).double(), dim=1)
    return Described(features.cpu().numpy(), labels.cpu().numpy())


def linear_classifier(
    train: Described, validation: Described, threads: int, beat: Callable[[], None]
) -> LinearClassifier:
    """Fit one on the training part for every strength, and keep that of the least error on validation.

    Of equal errors, the smaller strength counts. The same threads give the same bits.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    model = LogisticRegression(max_iter=MOST_ITERATIONS, warm_start=True)
    best, least, iterations = None, np.inf, 0
    with threadpool_limits(threads), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # it is told by `converged`
        for strength in STRENGTHS:
            beat()
            model.set_params(C=strength).fit(train.features, train.labels)
            iterations += int(model.n_iter_[0])
            weight, bias = _of_each_class(model.coef_, model.intercept_)
            made = LinearClassifier(weight, bias, strength, iterations, bool(model.n_iter_[0] < MOST_ITERATIONS))
            error = made.tally(validation)[0].error
            if error < least:
                best, least = made, error
    assert best is not None
    return LinearClassifier(best.weight, best.bias, best.strength, iterations, best.converged)


def _of_each_class(weight: Numbers, bias: Numbers) -> tuple[Numbers, Numbers]:
    """Of two classes scikit-learn has the second one's scores alone."""
    if len(weight) > 1:
        return weight.copy(), bias.copy()
    return np.concatenate([np.zeros_like(weight), weight]), np.concatenate([np.zeros_like(bias), bias])
