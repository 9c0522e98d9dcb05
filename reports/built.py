"""The modules in which two networks as built differ: layers in a few words, equal differences on one line."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from ablations import Difference
from reports.changes import Change, gathered, shown

NUMBER = re.compile(r"\d+(?=\.|$)")  # stage3.conv1, layer1.0.conv2: what ends a name, or is one


def parts(differences: Iterable[Difference]) -> tuple[Change, ...]:
    """Places, and what stands there in either network; those that differ alike as one."""
    told = ((each.path, layer(shown(each.before)), layer(shown(each.after))) for each in differences)
    return gathered(told, NUMBER)


def layer(text: str) -> str:
    """A layer in a few words: ``Conv2d 64→64, 3×3``; what is usual is left out, an unknown class stays as it is."""
    call = _read(text)
    told = _KNOWN[call.name](call) if call and call.name in _KNOWN else ""
    return told or text


@dataclass(frozen=True, kw_only=True)
class _Call:
    """What a module's ``repr`` tells: its class, and its arguments as text."""

    name: str
    positional: tuple[str, ...]
    named: Mapping[str, str]

    def beyond(self, usual: Mapping[str, str]) -> str:
        """The named arguments that are not the usual ones, each after a comma."""
        unusual = {name: _number(value) for name, value in self.named.items() if _number(value) != usual.get(name, "")}
        return "".join(
            ", without bias" if (name, value) == ("bias", "False") else f", {name.replace('_', ' ')} {value}"
            for name, value in unusual.items()
        )


def _read(text: str) -> _Call | None:
    found = re.fullmatch(r"(\w+)\((.*)\)", text)
    if not found:
        return None
    arguments = re.split(r", (?![^()]*\))", found[2]) if found[2] else []
    named = dict(argument.split("=", 1) for argument in arguments if "=" in argument)
    return _Call(name=found[1], positional=tuple(each for each in arguments if "=" not in each), named=named)


def _number(text: str) -> str:
    """``(2, 2)`` as ``2``, ``(3, 1)`` as ``3×1``; anything else as it is."""
    sides = re.findall(r"\d+", text) if re.fullmatch(r"\(\d+(, \d+)*,?\)", text) else []
    if not sides:
        return text
    return sides[0] if len(set(sides)) == 1 else "×".join(sides)


def _square(text: str) -> str:
    """A kernel's sides: ``3×3``."""
    side = _number(text)
    return side if "×" in side else f"{side}×{side}"


def _convolution(call: _Call) -> str:
    if len(call.positional) != 2 or "kernel_size" not in call.named:
        return ""
    kernel = call.named["kernel_size"]
    sides = [int(side) // 2 for side in re.findall(r"\d+", kernel)]
    usual = {
        "kernel_size": _number(kernel),
        "stride": "1",
        "padding": _number(f"({', '.join(map(str, sides))})"),
        "dilation": "1",
        "groups": "1",
        "bias": "True",
        "padding_mode": "zeros",
    }
    unpadded = "" if "padding" in call.named or not any(sides) else ", padding 0"
    return f"{call.name} {'→'.join(call.positional)}, {_square(kernel)}{unpadded}{call.beyond(usual)}"


def _connected(call: _Call) -> str:
    if not {"in_features", "out_features"} <= call.named.keys():
        return ""
    inputs, outputs = call.named["in_features"], call.named["out_features"]
    return f"Linear {inputs}→{outputs}{call.beyond({'in_features': inputs, 'out_features': outputs, 'bias': 'True'})}"


def _batch_norm(call: _Call) -> str:
    usual = {"eps": "1e-05", "momentum": "0.1", "affine": "True", "track_running_stats": "True"}
    return f"{call.name} {call.positional[0]}{call.beyond(usual)}" if len(call.positional) == 1 else ""


def _group_norm(call: _Call) -> str:
    if len(call.positional) != 2:
        return ""
    groups, channels = call.positional
    return f"GroupNorm {channels} in {groups} groups{call.beyond({'eps': '1e-05', 'affine': 'True'})}"


def _pooling(call: _Call) -> str:
    if "kernel_size" not in call.named:
        return ""
    kernel = call.named["kernel_size"]
    usual = {
        "kernel_size": _number(kernel), "stride": _number(kernel), "padding": "0", "dilation": "1",
        "ceil_mode": "False", "count_include_pad": "True", "divisor_override": "None",
    }  # fmt: skip
    return f"{call.name} {_square(kernel)}{call.beyond(usual)}"


def _dropout(call: _Call) -> str:
    usual = {"p": call.named.get("p", ""), "inplace": "False"}
    return f"{call.name} {call.named['p']}{call.beyond(usual)}" if "p" in call.named else ""


def _bare(call: _Call) -> str:
    usual = {"inplace": call.named.get("inplace", ""), "approximate": "'none'"}  # in place or not, it computes the same
    return "" if call.positional else f"{call.name}{call.beyond(usual)}"


_KNOWN: dict[str, Callable[[_Call], str]] = {
    "Conv2d": _convolution, "Linear": _connected, "BatchNorm2d": _batch_norm, "GroupNorm": _group_norm,
    "MaxPool2d": _pooling, "AvgPool2d": _pooling, "Dropout": _dropout, "Dropout2d": _dropout,
    "ReLU": _bare, "GELU": _bare, "Tanh": _bare, "Sigmoid": _bare, "Identity": _bare,
}  # fmt: skip
