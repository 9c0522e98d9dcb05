"""Click's ranges of numbers: they call what is no number "not a valid integer", without the word "range"."""

from __future__ import annotations

import click


class IntegerRange(click.IntRange):
    """An integer within bounds."""

    name = "integer"


class NumberRange(click.FloatRange):
    """A number within bounds."""

    name = "number"
