"""Initial weights: drawn by place and shape, scaled by an initialiser, or copied from a network trained before."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import nn

from lightning_modules.build import build, weight_layers
from lightning_modules.chance import Chance
from lightning_modules.networks import Custom, Initialiser, Network
from lightning_modules.spec import Scale
from lightning_modules.streams import generator
from lightning_modules.values import Misuse


def _orthogonal(unit: torch.Tensor) -> torch.Tensor:
    """Orthonormal rows or columns, whichever are fewer, times the gain of a ReLU, the square root of 2."""
    flat = unit.flatten(1)
    q, r = torch.linalg.qr(flat.T if flat.shape[0] < flat.shape[1] else flat)
    q = q * r.diagonal().sign()  # uniform over all such matrices (Mezzadri 2007)
    matrix: torch.Tensor = q.T if flat.shape[0] < flat.shape[1] else q
    return math.sqrt(2) * matrix.reshape(unit.shape)


def _deviation(of_fans: Callable[[int, int], float]) -> Callable[[torch.Tensor], torch.Tensor]:
    def scaled(unit: torch.Tensor) -> torch.Tensor:
        field = math.prod(unit.shape[2:])
        return unit * of_fans(unit.shape[1] * field, unit.shape[0] * field)

    return scaled


# From unit normals of a layer's shape to its weights.
INITIALISERS: dict[Initialiser, Callable[[torch.Tensor], torch.Tensor]] = {
    "glorot": _deviation(lambda fan_in, fan_out: math.sqrt(2 / (fan_in + fan_out))),  # Glorot & Bengio 2010, eq. 12
    "he": _deviation(lambda fan_in, fan_out: math.sqrt(2 / fan_in)),  # noqa: ARG005 - He et al. 2015, eq. 10
    "orthogonal": _orthogonal,  # Saxe et al. 2014
    "gaussian-variance-0.01": _deviation(lambda *_: 0.1),  # Simonyan & Zisserman 2015, Sect. 3.1, to the letter
    "gaussian-deviation-0.01": _deviation(lambda *_: 0.01),  # Krizhevsky et al. 2012, Sect. 5
}


def initialised(network: Network, scale: Scale, seed: int) -> nn.Module:
    """The network with its initial weights: by (seed, place, shape); a custom one's own, from the seed's stream."""
    if isinstance(network, Custom):
        with Chance(generator(seed, "weights")):
            return build(network, scale)
    module = build(network, scale)
    initialise(module, network.init, seed)
    return module


@torch.no_grad()
def initialise(module: nn.Module, initialiser: Initialiser, seed: int) -> None:
    """Draw every layer's weights from (seed, place, shape) as unit normals, and scale them; biases are zero.

    A layer that two networks share, by place and by shape, starts equal in both, whatever lies around it. Norms keep
    PyTorch's ones and zeros.
    """
    for place, layer in weight_layers(module):
        shape = tuple(layer.weight.shape)
        unit = generator(seed, "weights", place, *shape).standard_normal(shape, dtype="float32")
        layer.weight.copy_(INITIALISERS[initialiser](torch.from_numpy(unit)))
        if layer.bias is not None:
            layer.bias.zero_()


@torch.no_grad()
def copy_layers(module: nn.Module, donor: Mapping[str, torch.Tensor], places: Sequence[str]) -> tuple[str, ...]:
    """Copy the named layers' tensors from a donor's state; all others stay as they are.

    Args:
        places: of layers, or what these begin with: ``stage1.conv1``, ``head``.

    Returns:
        The places of the weight layers that were copied.

    Raises:
        Misuse: where a place names no layer of one of the two, or its shapes differ. Nothing is copied then.
    """
    own = module.state_dict()
    copied = names_to_copy(own, donor, places)
    for name in copied:
        own[name].copy_(donor[name])
    return tuple(place for place, _ in weight_layers(module) if f"{place}.weight" in copied)


def names_to_copy(
    own: Mapping[str, torch.Tensor], donor: Mapping[str, torch.Tensor], places: Sequence[str]
) -> tuple[str, ...]:
    """The names of the tensors at the places, once it is sure that both states have them in equal shapes.

    Raises:
        Misuse: where a place names no layer of one of the two, or its shapes differ.
    """
    chosen = {place: [name for name in own if name.startswith(f"{place}.")] for place in places}
    for place, names in chosen.items():
        if not names or {name for name in donor if name.startswith(f"{place}.")} != set(names):
            raise Misuse(f"a warm start copies {place!r}, which the donor and the network do not both have alike.")
        for name in names:
            if donor[name].shape != own[name].shape:
                raise Misuse(
                    f"a warm start copies {name}, which has the shape {tuple(donor[name].shape)} in the donor "
                    f"and {tuple(own[name].shape)} in the network."
                )
    return tuple(dict.fromkeys(name for names in chosen.values() for name in names))
