"""Values of an arm's edits that depend on the setup: on its resolution, its data, or its own value there."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from lightning_modules.specs.data import Data
from lightning_modules.specs.errors import InvalidValue
from lightning_modules.specs.notebook_html import describe_object, describe_settings
from lightning_modules.specs.setup import Setup
from lightning_modules.specs.values import edit_field, flatten_fields, require_field

T = TypeVar("T")

# Pixels. Residual networks of 6n + 2 layers are made for 32, those of 18 layers and more for 224 (He et al. 2016).
MAX_SMALL_RESOLUTION = 64


@dataclass(frozen=True, kw_only=True)
class ByResolution(Generic[T]):
    """One value for small images, up to 64 pixels, and another one for larger images."""

    small: T
    large: T

    def __repr__(self) -> str:
        return describe_object(self, describe_settings({"small": self.small, "large": self.large}))

    def resolve(self, setup: Setup) -> T:
        """The value at a setup's resolution."""
        return self.small if setup.scale.resolution <= MAX_SMALL_RESOLUTION else self.large


@dataclass(frozen=True, kw_only=True)
class ByData(Generic[T]):
    """One value for scikit-learn's handwritten digits, and another one for all other data."""

    digits: T
    others: T

    def __repr__(self) -> str:
        return describe_object(self, describe_settings({"digits": self.digits, "others": self.others}))

    def resolve(self, setup: Setup) -> T:
        """The value for a setup's data."""
        is_digits = isinstance(setup.data, Data) and setup.data.source == "digits"
        return self.digits if is_digits else self.others


@dataclass(frozen=True)
class Times:
    """A multiple of the base setup's value; a whole number is rounded to a whole number.

    Raises:
        InvalidValue: for a factor that is no finite number.
    """

    factor: float

    def __post_init__(self) -> None:
        is_number = isinstance(self.factor, (int, float)) and not isinstance(self.factor, bool)
        require_field(is_number and math.isfinite(self.factor), self, "factor", "a finite number")

    def resolve(self, setup: Setup, path: str) -> Any:
        """The product for the number at a dotted path.

        Raises:
            InvalidValue: if the value there is no number.
        """
        return self.multiply(flatten_fields(setup).get(path), path)

    def multiply(self, value: object, path: str) -> Any:
        """The product with a value of an edit at a path; with another multiple, the multiple of both factors.

        Raises:
            InvalidValue: if the value is no number.
        """
        if isinstance(value, Times):
            return Times(value.factor * self.factor)
        # A bool is an int to Python, but twice a switch means nothing.
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise InvalidValue(f"{path} is {value!r}; expected a number to multiply by {self.factor:g}.")
        product = value * self.factor
        return round(product) if isinstance(value, int) else product


CONDITIONAL_VALUES = (ByResolution, ByData)


def is_multiple(value: object) -> bool:
    """Whether the value of an edit is a multiple, at some resolution or data."""
    branches = vars(value).values() if isinstance(value, CONDITIONAL_VALUES) else (value,)
    return any(isinstance(branch, Times) for branch in branches)


def resolve_conditional(setup: Setup, value: object) -> Any:
    """Resolve a value at a setup's resolution and data; the result may still be a multiple."""
    return value.resolve(setup) if isinstance(value, CONDITIONAL_VALUES) else value


def apply_edit(setup: Setup, path: str, value: object) -> Setup:
    """Set a path of a setup to a value; a value that depends on the setup is resolved first."""
    value = resolve_conditional(setup, value)
    if isinstance(value, Times):
        value = value.resolve(setup, path)
    return edit_field(setup, path, value)
