"""Verify the one-change contract on instantiated networks: the arms differ only where they declare it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

from ablations import REDRAW_PATHS, InvalidAblation, NotASingleChange, compare_setups
from lightning_modules.distributed import BATCH_NORM_TYPES
from lightning_modules.evaluation.inference import ViewScheme
from lightning_modules.networks.build import build_meta_network
from lightning_modules.networks.custom import is_lightning_module
from lightning_modules.networks.initialization import tensor_names_to_copy
from lightning_modules.profiling.behavior_digest import behavior_digest
from lightning_modules.specs.data import Data, ForeignData
from lightning_modules.specs.errors import InvalidValue, UserError
from lightning_modules.specs.networks import Custom
from lightning_modules.specs.setup import Setup, WarmStart
from lightning_modules.specs.test import Test
from lightning_modules.specs.values import edit_field
from studies.design.instantiation import InstantiatedNetwork, compare_modules, instantiate_network
from studies.design.trial import dependency_name
from studies.design.tuning import Choice, Dimension, TuningBudget

MAX_SHOWN_DIFFERENCES = 8  # in an error's text
BATCH_SETTINGS = (
    "recipe.batch_size",
    "recipe.remainder",
    "recipe.augmentation",
    "recipe.side_from",
    "recipe.side_to",
)

# A module that trains itself still gets its batches, and their number of epochs, from this package.
SELF_TRAINING_SETTINGS = ("recipe.epochs", *BATCH_SETTINGS)

# A user's data module makes its own batches.
IGNORED_BY_EXTERNAL_DATA = BATCH_SETTINGS

# Settings of a network's training, which have no effect on a linear classifier on a network with random weights.
NETWORK_TRAINING_SETTINGS = (
    "recipe.epochs",
    "recipe.batch_size",
    "recipe.microbatch",
    "recipe.remainder",
    "recipe.learning_rate",
    "recipe.momentum",
    "recipe.weight_decay",
    "recipe.warmup",
    "recipe.schedule",
    "recipe.patience",
    "recipe.clip_norm",
)

# Settings that only this package's own LightningModule reads.
CLASSIFIER_SETTING_PREFIXES = ("recipe.", "network.auxiliary_weight")


@dataclass(frozen=True, kw_only=True)
class _InstantiatedArm:
    """An arm with its network, as one side of a comparison."""

    name: str
    setup: Setup
    network: InstantiatedNetwork


def build_verified_networks(
    setups: Mapping[str, Setup], tuning: TuningBudget | None = None
) -> dict[str, InstantiatedNetwork]:
    """Instantiate every arm's network, and verify the arms against each other.

    Args:
        setups: of every arm, the baseline first.
        tuning: how their recipes are tuned, if they are.

    Raises:
        NotASingleChange: where two arms declare one network, and it is built differently.
        InvalidAblation: where two arms differ as declared, but neither in their networks nor otherwise; or in a setting
            that has no effect on either; or where a tuned setting has none on an arm.
        UserError: where a warm start copies layers that the source and the arm's network do not have in common.
    """
    for name, setup in setups.items():
        _verify_warm_start(name, setup)
        _verify_redraw(name, setup)
    arms = [
        _InstantiatedArm(name=name, setup=setup, network=instantiate_network(setup)) for name, setup in setups.items()
    ]
    # Every pair, not only those with the baseline: claims may compare any two arms.
    for first, second in combinations(arms, 2):
        _verify_networks_differ_as_declared(first, second)
        _verify_settings_take_effect(first, second)
    for arm in arms:
        _verify_tuned_settings_take_effect(arm, tuning.space if tuning else ())
    networks = {arm.name: arm.network for arm in arms}
    return {name: _with_training_unknowns(name, networks) for name in networks}


def _verify_warm_start(arm: str, setup: Setup) -> None:
    """Check, along the chain of sources, that the copied layers exist and have equal shapes.

    Done before anything is trained: a trial would fail only after its source network has been trained.
    """
    if not isinstance(setup.start, WarmStart):
        return
    (source,) = replace(setup, test=Test()).dependencies
    state = build_meta_network(setup.network, setup.scale).state_dict()
    source_state = build_meta_network(source.network, source.scale).state_dict()
    try:
        tensor_names_to_copy(state, source_state, setup.start.layers)
    except UserError as error:
        raise UserError(f"arm {arm!r}: {error}") from None
    _verify_warm_start(dependency_name(arm), source)


def _with_training_unknowns(arm: str, networks: Mapping[str, InstantiatedNetwork]) -> InstantiatedNetwork:
    """Add to a self-training network what its own training leaves open in comparisons with the other arms."""
    network = networks[arm]
    if not network.is_self_training:
        return network
    trained_here, built_alike = [], []
    for name, other in networks.items():
        if not other.is_self_training:
            trained_here.append(repr(name))
        if name != arm and not compare_modules(network, other):
            built_alike.append(repr(name))
    sentences = []
    if trained_here:
        sentences.append(
            f"It is trained differently from {', '.join(trained_here)}: a difference between them may be one of "
            "training."
        )
    if built_alike:
        sentences.append(
            f"Its modules are those of {', '.join(built_alike)}: any difference between them is one of training."
        )
    return replace(network, unknowns=(*network.unknowns, *sentences))


def _verify_networks_differ_as_declared(first: _InstantiatedArm, second: _InstantiatedArm) -> None:
    differences = compare_modules(first.network, second.network)
    declares_one_network = (first.setup.network, first.setup.scale) == (second.setup.network, second.setup.scale)
    if declares_one_network and differences:
        lines = "\n  ".join(map(str, differences[:MAX_SHOWN_DIFFERENCES]))
        raise NotASingleChange(
            f"arms {first.name!r} and {second.name!r} declare one network, but two builds of it differ:\n  {lines}\n"
            "The network must depend on the arguments of its class alone."
        )
    if first.network.is_self_training and second.network.is_self_training:
        return  # their declared difference may be one of training, which the modules do not show
    if differences or not _differ_only_in_modules(first.setup, second.setup):
        return
    if not _behave_differently(first.setup, second.setup):
        raise InvalidAblation(
            f"arms {first.name!r} and {second.name!r} are declared differently, but their instantiated networks are "
            "equal, module by module: there is nothing to compare under this protocol."
        )


def _behave_differently(setup: Setup, other_setup: Setup) -> bool:
    """Return whether two custom networks differ in initial weights or outputs, though their modules are equal."""
    if not (isinstance(setup.network, Custom) or isinstance(other_setup.network, Custom)):
        return False
    return behavior_digest(setup.network, setup.scale) != behavior_digest(other_setup.network, other_setup.scale)


def _verify_settings_take_effect(first: _InstantiatedArm, second: _InstantiatedArm) -> None:
    changes = compare_setups(first.setup, second.setup)
    ineffective_paths, paths_read_alike = [], []
    for change in changes:
        if not (_takes_effect(change.path, first) or _takes_effect(change.path, second)):
            ineffective_paths.append(change.path)
        elif _read_alike(change.path, first.setup, second.setup):
            paths_read_alike.append(change.path)
    # Beside another change, one that is read alike does no harm: batches of 64 and 128, each in one microbatch.
    if changes and len(paths_read_alike) == len(changes):
        reasons = dict.fromkeys(_READINGS[_without_index(path)].why_alike for path in paths_read_alike)
        raise InvalidAblation(
            f"arms {first.name!r} and {second.name!r} differ in {', '.join(paths_read_alike)}, which has no effect on "
            f"either: {'; '.join(reasons)}. Vary a setting that their trials read, or leave out one of the arms."
        )
    if ineffective_paths:
        raise InvalidAblation(
            f"arms {first.name!r} and {second.name!r} differ in {', '.join(ineffective_paths)}, which has no effect on "
            "either: they bring their own training or data, or train no network. Change it there, by an argument of "
            "their class."
        )


def _verify_tuned_settings_take_effect(arm: _InstantiatedArm, space: Sequence[Dimension]) -> None:
    """Check that candidates differ in more than their declaration: all of a budget would train one recipe."""
    # The value of one dimension may make another one effective, as a schedule does the patience.
    setups = [arm.setup, *(setup for dimension in space for setup in _candidate_setups(dimension, arm.setup))]
    for dimension in space:
        path = dimension.path
        reason = "" if _takes_effect(path, arm) else "it brings its own training or data"
        # Between its bounds, of which neither splits a batch, a range of microbatches may hold some that do.
        is_decided = isinstance(dimension, Choice) or path != "recipe.microbatch"
        if not reason and is_decided and all(_candidates_read_alike(dimension, setup) for setup in setups):
            reason = _READINGS[_without_index(path)].why_alike
        if reason:
            raise InvalidAblation(
                f"{path} is to be tuned, and has no effect on arm {arm.name!r}: {reason}. Leave it out of the space, "
                "or leave out --tune."
            )


def _candidate_setups(dimension: Dimension, setup: Setup) -> list[Setup]:
    """A setup with each value of a choice, or with the bounds of a range."""
    values: Sequence[Any] = dimension.values if isinstance(dimension, Choice) else dimension.bounds
    return [edit_field(setup, dimension.path, dimension.cast_value(value, setup)) for value in values]


def _candidates_read_alike(dimension: Dimension, setup: Setup) -> bool:
    first, *others = _candidate_setups(dimension, setup)
    return all(_read_alike(dimension.path, first, other) for other in others)


def _takes_effect(path: str, arm: _InstantiatedArm) -> bool:
    """Return whether a setting has any effect on an arm's trials."""
    setup = arm.setup
    if path in REDRAW_PATHS:
        return True  # verified by itself
    if isinstance(setup.data, ForeignData) and path in IGNORED_BY_EXTERNAL_DATA:
        return False
    if setup.recipe.trains == "linear classifier":
        # With a warm start these settings are the source network's as well.
        has_trained_source = isinstance(setup.start, WarmStart)
        return path != "test.mode" and (has_trained_source or path not in NETWORK_TRAINING_SETTINGS)
    if arm.network.is_self_training and path.startswith(CLASSIFIER_SETTING_PREFIXES):
        return path in SELF_TRAINING_SETTINGS
    return True


