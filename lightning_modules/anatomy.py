"""Two modules compared as built: which parts they have, and how each is made. Knows nothing of specs."""

from __future__ import annotations

from torch import nn

from lightning_modules.profile import Profile

OF_TORCH = "torch.nn."


def anatomy(module: nn.Module, profile: Profile) -> dict[str, str]:
    """What a module is made of: every part that computes or learns, by its place, in words.

    A part of PyTorch's own shows all that it is by its ``repr``; of any other one the shapes of its own parameters and
    buffers are told as well. Functions that are called outside such parts (a ReLU, a sum) are counted.
    """
    parts = {
        place or "module": _told(part)
        for place, part in module.named_modules()
        if not any(part.children()) or any(True for _ in _own(part))
    }
    return parts | {f"function {name}": f"called {count} times" for name, count in profile.functions.items()}


def _told(part: nn.Module) -> str:
    made = f"{type(part).__name__}({part.extra_repr()})"
    if type(part).__module__.startswith(OF_TORCH):
        return made
    shapes = [f"{name} {'×'.join(map(str, tensor.shape)) or 'scalar'}" for name, tensor in _own(part)]
    return f"{made} with {', '.join(shapes)}" if shapes else made


def _own(part: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return [*part.named_parameters(recurse=False), *part.named_buffers(recurse=False)]  # type: ignore[list-item]
