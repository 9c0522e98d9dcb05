"""Describe a module's structure as instantiated.

Two modules can be compared without their specs.
"""

from __future__ import annotations

from torch import nn

from lightning_modules.profiling.profile import Profile

TORCH_PREFIX = "torch.nn."


def describe_structure(module: nn.Module, profile: Profile) -> dict[str, str]:
    """Describe every submodule that computes or has own parameters.

    By layer path.

    The ``repr`` of PyTorch's own layers is complete; for others the shapes of their own parameters and buffers are
    added. Functions that are called outside such layers (a ReLU, a sum) are counted.
    """
    descriptions: dict[str, str] = {}
    for layer_path, submodule in module.named_modules():
        is_leaf = not any(submodule.children())
        if is_leaf or _own_tensors(submodule):
            descriptions[layer_path or "module"] = _describe_submodule(submodule)
    for name, count in profile.functions.items():
        descriptions[f"function {name}"] = f"called {count} times"
    return descriptions


def _describe_submodule(submodule: nn.Module) -> str:
    description = f"{type(submodule).__name__}({submodule.extra_repr()})"
    if type(submodule).__module__.startswith(TORCH_PREFIX):
        return description
    shapes = []
    for name, tensor in _own_tensors(submodule):
        shape = "×".join(map(str, tensor.shape)) or "scalar"
        shapes.append(f"{name} {shape}")
    return f"{description} with {', '.join(shapes)}" if shapes else description


def _own_tensors(submodule: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return [*submodule.named_parameters(recurse=False), *submodule.named_buffers(recurse=False)]  # type: ignore[list-item]
