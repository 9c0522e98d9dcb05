"""The arms as built: measured on their networks, compared part by part, and proved to differ only where they say so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ablations import Difference, InvalidAblation, NotASingleChange
from lightning_modules.anatomy import anatomy
from lightning_modules.behaviour import behaviour
from lightning_modules.build import build, hollow
from lightning_modules.chance import Chance
from lightning_modules.custom import trains_itself
from lightning_modules.initialise import names_to_copy
from lightning_modules.profile import Profile, profile_module
from lightning_modules.spec import Custom, ForeignData, Setup, Test, WarmStart
from lightning_modules.tally import outputs
from lightning_modules.testing import multiply_adds
from lightning_modules.tracing import trace
from lightning_modules.values import Misuse, flatten
from studies.fits import donor_name

if TYPE_CHECKING:
    from torch import nn

SHOWN = 8  # differences in an error's text
SIDE_BY_SIDE = {"weight_layers": max, "receptive_field": max}  # what networks come to together; all else adds up
IN_TRAINING = 2  # images: one alone has no variance for a batch norm
OF_BATCHES = ("recipe.batch_size", "recipe.augmentation", "recipe.side_from", "recipe.side_to")
READ_BY_SELF_TRAINING = ("recipe.epochs", *OF_BATCHES)
OF_FOREIGN_DATA = OF_BATCHES
# Settings of a network's training, which do not reach a linear classifier on one that starts from scratch.
OF_TRAINING = tuple(
    f"recipe.{name}"
    for name in (
        "epochs", "batch_size", "microbatch", "learning_rate", "momentum", "weight_decay", "warmup", "schedule",
        "patience", "clip_norm",
    )
)  # fmt: skip
OF_THE_CLASSIFIER = ("recipe.", "network.auxiliary_weight")


@dataclass(frozen=True, kw_only=True)
class Built:
    """A network as built.

    Attributes:
        properties: measured by running it, by name; what cannot be known is left out.
        parts: everything in it that computes or learns, by place, in words.
        trains_itself: whether it brings its own training.
        unknowns: sentences on what cannot be known of it.
    """

    properties: Mapping[str, int]
    parts: Mapping[str, str]
    trains_itself: bool
    unknowns: tuple[str, ...]


def built(setup: Setup) -> Built:
    """A setup's network, built without weights and looked at; with those that are tested together with it.

    Raises:
        Misuse: where it cannot be made, or does not take the protocol's images.
    """
    module, found = _measured(setup)
    alone = isinstance(setup.network, Custom) and trains_itself(module)
    return Built(
        properties=found.properties() if setup.trains else _as_tested(setup, found.properties()),
        parts=anatomy(module, found),
        trains_itself=alone,
        unknowns=tuple(_unknowns(setup, trains_itself=alone)),
    )


def _as_tested(setup: Setup, own: Mapping[str, int]) -> dict[str, int]:
    """Properties of all that a test runs: the networks side by side as one; multiply-adds those of the whole test.

    Raises:
        Misuse: where a network cannot be tested so, or is named twice.
    """
    networks = (setup.network, *setup.test.members)
    if len(set(networks)) < len(networks):
        raise Misuse("a network is named twice in a test: its posteriors would be averaged with themselves.")
    members = [built(replace(donor, test=Test())).properties for donor in setup.donors[1:]]
    found = {
        name: SIDE_BY_SIDE.get(name, sum)([each[name] for each in (own, *members)])
        for name in own
        if all(name in each for each in members)
    }
    return found | {"multiply_adds": multiply_adds(setup)}


def _measured(setup: Setup) -> tuple[nn.Module, Profile]:
    """The module, without weights unless it asks for a tensor's content, and its profile."""
    module = hollow(setup.network, setup.scale)
    try:
        return module, _profiled(module, setup)
    except Misuse as error:
        if "meta" not in str(error).lower():
            raise
    module = build(setup.network, setup.scale)
    return module, _profiled(module, setup)


def _profiled(module: nn.Module, setup: Setup) -> Profile:
    scale = setup.scale
    image = (scale.channels, scale.resolution, scale.resolution)
    if isinstance(setup.network, Custom):
        _require_logits(module, image, scale.classes)
        if not trains_itself(module):
            _require_losses(module, image, scale.classes, setup.network.auxiliary_weight)
    return profile_module(module, image)


