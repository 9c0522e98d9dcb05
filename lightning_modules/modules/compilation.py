"""Compile a network's forward and backward pass with ``torch.compile``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from lightning_modules.specs.errors import UserError


def compile_network(network: nn.Module) -> Callable[[torch.Tensor], Any]:
    """Return a function that computes the network's outputs, compiled at its first call for each shape of a batch.

    The network itself stays as it is: its parameters keep their names, and evaluation runs uncompiled.

    Raises:
        UserError: by the function's first call, if the machine lacks what compilation needs.
    """
    from torch._dynamo.exc import BackendCompilerFailed, TorchDynamoException
    from torch._inductor import config
    from torch._inductor.exc import InductorError

    # A pool of compiling processes would be forked from a process that trains, and take its memory along.
    config.compile_threads = 1
    compiled = torch.compile(network.forward, dynamic=False)

    def compute_outputs(images: torch.Tensor) -> Any:
        try:
            return compiled(images)
        except (BackendCompilerFailed, InductorError, TorchDynamoException) as error:
            first_line = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise UserError(
                f"recipe.compiled is true, and the network could not be compiled here: {first_line}. torch.compile "
                "needs a C++ compiler on a CPU, and Triton on a GPU; without them, leave recipe.compiled at false."
            ) from error

    return compute_outputs
