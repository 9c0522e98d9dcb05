"""Numbers as a reader wants them: digits by the width of the interval, a true minus sign, units that fit a column."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

MISSING = "–"
MINUS = "−"
NO_BREAK = "\u00a0"
UNBROKEN = 20  # characters of a name that fit beside each other in a column
_PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))
_BYTES = ((2.0**30, "GiB"), (2.0**20, "MiB"), (2.0**10, "KiB"), (1.0, "B"))
_SECONDS = ((3600.0, "h"), (60.0, "min"), (1.0, "s"))


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A value with its 95% interval; the limits are NaN where there is none."""

    value: float
    low: float = math.nan
    high: float = math.nan

    @property
    def half_width(self) -> float:
        """Half the width of the interval."""
        return (self.high - self.low) / 2

    @property
    def bounded(self) -> bool:
        """Whether there is an interval."""
        return math.isfinite(self.low) and math.isfinite(self.high)


NOTHING = Estimate(value=math.nan)


def decimals(half_widths: Iterable[float], least: int = 0, most: int = 3) -> int:
    """Decimals that give a typical half-width two significant digits."""
    widths = sorted(width for width in half_widths if math.isfinite(width) and width > 0)
    if not widths:
        return min(most, max(least, 1))
    typical = widths[len(widths) // 2]
    return min(most, max(least, 1 - math.floor(math.log10(typical))))


def fixed(value: float, places: int, *, sign: bool = False) -> str:
    """A number with fixed decimals and a true minus sign; ``–`` where there is none, and no negative zero."""
    if not math.isfinite(value):
        return MISSING
    text = f"{value:,.{places}f}"
    if not any(digit in "123456789" for digit in text):
        return text.lstrip("-")
    return text.replace("-", MINUS) if value < 0 or not sign else "+" + text


def shared_decimals(values: Iterable[float], digits: int = 3) -> int:
    """Decimals that show the smallest of a column's numbers with so many significant digits."""
    finite = [abs(value) for value in values if math.isfinite(value) and value]
    return max(0, digits - 1 - math.floor(math.log10(min(finite)))) if finite else 0


def significant(value: float, digits: int = 3) -> str:
    """A number with so many significant digits, never in powers of ten."""
    if not math.isfinite(value) or value == 0:
        return "0" if value == 0 else MISSING
    return fixed(value, max(0, digits - 1 - math.floor(math.log10(abs(value)))))


def plus_minus(estimate: Estimate, places: int) -> str:
    """``27.31 ± 0.41``; the value alone where it has no interval."""
    text = fixed(estimate.value, places)
    return f"{text} ± {fixed(estimate.half_width, places)}" if estimate.bounded else text


def bracketed(estimate: Estimate, places: int) -> str:
    """``+0.42 [0.12, 0.72]``; the value alone where it has no interval."""
    text = fixed(estimate.value, places, sign=True)
    if not estimate.bounded:
        return text
    return f"{text} [{fixed(estimate.low, places)}, {fixed(estimate.high, places)}]"


def whole(value: float) -> str:
    """A count with thousands separated; ``–`` where there is none."""
    return fixed(value, 0)


def printed(value: float) -> str:
    """A published figure with all its digits, and one decimal at least."""
    return f"{value:g}" if "." in f"{value:g}" else f"{value:.1f}"


def metric_unit(values: Iterable[float]) -> tuple[float, str]:
    """Factor and prefix (k, M, G) that bring the smallest of a column's values above 1."""
    return _fitting(values, _PREFIXES)


def byte_unit(values: Iterable[float]) -> tuple[float, str]:
    """Factor and name of the unit that fits a column of sizes in bytes."""
    return _fitting(values, _BYTES)


def time_unit(values: Iterable[float]) -> tuple[float, str]:
    """Factor and name of the unit that fits a column of durations in seconds."""
    return _fitting((value / 2 for value in values), _SECONDS)


def duration(seconds: float) -> str:
    """``41 s``, ``3.2 min``, ``1.5 h``."""
    if not math.isfinite(seconds):
        return MISSING
    factor, unit = time_unit((seconds,))
    return f"{significant(seconds / factor, 2 if seconds < 100 * factor else 3)} {unit}"


def typographic(sentence: str) -> str:
    """A sentence with true minus signs before its numbers."""
    return re.sub(r"(?<![\w.)\]])-(?=\d)", MINUS, sentence)


def one_line(words: str) -> str:
    """Text without line breaks, runs of spaces or characters that cannot be printed; unbreakable spaces stay."""
    printed = "".join(letter if letter.isprintable() or letter == NO_BREAK else " " for letter in words)
    return re.sub(r" +", " ", printed).strip(" ")


def arrow(over: str, arm: str) -> str:
    """A contrast by its two arms; a line may break before the arrow where they are names of several words."""
    if " " not in over + arm:
        return f"{over}{NO_BREAK}→{NO_BREAK}{arm}"
    first, second = (name.replace(" ", NO_BREAK) if len(name) <= UNBROKEN else name for name in (over, arm))
    return f"{first} →{NO_BREAK}{second}"


def plural(count: int, noun: str, several: str = "") -> str:
    """``1 seed``, ``5 seeds``."""
    return f"{count:,} {noun if count == 1 else several or noun + 's'}"


def listed(names: Iterable[str], last: str = "and") -> str:
    """``A, B and C``."""
    *before, end = list(names) or [""]
    return f"{', '.join(before)} {last} {end}" if before else end


def _fitting(values: Iterable[float], units: tuple[tuple[float, str], ...]) -> tuple[float, str]:
    finite = [abs(value) for value in values if math.isfinite(value) and value]
    smallest = min(finite, default=1.0)
    return next((unit for unit in units if smallest >= unit[0]), units[-1])