def _read_alike(path: str, first: Setup, second: Setup) -> bool:
    """Whether the trials of two setups read the same from a setting in which the setups differ."""
    reading = _READINGS.get(_without_index(path))
    if reading is None:
        return False
    return [reading.read(setup) for setup in _chain(first)] == [reading.read(setup) for setup in _chain(second)]


def _without_index(path: str) -> str:
    """``test.sides`` of ``test.sides.0``."""
    return path.rstrip(".0123456789")


def _chain(setup: Setup) -> Iterator[Setup]:
    """A setup, and those that are trained before it: a source network may have another schedule."""
    yield setup
    for dependency in setup.dependencies:
        yield from _chain(dependency)


def _read_patience(setup: Setup) -> object:
    return setup.recipe.patience if setup.recipe.schedule == "plateau" else None


def _read_microbatch(setup: Setup) -> object:
    recipe = setup.recipe
    largest = recipe.batch_size if recipe.remainder != "join" else 2 * recipe.batch_size - 1
    return recipe.microbatch if 0 < recipe.microbatch < largest else None


def _read_sides(setup: Setup) -> object:
    recipe, resolution = setup.recipe, setup.scale.resolution
    return tuple(round(side * resolution) for side in (recipe.side_from, recipe.side_to, recipe.mean_side))


