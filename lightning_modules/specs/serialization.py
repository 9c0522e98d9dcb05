"""Specs as plain JSON data, and back."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from lightning_modules.specs.errors import InvalidValue
from lightning_modules.specs.values import Arguments, field_types, is_omitted


def to_json(value: object) -> Any:
    """Convert a spec to plain JSON data, in which every dataclass carries its class name under ``"kind"``."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        data: dict[str, Any] = {"kind": type(value).__name__}
        for name in field_types(type(value)):
            if is_omitted(value, name):
                continue
            data[name] = to_json(getattr(value, name))
        return data
    if isinstance(value, tuple):
        return list(map(to_json, value))
    if isinstance(value, Arguments):
        # Pairs, not an object: a name may be anything, `kind` included.
        return {"kind": "Arguments", "items": [list(item) for item in value.items()]}
    return value


def from_json(data: Any, classes: Mapping[str, type]) -> Any:
    """Invert :func:`to_json`, for the dataclasses that ``classes`` lists by name.

    Raises:
        InvalidValue: if the data names a class that is not listed.
    """
    if isinstance(data, list):
        return tuple(from_json(item, classes) for item in data)
    if isinstance(data, dict):
        class_name = data["kind"]
        if class_name not in classes:
            raise InvalidValue(f"unknown kind {class_name!r}; known: {', '.join(sorted(classes))}.")
        fields = {name: from_json(item, classes) for name, item in data.items() if name != "kind"}
        return classes[class_name](**fields)
    return data
