"""Checks of an ablation's fields as given, so that a mistake is told where the ablation is declared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

from ablations._claims import ENDPOINTS, Claim, endpoint_label
from ablations._errors import InvalidAblation
from ablations._property_contrast import PROPERTIES
from lightning_modules.specs.errors import did_you_mean

T = TypeVar("T")


def tuple_of(value: object, item_type: type[T], name: str) -> tuple[T, ...]:
    """Make a tuple of a single item or a list: ``claims=(Helps(...))`` without its comma is no tuple."""
    items = (value,) if isinstance(value, item_type) else value
    if not isinstance(items, (tuple, list)) or not all(isinstance(item, item_type) for item in items):
        raise InvalidAblation(
            f"`{name}` is {value!r}; expected a tuple of {item_type.__name__} objects, each with a comma."
        )
    return tuple(items)


def require_type(value: object, types: type | tuple[type, ...], name: str, expected: str) -> None:
    """Raise ``InvalidAblation`` about a field unless its value has one of some types."""
    if not isinstance(value, types):
        raise InvalidAblation(f"`{name}` is {value!r}; expected {expected}.")


def require_question(question: object) -> None:
    """Check that the question is text; of a file without a docstring it is ``None``."""
    require_type(question, (str, type(None)), "question", "text")
    if not isinstance(question, str) or not question.strip():
        raise InvalidAblation("an ablation needs a question: give the file a docstring, for question=__doc__.")


def require_reasons(forced: object) -> None:
    """Check that every forced path has its reason."""
    if not isinstance(forced, Mapping) or not all(isinstance(path, str) for path in forced):
        raise InvalidAblation(
            f"`forced` is {forced!r}; expected a mapping from paths to reasons: {{'recipe.epochs': 'Why it cannot be "
            "held equal.'}."
        )
    for path, reason in forced.items():
        if not isinstance(reason, str) or not reason.strip():
            raise InvalidAblation(
                f"`forced` has {reason!r} for {path}; expected the reason in words, which reports print."
            )


def require_property(name: object) -> None:
    """Check that the property studied is a measured one."""
    if name is None or name in PROPERTIES:
        return
    suggestion = did_you_mean(name, PROPERTIES) if isinstance(name, str) else ""
    raise InvalidAblation(
        f"`property_studied` is {name!r}; expected None or one of {', '.join(map(repr, PROPERTIES))}.{suggestion}"
    )


def require_measured_endpoints(claims: Iterable[Claim]) -> None:
    """Check that claims are about what the trials of a study have, and not about a ``Metric`` of other trainers."""
    for claim in claims:
        for endpoint in claim.endpoints:
            if endpoint not in ENDPOINTS:
                raise InvalidAblation(
                    f"a claim is about {endpoint_label(endpoint)!r}, a metric of results that were measured elsewhere; "
                    f"expected an endpoint of a study's trials: {', '.join(ENDPOINTS)}."
                )