def _require_logits(module: nn.Module, image: tuple[int, int, int], classes: int) -> None:
    shape = tuple(_given(module, trace(module, image).output)[0].shape)
    if shape != (1, classes):
        raise Misuse(
            f"{type(module).__name__} gives the shape {shape} for one image; expected logits of the shape "
            f"{(1, classes)} from its `forward`: every network is tested through it, also one that trains itself."
        )


def _require_losses(module: nn.Module, image: tuple[int, int, int], classes: int, auxiliary_weight: float) -> None:
    """Prove that what a network gives in training can be trained on: its logits, and those that a weight counts."""
    shapes = [tuple(each.shape) for each in _given(module, _in_training(module, image))]
    if auxiliary_weight > 0 and len(shapes) == 1:
        raise Misuse(
            f"{type(module).__name__} has no auxiliary outputs: in training it gives its logits alone, and "
            f"auxiliary_weight is {auxiliary_weight:g}. Leave that at 0, or let its `forward` give more in training."
        )
    for place, shape in enumerate(shapes if auxiliary_weight > 0 else shapes[:1]):
        if shape != (IN_TRAINING, classes):
            which = f"output {place + 1}" if len(shapes) > 1 else "its output"
            raise Misuse(
                f"{type(module).__name__}, in training on {IN_TRAINING} images: {which} has the shape {shape}; "
                f"expected logits of the shape {(IN_TRAINING, classes)}."
                + (" With an auxiliary_weight of 0, further outputs are ignored." if place else "")
            )


def _in_training(module: nn.Module, image: tuple[int, int, int]) -> Any:
    """What a module gives for some images in the mode in which it was made: that of training."""
    held = [tensor for tensor in (*module.parameters(), *module.buffers()) if tensor.is_floating_point()]
    like = held[0] if held else torch.empty(0, device="meta")
    try:
        with Chance(np.random.default_rng(0)), torch.no_grad(), like.device:
            return module(like.new_zeros(IN_TRAINING, *image))
    except Exception as error:  # whatever it is, it is the user's code: the text names it, the cause shows where
        told = (str(error).strip().splitlines() or [type(error).__name__])[0]
        shape = " x ".join(map(str, image))
        raise Misuse(f"{type(module).__name__} fails in training on {IN_TRAINING} images of {shape}: {told}") from error


def _given(module: nn.Module, output: Any) -> list[torch.Tensor]:
    try:
        return outputs(output)
    except Misuse as error:
        raise Misuse(f"{type(module).__name__}: {error}") from None


def build_all(setups: Mapping[str, Setup]) -> dict[str, Built]:
    """Every arm's network as built, proved against what the arms declare.

    Raises:
        NotASingleChange: where two networks are one as declared, and not as built.
        InvalidAblation: where two arms differ as declared, but their networks are built alike and nothing else differs;
            or where they differ in a setting that reaches neither.
        Misuse: where a warm start copies what the donor and the arm's network do not both have alike.
    """
    for arm, setup in setups.items():
        _prove_start(arm, setup)
    found = {arm: built(setup) for arm, setup in setups.items()}
    for first, second in combinations(setups, 2):
        pair = (first, setups[first], found[first]), (second, setups[second], found[second])
        _prove_pair(*pair)
        _prove_that_settings_matter(*pair)
    return {arm: _set_apart(arm, found) for arm in found}


def _prove_start(arm: str, setup: Setup) -> None:
    """Prove, before any donor is trained, that what a warm start copies is there and fits; along all of its chain."""
    if not isinstance(setup.start, WarmStart):
        return
    (before,) = replace(setup, test=Test()).donors
    own, donor = (hollow(each.network, each.scale).state_dict() for each in (setup, before))
    try:
        names_to_copy(own, donor, setup.start.layers)
    except Misuse as error:
        raise Misuse(f"arm {arm!r}: {error}") from None
    _prove_start(donor_name(arm), before)


def _set_apart(arm: str, found: Mapping[str, Built]) -> Built:
    """An arm's network; where it trains itself, with what that leaves open of its comparison with the others."""
    network = found[arm]
    if not network.trains_itself:
        return network
    others = ", ".join(repr(other) for other, each in found.items() if not each.trains_itself)
    alike = ", ".join(repr(other) for other in found if other != arm and not parts_changed(network, found[other]))
    told = []
    if others:
        told.append(f"It is trained otherwise than {others}: a difference between them may be one of training.")
    if alike:
        told.append(f"It is built like {alike}, part by part: what sets them apart lies in its own training.")
    return replace(network, unknowns=(*network.unknowns, *told))


