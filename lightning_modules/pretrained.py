"""Weights from a file for a network of this package: its own state dict, or torchvision's, by place."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from lightning_modules.build import hollow
from lightning_modules.networks import Network, Vgg
from lightning_modules.spec import Scale
from lightning_modules.values import Misuse, did_you_mean

TORCHVISION = "torchvision:"
IMAGENET_MEAN = (123.675, 116.28, 103.53)  # of torchvision's weights, pixels from 0 to 255
IMAGENET_DEVIATION = (58.395, 57.12, 57.375)

State = Mapping[str, torch.Tensor]


@dataclass(frozen=True, kw_only=True)
class Pretrained:
    """A network with weights.

    Attributes:
        network: the one that the weights belong to: a VGG network with batch norms where they have them.
        state: by this package's names.
        is_foreign: whether it was torchvision that trained them, on ImageNet, as far as their names tell.
    """

    network: Network
    state: State
    is_foreign: bool


def pretrained(network: Network, scale: Scale, weights: str) -> Pretrained:
    """Read weights for a network.

    torchvision lists a network's tensors in the order of this package's, so that they are matched by place once all
    shapes agree. Its ``vgg16_bn`` is ``vgg-d`` with batch norms, which are recognised.

    Args:
        weights: a file, or ``torchvision:VGG16_Weights.IMAGENET1K_V1`` where torch's cache holds it.

    Raises:
        Misuse: for a file that is none, a network that it does not fit, or another number of classes.
    """
    file = _cached(weights.removeprefix(TORCHVISION)) if weights.startswith(TORCHVISION) else Path(weights)
    return matched(network, scale, _read(file), weights)


def matched(network: Network, scale: Scale, state: State, weights: str) -> Pretrained:
    """A state dict for a network, by this package's names; see :func:`pretrained`.

    Args:
        weights: what the state dict is called in an error.

    Raises:
        Misuse: where it does not fit the network.
    """
    candidates = [network]
    if isinstance(network, Vgg) and network.norm == "none":
        candidates.append(replace(network, norm="batch"))
    for each in candidates:
        own = hollow(each, scale).state_dict()
        if _shapes(own) == _shapes(state):
            return Pretrained(network=each, state=state, is_foreign=weights.startswith(TORCHVISION))
        if list(_shapes(own).values()) == list(_shapes(state).values()) and _is_torchvisions(state):
            named = dict(zip(own, state.values(), strict=True))
            return Pretrained(network=each, state=named, is_foreign=True)
    raise Misuse(_misfit(weights, hollow(network, scale).state_dict(), state, scale))


def _is_torchvisions(state: State) -> bool:
    """By its names: VGG's features and classifier, ResNet's numbered layers."""
    return all(name.startswith(("features.", "classifier.", "conv1.", "bn1.", "layer", "fc.")) for name in state)


def _shapes(state: State) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def _read(file: Path) -> State:
    if not file.is_file():
        raise Misuse(f"there is no file {file}; expected a state dict: a trial's weights.pt, or torchvision's .pth.")
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        told = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise Misuse(
            f"{file} cannot be read as weights ({told}); expected what torch.save writes of a state dict."
        ) from None
    if not isinstance(state, dict) or not all(isinstance(each, torch.Tensor) for each in state.values()) or not state:
        found = f"a dict of {', '.join(list(map(str, state))[:5])}" if isinstance(state, dict) else type(state).__name__
        raise Misuse(f"{file} holds {found or 'an empty dict'}; expected a state dict: names with their tensors.")
    return state


def _cached(name: str) -> Path:
    """Where torch keeps torchvision's weights of a name; nothing is downloaded."""
    from torchvision import models

    kind, _, version = name.partition(".")
    kinds = {each for each in dir(models) if each.endswith("_Weights")}
    if kind not in kinds:
        raise Misuse(f"torchvision has no weights {kind!r}.{did_you_mean(kind, kinds)} Expected {_EXAMPLE}.")
    versions = list(getattr(models, kind).__members__)
    if version not in versions:
        raise Misuse(f"{kind} has no version {version!r}; there are: {', '.join(versions)}. Expected {_EXAMPLE}.")
    file = Path(torch.hub.get_dir()) / "checkpoints" / Path(getattr(models, kind)[version].url).name
    if not file.is_file():
        raise Misuse(
            f"{name} is not in torch's cache, {file}. Have torchvision download it once: "
            f"python -c 'from torchvision.models import {kind} as w; w.{version}.get_state_dict()'."
        )
    return file


_EXAMPLE = f"{TORCHVISION}VGG16_Weights.IMAGENET1K_V1"


def _misfit(weights: str, own: State, given: State, scale: Scale) -> str:
    """Why weights do not fit, and what to do."""
    (_, expected), (last, found) = (list(_shapes(each).items())[-1] for each in (own, given))
    rest = (list(_shapes(each).values())[:-2] for each in (own, given))
    if len({tuple(each) for each in rest}) == 1 and len(found) == 1:
        return (
            f"{weights} gives {found[0]} classes ({last}), and the folder has {expected[0]}. Expected a folder with a "
            "class for each of the weights', in the same order by name."
        )
    differing = [
        f"{theirs} is {shape}, expected {ours} {wanted}"
        for (ours, wanted), (theirs, shape) in zip(_shapes(own).items(), _shapes(given).items(), strict=False)
        if shape != wanted
    ]
    told = differing[0] if differing else f"it has {len(given)} tensors, expected {len(own)}"
    return (
        f"{weights} does not fit the network at {scale.resolution} pixels, {scale.channels} channels and width "
        f"{scale.width:g}: {told}. Name the network that was trained, and its --resolution, --channels and --width."
    )
