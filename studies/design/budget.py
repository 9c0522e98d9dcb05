"""What one start of a study may spend: time, GPU hours, money."""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass

from lightning_modules.specs.errors import InvalidValue

UNIT_SECONDS = {"d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0}
DURATION = re.compile(r"(?:\d+(?:\.\d+)?[dhms])+")


@dataclass(frozen=True, kw_only=True)
class Spending:
    """Time since a start, and GPU hours: each trial's share of a GPU times the time for which it holds it."""

    seconds: float = 0.0
    gpu_hours: float = 0.0


@dataclass(frozen=True, kw_only=True)
class RunBudget:
    """Limits of one start of a study; ``None`` where there is no limit.

    Attributes:
        max_seconds: from the command to the end of the last trial.
        max_cost: in the currency of the price.

    Raises:
        InvalidValue: for a limit that is not above 0, or a cost without a price.
    """

    max_seconds: float | None = None
    max_gpu_hours: float | None = None
    max_cost: float | None = None
    price_per_gpu_hour: float | None = None

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value is not None and not (math.isfinite(value) and value > 0):
                raise InvalidValue(f"RunBudget.{name} is {value!r}; expected a finite number above 0.")
        if self.max_cost is not None and self.price_per_gpu_hour is None:
            raise InvalidValue("RunBudget.max_cost needs price_per_gpu_hour: the cost is that of GPU hours.")

    @property
    def is_limited(self) -> bool:
        """Whether anything is limited."""
        return self.max_seconds is not None or self.limits_gpus

    @property
    def limits_gpus(self) -> bool:
        """Whether GPU hours are limited, by themselves or by their cost."""
        return self.max_gpu_hours is not None or self.max_cost is not None

    def describe(self) -> str:
        """The limits in words: ``3 h``, ``2 GPU hours``, ``cost 20``."""
        limits = []
        if self.max_seconds is not None:
            limits.append(format_seconds(self.max_seconds))
        if self.max_gpu_hours is not None:
            limits.append(f"{self.max_gpu_hours:g} GPU hours")
        if self.max_cost is not None:
            limits.append(f"a cost of {self.max_cost:g}")
        return " and ".join(limits)

    def describe_spending(self, spending: Spending) -> str:
        """Spending in words, as far as it is limited: ``1 min 43 s``, ``0.8 GPU hours``, ``cost 1.60``."""
        amounts = []
        if self.max_seconds is not None:
            amounts.append(format_seconds(spending.seconds))
        if self.max_gpu_hours is not None or (self.price_per_gpu_hour is not None and self.max_cost is None):
            amounts.append(f"{_format_amount(spending.gpu_hours)} GPU hours")
        if self.price_per_gpu_hour is not None:
            amounts.append(f"a cost of {_format_amount(spending.gpu_hours * self.price_per_gpu_hour)}")
        return " and ".join(amounts)

    def describe_remedy(self, needed: Spending) -> str:
        """Options of the command with which some spending would fit, such as ``--max-time 3m``."""
        options: list[str] = []
        if self.max_seconds is not None and needed.seconds > self.max_seconds:
            options.append(f"--max-time {duration_option(needed.seconds)}")
        if self.max_gpu_hours is not None and needed.gpu_hours > self.max_gpu_hours:
            options.append(f"--max-gpu-hours {_round_up(needed.gpu_hours):g}")
        if self.max_cost is not None and self.price_per_gpu_hour is not None:
            cost = needed.gpu_hours * self.price_per_gpu_hour
            if cost > self.max_cost:
                options.append(f"--max-cost {_round_up(cost):g}")
        return " ".join(options)

    def require_gpus(self, *, takes_gpus: bool) -> None:
        """Refuse a limit of GPU hours, or of their cost, for trials that take no GPU.

        Raises:
            InvalidValue: for such a limit.
        """
        if self.limits_gpus and not takes_gpus:
            raise InvalidValue(
                "a limit of GPU hours or of their cost is given, but these trials take no GPU; expected a limit of "
                "time (--max-time), or trials with GPUs (--gpus-per-trial)."
            )

    def exceeded_by(self, spending: Spending) -> bool:
        """Whether some spending goes beyond a limit."""
        limits = [(spending.seconds, self.max_seconds), (spending.gpu_hours, self.max_gpu_hours)]
        if self.price_per_gpu_hour is not None:
            limits.append((spending.gpu_hours * self.price_per_gpu_hour, self.max_cost))
        return any(limit is not None and amount > limit for amount, limit in limits)


NO_BUDGET = RunBudget()


def parse_duration(text: str) -> float:
    """Parse a duration: ``90s``, ``12m``, ``3h``, ``1h30m``, ``2d``; returns seconds.

    Raises:
        InvalidValue: for any other text.
    """
    if not DURATION.fullmatch(text):
        raise InvalidValue(f"{text!r} is not a duration; expected a number with its unit: 90s, 12m, 3h, 1h30m or 2d.")
    pairs = re.findall(r"(\d+(?:\.\d+)?)([dhms])", text)
    seconds = sum(float(number) * UNIT_SECONDS[unit] for number, unit in pairs)
    if not seconds:
        raise InvalidValue(f"{text!r} is no time; expected a duration above 0.")
    return seconds


def format_seconds(seconds: float) -> str:
    """``45 s``, ``1 min 43 s``, ``3 h 20 min``, ``2 d 4 h``: the two largest units, rounded."""
    total = round(seconds)
    if total < 60:
        return f"{total} s"
    if total < 3_600:
        minutes, rest = divmod(total, 60)
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    minutes = round(seconds / 60)
    hours, rest = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {rest} min" if rest else f"{hours} h"
    days, rest = divmod(round(seconds / 3_600), 24)
    return f"{days} d {rest} h" if rest else f"{days} d"


def duration_option(seconds: float) -> str:
    """A duration as ``parse_duration`` reads it, rounded up: ``95s``, ``12m``, ``3h15m``."""
    if seconds <= 120:
        return f"{math.ceil(seconds)}s"
    minutes = math.ceil(seconds / 60)
    hours, rest = divmod(minutes, 60)
    if not hours:
        return f"{minutes}m"
    return f"{hours}h{rest}m" if rest else f"{hours}h"


def _format_amount(value: float) -> str:
    return f"{value:.2f}" if value >= 0.1 or value == 0 else f"{value:.2g}"


def _round_up(value: float) -> float:
    """Two significant digits, rounded up."""
    digits = 1 - math.floor(math.log10(value))
    unit = math.pow(10, -digits)
    return math.ceil(value / unit) * unit
