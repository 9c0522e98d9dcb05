"""Click parameter types: seeds, overrides, interim analyses, numbers, quantities, per-arm resources."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import click

from lightning_modules.specs.errors import InvalidValue
from studies.design.study import count_to_seeds
from studies.execution.resources import REQUEST_FIELDS


class OverrideParam(click.ParamType):  # type: ignore[type-arg]  # generic in newer versions only
    """A setting and its value: ``path=value``."""

    name = "path=value"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        """Split at the first equals sign; the value may contain others."""
        path, equals, text = str(value).partition("=")
        if not (path and equals and text):
            self.fail(f"{value!r} is not of the form path=value, such as recipe.epochs=5.", param, ctx)
        return path, text


class SeedsParam(click.ParamType):  # type: ignore[type-arg]  # generic in newer versions only
    """A number of seeds (``5`` for 0 to 4) or a list of seeds (``0,1,7`` or ``7,``)."""

    name = "N|a,b,c"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """Parse either form; a comma tells a list from a number."""
        if isinstance(value, tuple):  # click converts a default, and a converted value, again
            return value
        text = str(value).removesuffix(",")  # "7," is the seed 7, and "7" the seeds 0 to 6
        try:
            numbers = tuple(map(int, text.split(",")))
        except ValueError:
            self.fail(f"{value!r} is neither a number of seeds (5) nor a list of seeds (0,1,7).", param, ctx)
        if "," in str(value):
            return numbers
        try:
            return count_to_seeds(numbers[0])
        except InvalidValue as error:
            self.fail(str(error), param, ctx)


class LooksParam(click.ParamType):  # type: ignore[type-arg]  # generic in newer versions only
    """Increasing numbers of seeds, one per interim analysis: ``3,5,10``."""

    name = "a,b,c"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """Parse the numbers; the study checks that they increase."""
        if isinstance(value, tuple):
            return value
        try:
            return tuple(map(int, str(value).split(",")))
        except ValueError:
            self.fail(f"{value!r} is not a list of numbers of seeds, such as 3,5,10.", param, ctx)


class NumbersParam(click.ParamType):  # type: ignore[type-arg]  # generic in newer versions only
    """A list of numbers: ``256,384,512``."""

    name = "a,b,c"

    def __init__(self, number_type: type[int] | type[float]) -> None:
        self.number_type = number_type

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        """Parse the numbers."""
        if isinstance(value, tuple):
            return value
        try:
            return tuple(map(self.number_type, str(value).split(",")))
        except ValueError:
            self.fail(f"{value!r} is not a list of numbers, such as 256,384,512.", param, ctx)


class ArmResourcesParam(click.ParamType):  # type: ignore[type-arg]  # generic in newer versions only
    """An arm and the resources of its trials: ``ARM:gpus=2,cpus=4``."""

    name = "ARM:gpus=2,cpus=4"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, dict[str, float]]:
        """Split at the last colon, since an arm's name may contain one."""
        if isinstance(value, tuple):
            return value
        arm, _, text = str(value).rpartition(":")
        request = {}
        try:
            for assignment in text.split(","):
                name, _, number = assignment.partition("=")
                request[name.strip()] = float(number)
        except ValueError:
            request = {}
        if not (arm and request):
            self.fail(f"{value!r} is not of the form ARM:gpus=2,cpus=4 ({', '.join(REQUEST_FIELDS)}).", param, ctx)
        return arm, request


class AutoNumberParam(click.ParamType):  # type: ignore[type-arg]  # generic in newer versions only
    """A number, or the word ``auto``."""

    name = "N|auto"

    def __init__(self, number: click.ParamType) -> None:  # type: ignore[type-arg]
        self.number = number

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Parse the number by its own type."""
        return value if value == "auto" else self.number.convert(value, param, ctx)


class QuantityParam(click.ParamType):  # type: ignore[type-arg]  # generic in newer versions only
    """A number above 0 with a unit: ``5ms``, ``2GiB``, ``1.5G``."""

    def __init__(self, units: Mapping[str, float], example: str) -> None:
        """Accept some units, whatever their case.

        Args:
            units: factor of each; an empty name allows a number without one.
            example: of a value.
        """
        self.units = {name.lower(): factor for name, factor in units.items()}
        self.unit_names = ", ".join(name for name in units if name.isascii() and name)
        self.name, self.example = example, example

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Parse the number, in the unit whose factor is 1."""
        if isinstance(value, float):
            return value
        match = re.fullmatch(r"(\d+\.?\d*|\.\d+)(?:e([+-]?\d{1,3}))?\s*([a-zµμ]*)", str(value).strip().lower())
        number = float(f"{match[1]}e{match[2] or 0}") if match else 0.0
        if match is None or match[3] not in self.units or not 0 < number < math.inf:
            self.fail(
                f"{value!r} is no number above 0 with a unit ({self.unit_names}), such as {self.example}.", param, ctx
            )
        return number * self.units[match[3]]
