"""Compact labels of the modules in which two instantiated networks differ."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from ablations import Difference
from reports.analysis.setting_changes import SettingChange, format_leaf, group_changes

LAYER_INDEX = re.compile(r"\d+(?=\.|$)")  # stage3.conv1, layer1.0.conv2: a number that ends a name, or is one


def module_differences(differences: Iterable[Difference]) -> tuple[SettingChange, ...]:
    """Layer paths with both layers; equal differences are grouped."""
    labeled = []
    for difference in differences:
        before, after = format_leaf(difference.before), format_leaf(difference.after)
        labeled.append((difference.path, describe_layer(before), describe_layer(after)))
    return group_changes(labeled, LAYER_INDEX)


def describe_layer(text: str) -> str:
    """Shorten a layer's ``repr``: ``Conv2d 64→64, 3×3``.

    Usual arguments are left out; a class without a rule, or with arguments that its rule does not expect, is unchanged.
    """
    call = _parse_repr(text)
    if call is None or call.name not in _LAYER_DESCRIBERS:
        return text
    return _LAYER_DESCRIBERS[call.name](call) or text


@dataclass(frozen=True, kw_only=True)
class _ConstructorCall:
    """A module's ``repr``, parsed: its class, and its arguments as text."""

    name: str
    positional: tuple[str, ...]
    named: Mapping[str, str]

    def unusual_arguments(self, usual: Mapping[str, str]) -> str:
        """The named arguments that are not the usual ones, each after a comma."""
        unusual = ""
        for name, text in self.named.items():
            value = _format_size(text)
            if value == usual.get(name, ""):
                continue
            if (name, value) == ("bias", "False"):
                unusual += ", without bias"
            else:
                unusual += f", {name.replace('_', ' ')} {value}"
        return unusual


def _parse_repr(text: str) -> _ConstructorCall | None:
    match = re.fullmatch(r"(\w+)\((.*)\)", text)
    if not match:
        return None
    positional: list[str] = []
    named: dict[str, str] = {}
    # Commas within parentheses belong to a tuple: kernel_size=(3, 3).
    for argument in re.split(r", (?![^()]*\))", match[2]) if match[2] else []:
        name, has_name, value = argument.partition("=")
        if has_name:
            named[name] = value
        else:
            positional.append(argument)
    return _ConstructorCall(name=match[1], positional=tuple(positional), named=named)


def _format_size(text: str) -> str:
    """``(2, 2)`` as ``2``, ``(3, 1)`` as ``3×1``; anything else as it is."""
    if not re.fullmatch(r"\(\d+(, \d+)*,?\)", text):
        return text
    sides = re.findall(r"\d+", text)
    return sides[0] if len(set(sides)) == 1 else "×".join(sides)


def _format_kernel(text: str) -> str:
    """Both sides of a kernel: ``3×3``."""
    side = _format_size(text)
    return side if "×" in side else f"{side}×{side}"


def _describe_convolution(call: _ConstructorCall) -> str:
    if len(call.positional) != 2 or "kernel_size" not in call.named:
        return ""
    kernel = call.named["kernel_size"]
    same_padding = [int(side) // 2 for side in re.findall(r"\d+", kernel)]  # preserves the map's size at stride 1
    usual = {
        "kernel_size": _format_size(kernel),
        "stride": "1",
        "padding": _format_size(f"({', '.join(map(str, same_padding))})"),
        "dilation": "1",
        "groups": "1",
        "bias": "True",
        "padding_mode": "zeros",
    }
    channels, size = "→".join(call.positional), _format_kernel(kernel)
    # PyTorch prints no padding of 0, which here is unusual for every kernel but 1×1.
    unpadded = ", padding 0" if "padding" not in call.named and any(same_padding) else ""
    return f"{call.name} {channels}, {size}{unpadded}{call.unusual_arguments(usual)}"


def _describe_linear(call: _ConstructorCall) -> str:
    if not {"in_features", "out_features"} <= call.named.keys():
        return ""
    inputs, outputs = call.named["in_features"], call.named["out_features"]
    usual = {"in_features": inputs, "out_features": outputs, "bias": "True"}
    return f"Linear {inputs}→{outputs}{call.unusual_arguments(usual)}"


def _describe_batch_norm(call: _ConstructorCall) -> str:
    if len(call.positional) != 1:
        return ""
    usual = {"eps": "1e-05", "momentum": "0.1", "affine": "True", "track_running_stats": "True"}
    return f"{call.name} {call.positional[0]}{call.unusual_arguments(usual)}"


def _describe_group_norm(call: _ConstructorCall) -> str:
    if len(call.positional) != 2:
        return ""
    groups, channels = call.positional
    return f"GroupNorm {channels} in {groups} groups{call.unusual_arguments({'eps': '1e-05', 'affine': 'True'})}"


def _describe_pooling(call: _ConstructorCall) -> str:
    if "kernel_size" not in call.named:
        return ""
    kernel = call.named["kernel_size"]
    usual = {
        "kernel_size": _format_size(kernel), "stride": _format_size(kernel), "padding": "0", "dilation": "1",
        "ceil_mode": "False", "count_include_pad": "True", "divisor_override": "None",
    }  # fmt: skip
    return f"{call.name} {_format_kernel(kernel)}{call.unusual_arguments(usual)}"


def _describe_dropout(call: _ConstructorCall) -> str:
    if "p" not in call.named:
        return ""
    probability = call.named["p"]
    return f"{call.name} {probability}{call.unusual_arguments({'p': probability, 'inplace': 'False'})}"


def _describe_elementwise(call: _ConstructorCall) -> str:
    if call.positional:
        return ""
    usual = {"inplace": call.named.get("inplace", ""), "approximate": "'none'"}  # in place or not: the same function
    return f"{call.name}{call.unusual_arguments(usual)}"


_LAYER_DESCRIBERS: dict[str, Callable[[_ConstructorCall], str]] = {
    "Conv2d": _describe_convolution,
    "Linear": _describe_linear,
    "BatchNorm2d": _describe_batch_norm,
    "GroupNorm": _describe_group_norm,
    "MaxPool2d": _describe_pooling,
    "AvgPool2d": _describe_pooling,
    "Dropout": _describe_dropout,
    "Dropout2d": _describe_dropout,
    "ReLU": _describe_elementwise,
    "GELU": _describe_elementwise,
    "Tanh": _describe_elementwise,
    "Sigmoid": _describe_elementwise,
    "Identity": _describe_elementwise,
}
