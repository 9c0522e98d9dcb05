"""Initial weights: drawn by layer path and shape and scaled by an initializer, or copied from a trained network."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from lightning_modules.networks.build import build_network, weight_layers
from lightning_modules.rng import RngState, seeded_generator
from lightning_modules.specs.errors import UserError
from lightning_modules.specs.networks import Custom, Initializer, Network
from lightning_modules.specs.scale import Scale


def _scale_glorot(normals: torch.Tensor) -> torch.Tensor:
    """Glorot & Bengio 2010, eq. 12, as a normal distribution of the same variance."""
    fan_in, fan_out = _compute_fans(normals)
    return normals.mul_(math.sqrt(2 / (fan_in + fan_out)))


def _scale_he(normals: torch.Tensor) -> torch.Tensor:
    """He et al. 2015, eq. 10."""
    fan_in, _ = _compute_fans(normals)
    return normals.mul_(math.sqrt(2 / fan_in))


def _orthogonalize(normals: torch.Tensor) -> torch.Tensor:
    """Orthonormal rows or columns, whichever are fewer, times √2, the gain of a ReLU (Saxe et al. 2014)."""
    flat = normals.flatten(1)
    is_wide = flat.shape[0] < flat.shape[1]
    q, r = torch.linalg.qr(flat.T if is_wide else flat)
    q = q * r.diagonal().sign()  # makes them uniform over all such matrices (Mezzadri 2007)
    matrix: torch.Tensor = q.T if is_wide else q
    return math.sqrt(2) * matrix.reshape(normals.shape)


def _scale_variance_001(normals: torch.Tensor) -> torch.Tensor:
    """Simonyan & Zisserman 2015, Sect. 3.1, taken literally: a variance of 0.01."""
    return normals.mul_(0.1)


def _scale_std_001(normals: torch.Tensor) -> torch.Tensor:
    """Krizhevsky et al. 2012, Sect. 5: a standard deviation of 0.01."""
    return normals.mul_(0.01)


def _compute_fans(weights: torch.Tensor) -> tuple[int, int]:
    """Inputs and outputs per unit, from weights ``(out, in)`` or ``(out, in, height, width)``."""
    kernel_area = math.prod(weights.shape[2:])
    return weights.shape[1] * kernel_area, weights.shape[0] * kernel_area


# Each turns standard normal numbers of a layer's shape into its weights, in place or in a new tensor.
INITIALIZERS: dict[Initializer, Callable[[torch.Tensor], torch.Tensor]] = {
    "glorot": _scale_glorot,
    "he": _scale_he,
    "orthogonal": _orthogonalize,
    "gaussian-variance-0.01": _scale_variance_001,
    "gaussian-deviation-0.01": _scale_std_001,
}


def build_initialized_network(network: Network, scale: Scale, seed: int) -> nn.Module:
    """Build a network with the initial weights of a seed.

    A custom network draws its own, from the seed's stream for weights.
    """
    if isinstance(network, Custom):
        with RngState(seeded_generator(seed, "weights")):
            return build_network(network, scale)
    with _UndrawnWeights():
        module = build_network(network, scale)
    initialize_weights(module, network.init, seed)
    return module


class _UndrawnWeights(TorchFunctionMode):
    """Inside it, PyTorch's layers leave out the random weights that they would start from; norms get theirs.

    Those of VGG-D take 0.13 s, one network after the other: all threads of a process draw from one generator.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in (nn.init.kaiming_uniform_, nn.init.uniform_):  # of a convolution's or linear layer's weight and bias
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


@torch.no_grad()
def initialize_weights(module: nn.Module, initializer: Initializer, seed: int) -> None:
    """Draw every layer's weights from (seed, layer path, shape), and set its biases to zero.

    A layer of equal path and shape starts equal in two networks, whatever other layers they have: arms are paired.
    Norms keep PyTorch's ones and zeros.
    """
    for layer_path, layer in weight_layers(module):
        shape = tuple(layer.weight.shape)
        weight = layer.weight.detach()
        is_drawn_in_place = weight.device.type == "cpu" and weight.dtype == torch.float32 and weight.is_contiguous()
        normals = weight if is_drawn_in_place else torch.empty(shape)
        # By numpy on the CPU, so that weights are the same on every device.
        seeded_generator(seed, "weights", layer_path, *shape).standard_normal(out=normals.numpy(), dtype="float32")
        layer.weight.copy_(INITIALIZERS[initializer](normals))
        if layer.bias is not None:
            layer.bias.zero_()


@torch.no_grad()
def copy_layers(
    module: nn.Module, source_state: Mapping[str, torch.Tensor], layer_paths: Sequence[str]
) -> tuple[str, ...]:
    """Copy the named layers' tensors from a source network's state dict; all others stay as they are.

    Args:
        module: the network that starts from the source network.
        source_state: the source network's state dict.
        layer_paths: of layers, or of what contains them: ``stage1.conv1``, ``head``.

    Returns:
        The paths of the weight layers that were copied.

    Raises:
        UserError: if a path names no layer of one of the two networks, or shapes differ. Nothing is copied then.
    """
    target_state = module.state_dict()  # its tensors share their memory with the module's
    copied_names = tensor_names_to_copy(target_state, source_state, layer_paths)
    for name in copied_names:
        target_state[name].copy_(source_state[name])
    return tuple(layer_path for layer_path, _ in weight_layers(module) if f"{layer_path}.weight" in copied_names)


def tensor_names_to_copy(
    target_state: Mapping[str, torch.Tensor], source_state: Mapping[str, torch.Tensor], layer_paths: Sequence[str]
) -> tuple[str, ...]:
    """List the tensors below some layer paths, and check that both state dicts have them in equal shapes.

    Raises:
        UserError: if a path names no layer of one of the two networks, or shapes differ.
    """
    names_to_copy: dict[str, None] = {}  # an ordered set: a path may lie below another one
    for layer_path in layer_paths:
        names = _names_below(target_state, layer_path)
        if not names or set(_names_below(source_state, layer_path)) != set(names):
            raise UserError(
                f"a warm start copies {layer_path!r}, which the source network and the network do not both have with "
                "the same tensors."
            )
        for name in names:
            source_shape, target_shape = tuple(source_state[name].shape), tuple(target_state[name].shape)
            if source_shape != target_shape:
                raise UserError(
                    f"a warm start copies {name}, which has the shape {source_shape} in the source network and "
                    f"{target_shape} in the network."
                )
        names_to_copy |= dict.fromkeys(names)
    return tuple(names_to_copy)


def _names_below(state: Mapping[str, torch.Tensor], layer_path: str) -> list[str]:
    return [name for name in state if name.startswith(f"{layer_path}.")]
