"""Build a user-defined network from its class path and arguments."""

from __future__ import annotations

import sys

import torch
from torch import nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from lightning_modules.networks.class_paths import call_class_path
from lightning_modules.specs.errors import UserError
from lightning_modules.specs.networks import Custom

NUM_IMAGES = 2  # batch norm over a 1x1 map needs two for a variance


def build_custom(network: Custom, image_shape: tuple[int, int, int]) -> nn.Module:
    """Call the class or function at the network's class path.

    Lazy layers get their shapes and weights by a run on images of the shape ``(channels, height, width)``.

    Raises:
        UserError: if there is none, it does not accept the arguments, it fails, or it returns no ``nn.Module`` of
            Python code.
    """
    module = call_class_path(network.class_path, network.init_args)
    if not isinstance(module, nn.Module):
        returned = "None" if module is None else f"a {type(module).__name__}"
        raise UserError(f"{network.class_path} returned {returned}; expected an nn.Module.")
    if any(isinstance(part, torch.jit.ScriptModule) for part in module.modules()):
        raise UserError(
            f"{network.class_path} returned a module compiled by torch.jit, whose layers cannot be compared; expected "
            "an nn.Module of Python code. Leave out torch.jit.script or torch.jit.trace."
        )
    if any(
        isinstance(tensor, (UninitializedParameter, UninitializedBuffer))
        for tensor in (*module.parameters(), *module.buffers())
    ):
        _initialize_lazy_layers(module, network, image_shape)
    return module


def _initialize_lazy_layers(module: nn.Module, network: Custom, image_shape: tuple[int, int, int]) -> None:
    modes = {part: part.training for part in module.modules()}
    try:
        with torch.no_grad():
            module.eval()(torch.zeros(NUM_IMAGES, *image_shape))  # on the default device, as the module
    except Exception as error:  # a user's code may raise anything; the cause is chained
        raise UserError(
            f"{network.class_path} has lazy layers, which get their shapes by a run on images of "
            f"{' x '.join(map(str, image_shape))}, and that fails: {error}"
        ) from error
    for part, is_training in modes.items():
        part.training = is_training


def is_lightning_module(module: nn.Module) -> bool:
    """Whether a module is a ``LightningModule``, which brings its own training."""
    # Importing Lightning takes seconds; if it is not imported, no module can be an instance of its classes.
    pytorch_lightning = sys.modules.get("pytorch_lightning")
    return pytorch_lightning is not None and isinstance(module, pytorch_lightning.LightningModule)
