"""Errors about an ablation as declared."""

from __future__ import annotations

from lightning_modules.specs.errors import UserError


class InvalidAblation(UserError):
    """An ablation that cannot be run as declared; the text says why."""


class NotASingleChange(InvalidAblation):
    """An arm differs from the baseline outside the declared paths; the text lists the stray changes."""


class UnknownAblation(UserError):
    """No ablation of that name; the text suggests the nearest one and lists all."""
