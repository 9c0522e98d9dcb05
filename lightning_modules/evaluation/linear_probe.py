"""Linear probe: a linear classifier on a frozen network's features."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from lightning_modules.data.trial_data import ReadableSplit
from lightning_modules.evaluation.inference import Scorer, ViewScheme, average_over_sides
from lightning_modules.modules.metrics import RunningMetrics

FloatArray = npt.NDArray[np.float64]

# scikit-learn's C: the larger, the weaker the penalty. Ascending, as each fit starts from the one before.
INVERSE_PENALTIES = tuple(10.0**power for power in range(-1, 6))
MAX_ITERATIONS = 200  # per inverse penalty, each continuing from the solution of the one before


@dataclass(frozen=True)
class FeatureSet:
    """The activations of a split's examples.

    Attributes:
        features: float64, examples x features; every row has the Euclidean norm 1.
        labels: int64 class indices.
    """

    features: FloatArray
    labels: npt.NDArray[np.int64]

    @property
    def is_finite(self) -> bool:
        """Whether no activation is infinite or NaN."""
        return bool(np.isfinite(self.features).all())


@dataclass(frozen=True)
class LinearClassifier:
    """A multinomial logistic regression on features of norm 1.

    Attributes:
        weight: classes x features.
        bias: classes.
        inverse_penalty: scikit-learn's C, as chosen on validation.
        num_iterations: of all fits together.
        has_converged: whether the chosen fit converged before ``MAX_ITERATIONS``.
    """

    weight: FloatArray
    bias: FloatArray
    inverse_penalty: float
    num_iterations: int
    has_converged: bool

    def logits(self, features: FloatArray) -> FloatArray:
        """Return class scores, examples x classes."""
        return features @ self.weight.T + self.bias

    def evaluate(self, feature_set: FeatureSet) -> tuple[RunningMetrics, torch.Tensor]:
        """Return metrics and predicted classes ``(examples,)`` of a split."""
        logits, labels = torch.from_numpy(self.logits(feature_set.features)), torch.from_numpy(feature_set.labels)
        metrics = RunningMetrics(torch.device("cpu"))
        metrics.update(functional.cross_entropy(logits, labels), logits, labels)
        metrics.update_top5(logits, labels)
        classes = logits.argmax(1)
        metrics.count_classes(classes, labels)
        return metrics, classes


def preload_sklearn() -> None:
    """Import scikit-learn ahead of time.

    The second or two that it takes are not to count as training time.
    """
    import sklearn.linear_model  # noqa: F401


@torch.no_grad()
def extract_features(
    scorer: Scorer, view_scheme: ViewScheme, split: ReadableSplit, heartbeat: Callable[[], None]
) -> FeatureSet:
    """Compute every example's penultimate activations, of norm 1.

    They are means over positions, mirrorings, then sides.

    The procedure is that of Simonyan & Zisserman 2015, Sect. B.1.

    Args:
        scorer: the network, in evaluation mode.
        view_scheme: the sides, and whether images are mirrored as well; whole images are used whatever its mode.
        heartbeat: called at every batch, to show that the process is alive.
    """

    def average_over_views(images: torch.Tensor) -> torch.Tensor:
        view_features = [scorer.features(view) for view in view_scheme.views(images, "dense")]
        return torch.stack(view_features).mean(0)

    mean_features, labels = average_over_sides(view_scheme, split, average_over_views, heartbeat)
    features = functional.normalize(mean_features.double(), dim=1)
    return FeatureSet(features.cpu().numpy(), labels.cpu().numpy())


def fit_linear_classifier(
    train: FeatureSet, validation: FeatureSet, num_threads: int, heartbeat: Callable[[], None]
) -> LinearClassifier:
    """Fit one classifier per inverse penalty; return the best one.

    Fitted on the training split, chosen on validation.

    Of equal errors, the smaller inverse penalty wins. Results are bit-for-bit reproducible for equal ``num_threads``.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    model = LogisticRegression(max_iter=MAX_ITERATIONS, warm_start=True)
    best, least_error, num_iterations = None, np.inf, 0
    with threadpool_limits(num_threads), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # `has_converged` records it
        for inverse_penalty in INVERSE_PENALTIES:
            heartbeat()
            model.set_params(C=inverse_penalty).fit(train.features, train.labels)
            num_iterations += int(model.n_iter_[0])
            has_converged = bool(model.n_iter_[0] < MAX_ITERATIONS)
            weight, bias = _per_class_coefficients(model.coef_, model.intercept_)
            classifier = LinearClassifier(weight, bias, inverse_penalty, num_iterations, has_converged)
            error = classifier.evaluate(validation)[0].error
            if error < least_error:
                best, least_error = classifier, error
    assert best is not None
    return replace(best, num_iterations=num_iterations)


def _per_class_coefficients(weight: FloatArray, bias: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Copy scikit-learn's coefficients, one row per class.

    Of two classes it has the second one's row alone.
    """
    if len(weight) > 1:
        return weight.copy(), bias.copy()
    return np.concatenate([np.zeros_like(weight), weight]), np.concatenate([np.zeros_like(bias), bias])
