"""Public replications of the papers' networks on CIFAR-10: mean, spread, runs, recipe, and what differs.

Test error in percent at full width. Published tables of CIFAR-10 have one run per network, or none that is printed;
these figures stand beside them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ablations._conditional import ByResolution
from lightning_modules.specs.notebook_html import describe_object

CIFAR10 = "cifar10"
HE_NETWORKS = ("plain-20", "plain-32", "plain-44", "plain-56", "ResNet-20", "ResNet-32", "ResNet-44", "ResNet-56")


@dataclass(frozen=True, kw_only=True)
class ReplicatedError:
    """A replication's test error of one network.

    Attributes:
        mean: percent, over the runs.
        deviation: standard deviation over runs, points; ``None`` for a single run.
        num_runs: runs that the mean is of.
    """

    mean: float
    num_runs: int = 1
    deviation: float | None = None


@dataclass(frozen=True, kw_only=True)
class Replication:
    """Figures of a public replication, with which the measured differences are compared.

    Attributes:
        source: the repository that prints them.
        recipe: how the networks were trained.
        differs: in what recipe and data differ from the paper's; empty where nothing is known to differ.
        values: by arm.
        data: source of the data, by its name in a setup.
    """

    source: str
    recipe: str
    differs: str
    values: Mapping[str, ReplicatedError]
    data: str = CIFAR10

    def __repr__(self) -> str:
        return describe_object(self, f"{self.source}: {len(self.values)} arms, {self.recipe}")


def _he_replications(arms: Mapping[str, str]) -> tuple[Replication, ...]:
    """Replications of plain and residual networks.

    Args:
        arms: by the name of the network: ``{"plain-20": "plain 20"}``.
    """
    return _replications(
        arms,
        Replication(
            source="nabla0001/resnet",
            recipe="He et al.'s, 64,000 steps",
            differs="the error is assumed to be that of the last epoch",
            values={
                "plain-20": ReplicatedError(mean=9.78, deviation=0.13, num_runs=5),
                "plain-56": ReplicatedError(mean=12.95, deviation=0.22, num_runs=5),
                "ResNet-20": ReplicatedError(mean=8.51, deviation=0.22, num_runs=5),
                "ResNet-56": ReplicatedError(mean=7.40, deviation=0.27, num_runs=5),
                "ResNet-110": ReplicatedError(mean=7.14, deviation=0.20, num_runs=5),
            },
        ),
        Replication(
            source="techxzen/pytorch-residual-networks",
            recipe="He et al.'s",
            differs="batches of 100, edges padded with their own pixels",
            values=_single_runs(HE_NETWORKS, (10.08, 11.15, 14.12, 15.39, 8.74, 8.30, 7.16, 7.41)),
        ),
    )


def _vgg_replications(arms: Mapping[str, str]) -> tuple[Replication, ...]:
    """Replications of VGG networks.

    Args:
        arms: by the name of the network: ``{"VGG-19": "E", "VGG-19-BN": "batch norm"}``.
    """
    plain = _single_runs(("VGG-11", "VGG-13", "VGG-16", "VGG-19"), (9.29, 7.68, 7.77, 7.35))
    with_batch_norm = _single_runs(("VGG-11-BN", "VGG-13-BN", "VGG-16-BN", "VGG-19-BN"), (7.82, 6.30, 6.50, 6.11))
    return _replications(
        arms,
        Replication(
            source="CIFAR Baselines (name of the repository inferred)",
            recipe="rate 0.05 with warm-up and cosine, decay 5e-4, batches of 128, 200 epochs of 45,000 images",
            differs="heads of 512-512; the error is that of the best validation epoch",
            values=plain | with_batch_norm,
        ),
        Replication(
            source="timgaripov/swa",
            recipe="its VGG-16 with dropout and without batch norm, 50,000 images",
            differs="no validation part",
            values={"VGG-16": ReplicatedError(mean=6.75, deviation=0.16, num_runs=3)},
        ),
    )


def _single_runs(networks: tuple[str, ...], errors: tuple[float, ...]) -> dict[str, ReplicatedError]:
    return {network: ReplicatedError(mean=error) for network, error in zip(networks, errors, strict=True)}


def _replications(arms: Mapping[str, str], *replications: Replication) -> tuple[Replication, ...]:
    """The replications that have some of the networks, by the names of an ablation's arms."""
    found = []
    for item in replications:
        values = {arm: item.values[network] for network, arm in arms.items() if network in item.values}
        if values:
            found.append(
                Replication(source=item.source, recipe=item.recipe, differs=item.differs, values=values, data=item.data)
            )
    return tuple(found)


# By ablation. All are of images of 32 pixels; larger ones have other networks.
DEPTH_REPLICATIONS = ByResolution[tuple[Replication, ...]](
    small=_vgg_replications({"VGG-11": "A", "VGG-13": "B", "VGG-16": "D", "VGG-19": "E"}), large=()
)
NORMALIZATION_REPLICATIONS = ByResolution[tuple[Replication, ...]](
    small=_vgg_replications({"VGG-19": "no norm", "VGG-19-BN": "batch norm"}), large=()
)
RESIDUAL_REPLICATIONS = ByResolution[tuple[Replication, ...]](
    small=_he_replications(
        {
            "plain-20": "plain shallow",
            "plain-56": "plain deep",
            "ResNet-20": "residual shallow",
            "ResNet-56": "residual deep",
        }
    ),
    large=(),
)
DEGRADATION_REPLICATIONS = _he_replications(
    {"plain-20": "plain 20", "plain-32": "plain 32", "plain-44": "plain 44", "plain-56": "plain 56"}
)
FAMILY_REPLICATIONS = ByResolution[tuple[Replication, ...]](
    small=(
        *_he_replications({"ResNet-20": "ResNet-20/18", "ResNet-32": "ResNet-32/34", "ResNet-56": "ResNet-56/50"}),
        *_vgg_replications({"VGG-16-BN": "VGG-16", "VGG-19-BN": "VGG-19"}),
    ),
    large=(),
)