def _read_bad_files(setup: Setup) -> object:
    return setup.data.bad_files if isinstance(setup.data, Data) and setup.data.source == "folder" else None


@dataclass(frozen=True)
class _Reading:
    """How trials read a setting, which may be without effect because of other settings.

    Attributes:
        read: returns what the trials of a setup read from it.
        why_alike: the reason, where setups differ in it and their trials read the same.
    """

    read: Callable[[Setup], object]
    why_alike: str


_SAME_SIDES = _Reading(_read_sides, "in whole pixels the sides of the images are the same")

_READINGS: Mapping[str, _Reading] = {
    "recipe.patience": _Reading(_read_patience, "only the schedule 'plateau' reads it"),
    "recipe.microbatch": _Reading(_read_microbatch, "no batch is larger than a microbatch, so none is split"),
    "recipe.side_from": _SAME_SIDES,
    "recipe.side_to": _SAME_SIDES,
    "test.sides": _Reading(ViewScheme.from_setup, "in whole pixels the views of each image are the same"),
    "test.mirroring": _Reading(ViewScheme.from_setup, "the views of each image are the same"),
    "data.bad_files": _Reading(_read_bad_files, "only the source 'folder' has files"),
}


def _verify_redraw(arm: str, setup: Setup) -> None:
    """Check that a placebo's trials draw from the stream that it redraws."""
    if setup.redraws != "none" and not _redraw_takes_effect(setup):
        raise InvalidAblation(
            f"placebo {arm!r} redraws the {setup.redraws}, and its trials draw no {setup.redraws}; expected a stream "
            "that they draw from. Give Placebo(redraws='weights'), or leave the placebo out."
        )


