"""Choose the memory layout in which a network and its images are held."""

from __future__ import annotations

import copy
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from lightning_modules.networks.outputs import extract_logits
from lightning_modules.rng import RngState

MemoryLayout = Literal["channels-last", "contiguous"]

NUM_PROBE_IMAGES = 2  # batch norm over a 1x1 map needs two for a variance; the strides of one image are ambiguous


def find_layout(module: nn.Module, image_shape: tuple[int, int, int]) -> MemoryLayout:
    """Return the layout that a network needs, found by running a copy of it forward and backward.

    Channels-last, which is faster, unless the network fails in it and runs in PyTorch's default layout: after a
    convolution ``x.view(x.size(0), -1)`` needs the latter. The module and the global random state stay as they are.
    """
    if not _fails_in_layout(module, "channels-last", image_shape):
        return "channels-last"
    return "channels-last" if _fails_in_layout(module, "contiguous", image_shape) else "contiguous"


def set_layout(module: nn.Module, layout: MemoryLayout) -> nn.Module:
    """Bring a network's weights, and every batch that it is given, into a layout.

    Batches of this package are channels-last already, so only the other layout needs a copy.
    """
    if layout == "channels-last":
        return module.to(memory_format=torch.channels_last)
    module.register_forward_pre_hook(_make_images_contiguous)
    return module


def random_images(num_images: int, image_shape: tuple[int, int, int]) -> torch.Tensor:
    """Draw images with the strides of this package's batches: channels last."""
    channels, height, width = image_shape
    # Not by ``contiguous(memory_format=...)``, which leaves images of one channel as they are, in the other strides.
    return torch.randn(num_images, height, width, channels).permute(0, 3, 1, 2)


def make_contiguous(images: torch.Tensor) -> torch.Tensor:
    """Copy a batch into PyTorch's default layout, unless it has its strides."""
    # ``is_contiguous`` ignores the stride of one channel, by which a convolution nevertheless chooses its layout.
    has_default_strides = images.stride() == torch.empty(images.shape, device="meta").stride()
    return images if has_default_strides else images.clone(memory_format=torch.contiguous_format)


def _make_images_contiguous(_: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    images, *others = arguments
    return (make_contiguous(images), *others)


def _fails_in_layout(module: nn.Module, layout: MemoryLayout, image_shape: tuple[int, int, int]) -> bool:
    try:
        # A copy: a run in training mode changes the running statistics of batch norm.
        trial_module = set_layout(copy.deepcopy(module), layout).train()
        with RngState(np.random.default_rng(0)):
            logits = extract_logits(trial_module(random_images(NUM_PROBE_IMAGES, image_shape)))[0]
            if logits.requires_grad:
                logits.sum().backward()  # type: ignore[no-untyped-call]
    except Exception:  # whatever a user's network raises: the proof of training runs it again, and tells
        return True
    return False
