"""Values of an arm's edits that depend on the setup: on its resolution, its data, or the value that is there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from lightning_modules.spec import Data, Setup
from lightning_modules.values import InvalidValue, edit, flatten

T = TypeVar("T")
LARGEST_SMALL = 64  # pixels; residual networks of 6n + 2 layers are for 32, those of 18 layers and more for 224


@dataclass(frozen=True, kw_only=True)
class ByResolution(Generic[T]):
    """One value for small images, up to 64 pixels, and another one for larger ones."""

    small: T
    large: T

    def at(self, setup: Setup) -> T:
        """The value for a setup's resolution."""
        return self.small if setup.scale.resolution <= LARGEST_SMALL else self.large


@dataclass(frozen=True, kw_only=True)
class ByData(Generic[T]):
    """One value where a study's data are scikit-learn's handwritten digits, and another one where they are others."""

    digits: T
    others: T

    def at(self, setup: Setup) -> T:
        """The value for a setup's data."""
        return self.digits if isinstance(setup.data, Data) and setup.data.source == "digits" else self.others


@dataclass(frozen=True)
class Times:
    """What stands in the base setup, times a factor; a whole number stays one."""

    factor: float

    def of(self, setup: Setup, path: str) -> Any:
        """The product for the number at a dotted path.

        Raises:
            InvalidValue: where there is no number.
        """
        now = flatten(setup).get(path)
        if isinstance(now, bool) or not isinstance(now, (int, float)):
            raise InvalidValue(f"{path} is {now!r}; expected a number to take {self.factor:g} times.")
        return round(now * self.factor) if isinstance(now, int) else now * self.factor


CHOICES = (ByResolution, ByData)


def chosen(setup: Setup, value: object) -> Any:
    """A value at a setup's resolution and data; it may still be a multiple."""
    return value.at(setup) if isinstance(value, CHOICES) else value


def edited(setup: Setup, path: str, value: object) -> Setup:
    """The setup with a value at a path; values that depend on the setup are worked out first."""
    value = chosen(setup, value)
    return edit(setup, path, value.of(setup, path) if isinstance(value, Times) else value)