def _redraw_takes_effect(setup: Setup) -> bool:
    """Return whether the stream that a placebo redraws decides anything of its trials."""
    is_trained_here = setup.has_training and setup.recipe.trains == "network"
    if setup.redraws == "order":
        return is_trained_here
    if setup.redraws == "augmentation":
        has_augmentation = setup.recipe.augmentation != "none" or setup.recipe.side_to > 0
        return is_trained_here and has_augmentation and not isinstance(setup.data, ForeignData)
    return setup.redraws == "weights"


def _differ_only_in_modules(setup: Setup, other_setup: Setup) -> bool:
    """Return whether all differing settings are ones that the modules show: not initialisation, training or data."""
    invisible_paths = ("network.init", "network.auxiliary_weight")
    differing_paths = [change.path for change in compare_setups(setup, other_setup)]
    return all(path.startswith("network.") and path not in invisible_paths for path in differing_paths)


def describe_data_parallel(setups: Mapping[str, Setup], num_workers_of: Callable[[str], int]) -> list[str]:
    """Describe in a sentence per arm how its trials' workers share a batch; arms of one worker are left out.

    Raises:
        InvalidValue: where a module trains itself, or a batch is smaller than the number of workers.
    """
    descriptions = []
    for arm, setup in setups.items():
        num_workers = num_workers_of(arm)
        if num_workers > 1:
            descriptions.append(_describe_arm_workers(arm, setup, num_workers))
    return descriptions


def _describe_arm_workers(arm: str, setup: Setup, num_workers: int) -> str:
    network = build_meta_network(setup.network, setup.scale)
    if is_lightning_module(network):
        raise InvalidValue(
            f"{type(network).__name__} of {arm} trains itself, and its trials are to have {num_workers} workers; "
            "expected 1: only the module knows how its losses and metrics are reduced over workers. Give "
            "--workers-per-trial 1."
        )
    batch_size = setup.recipe.batch_size
    if batch_size < num_workers:
        raise InvalidValue(
            f"{arm} has batches of {batch_size}, and its trials are to have {num_workers} workers; expected at most "
            f"{batch_size}."
        )
    num_norms = sum(isinstance(module, BATCH_NORM_TYPES) for module in network.modules())
    if num_norms:
        norms = f"its {num_norms} batch norms take mean and variance over the whole batch"
    else:
        norms = "it has no batch norm"
    share = f"{batch_size / num_workers:g} of the {batch_size} examples of a batch"
    return f"{arm}: {num_workers} workers per trial, each on {share}; {norms}"
