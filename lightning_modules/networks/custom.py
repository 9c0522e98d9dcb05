"""Build a user-defined network from its class path and arguments."""

from __future__ import annotations

import sys

from torch import nn

from lightning_modules.networks.class_paths import call_class_path
from lightning_modules.specs.errors import UserError
from lightning_modules.specs.networks import Custom


def build_custom(network: Custom) -> nn.Module:
    """Call the class or function at the network's class path.

    Raises:
        UserError: if there is none, it does not accept the arguments, it fails, or it returns no ``nn.Module``.
    """
    module = call_class_path(network.class_path, network.init_args)
    if not isinstance(module, nn.Module):
        returned = "None" if module is None else f"a {type(module).__name__}"
        raise UserError(f"{network.class_path} returned {returned}; expected an nn.Module.")
    return module


def is_lightning_module(module: nn.Module) -> bool:
    """Whether a module is a ``LightningModule``, which brings its own training."""
    # Importing Lightning takes seconds; if it is not imported, no module can be an instance of its classes.
    pytorch_lightning = sys.modules.get("pytorch_lightning")
    return pytorch_lightning is not None and isinstance(module, pytorch_lightning.LightningModule)