def parts_changed(before: Built, after: Built) -> tuple[Difference, ...]:
    """Every part in which two networks differ as built, by place."""
    return tuple(
        Difference(path=place, before=before.parts.get(place), after=after.parts.get(place))
        for place in dict.fromkeys((*before.parts, *after.parts))
        if before.parts.get(place) != after.parts.get(place)
    )


def _prove_pair(first: tuple[str, Setup, Built], second: tuple[str, Setup, Built]) -> None:
    (name, setup, built_first), (other, other_setup, built_second) = first, second
    changed = parts_changed(built_first, built_second)
    if setup.network == other_setup.network and setup.scale == other_setup.scale and changed:
        lines = "\n  ".join(map(str, changed[:SHOWN]))
        raise NotASingleChange(
            f"arms {name!r} and {other!r} declare one network, but it is not built alike twice:\n  {lines}\n"
            "What makes it must depend on its arguments alone."
        )
    if built_first.trains_itself and built_second.trains_itself:
        return  # what they declare otherwise may be a matter of their training, and cannot be seen
    if not changed and _differ_in_parts_alone(setup, other_setup) and not _act_otherwise(setup, other_setup):
        raise InvalidAblation(
            f"arms {name!r} and {other!r} are declared otherwise, but built alike, part by part: there is nothing to "
            "compare under this protocol."
        )


def _act_otherwise(setup: Setup, other: Setup) -> bool:
    """Whether two custom networks start or act otherwise, though their parts are alike."""
    if not (isinstance(setup.network, Custom) or isinstance(other.network, Custom)):
        return False
    return behaviour(setup.network, setup.scale) != behaviour(other.network, other.scale)


def _prove_that_settings_matter(first: tuple[str, Setup, Built], second: tuple[str, Setup, Built]) -> None:
    (name, setup, network), (other, other_setup, other_network) = first, second
    idle = [
        path
        for path in _differing(setup, other_setup)
        if not (_reaches(path, setup, network) or _reaches(path, other_setup, other_network))
    ]
    if idle:
        raise InvalidAblation(
            f"arms {name!r} and {other!r} differ in {', '.join(idle)}, which reaches neither: they bring their own "
            "training or data, or train no network. Change it there, by an argument of their class."
        )


def _reaches(path: str, setup: Setup, network: Built) -> bool:
    """Whether a setting of a setup has any effect on its fit."""
    if isinstance(setup.data, ForeignData) and path in OF_FOREIGN_DATA:
        return False
    if setup.recipe.trains == "linear classifier":
        trained_before = isinstance(setup.start, WarmStart)
        return path != "test.mode" and (trained_before or path not in OF_TRAINING)
    return not (network.trains_itself and path.startswith(OF_THE_CLASSIFIER) and path not in READ_BY_SELF_TRAINING)


def _differing(setup: Setup, other: Setup) -> list[str]:
    before, after = flatten(setup), flatten(other)
    return [path for path in dict.fromkeys((*before, *after)) if before.get(path) != after.get(path)]


def _differ_in_parts_alone(setup: Setup, other: Setup) -> bool:
    """Whether two setups differ, and only in what shows in the module: not in what is drawn, trained or read."""
    unseen = ("network.init", "network.auxiliary_weight")
    return all(path.startswith("network.") and path not in unseen for path in _differing(setup, other))


def _unknowns(setup: Setup, *, trains_itself: bool) -> Iterator[str]:
    if isinstance(setup.network, Custom):
        yield (
            f"{setup.network.class_path} draws its own initial weights, from the seed: layers that two arms have in "
            "common need not start equal."
        )
    if trains_itself:
        yield (
            "It trains itself: loss, optimiser, schedule, clipping and precision are its own, and not known, nor is "
            "its error while it trains. Of the recipe only epochs, batch size and augmentation reach it."
        )
    if isinstance(setup.data, ForeignData):
        yield (
            f"{setup.data.class_path} reads its own data: split, batch size and augmentation are its own, and the "
            "recipe's do not reach it. The final training error is that of its training loader, as that augments."
        )
