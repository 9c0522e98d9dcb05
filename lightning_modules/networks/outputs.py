"""Outputs of a network: logits, and the logits of auxiliary heads."""

from __future__ import annotations

from typing import Any

import torch

from lightning_modules.specs.errors import UserError


def extract_logits(output: Any) -> list[torch.Tensor]:
    """Convert a network's output to float32 logits, followed by those of auxiliary heads, if any.

    Raises:
        UserError: if the output is neither a tensor nor a tuple or list of tensors.
    """
    items = output if isinstance(output, (tuple, list)) else (output,)
    if not items or not all(isinstance(item, torch.Tensor) for item in items):
        output_type = type(output).__name__
        if items is output:
            item_types = ", ".join(type(item).__name__ for item in items)
            output_type = f"{output_type} of ({item_types})"
        raise UserError(
            f"the network returns a {output_type}; expected a tensor of logits, or a tuple or list of tensors that "
            "begins with it."
        )
    return [logits.float() for logits in items]  # losses are computed in float32, whatever the precision
