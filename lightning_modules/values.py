"""Frozen dataclasses as values: checked when made, flattened to dotted paths, edited by path, read back from JSON."""

from __future__ import annotations

import collections.abc
import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Hashable, Iterable, Iterator, Mapping
from functools import cache
from typing import Any, Literal, TypeVar

Leaf = bool | int | float | str
T = TypeVar("T")


class Misuse(ValueError):
    """What a user gave cannot be used; the text says what was given, what is expected and what to do."""


class InvalidValue(Misuse):
    """A value that its field does not admit; the text says what was given and what is expected."""


class UnknownPath(InvalidValue):
    """A dotted path that names no field; the text suggests the nearest one."""


class Arguments(Mapping[str, Leaf]):
    """Named leaves as one immutable, hashable value, in the order of their names."""

    def __init__(self, items: Mapping[str, Leaf] | Iterable[tuple[str, Leaf]] = ()) -> None:
        self._items = dict(sorted(dict(items).items()))

    def __getitem__(self, name: str) -> Leaf:
        return self._items[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __hash__(self) -> int:
        return hash(tuple(self._items.items()))

    def __repr__(self) -> str:
        return repr(self._items)


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """``" Did you mean 'depth'?"``, or nothing where no known name is near."""
    near = difflib.get_close_matches(given, list(known), n=1, cutoff=0.5)
    return f" Did you mean {near[0]!r}?" if near else ""


def check(value: object) -> None:
    """Check every field of a dataclass instance against its annotation; a whole number in a float's place becomes one.

    Raises:
        InvalidValue: naming the field, the value given and what is expected.
    """
    kind = type(value)
    for name, annotation in field_types(kind).items():
        given = getattr(value, name)
        if not _admits(annotation, given):
            raise InvalidValue(
                f"{kind.__name__}.{name} is {given!r}; expected {describe(annotation)}."
                + (did_you_mean(given, _choices(annotation)) if isinstance(given, str) else "")
            )
        if annotation is float:
            object.__setattr__(value, name, float(given))  # 1 and 1.0 are one setting, with one fingerprint


def require(condition: bool, owner: object, field: str, expected: str) -> None:
    """Raise ``InvalidValue`` about ``owner.field`` unless ``condition`` holds."""
    if not condition:
        raise InvalidValue(f"{type(owner).__name__}.{field} is {getattr(owner, field)!r}; expected {expected}.")


def field_types(kind: type) -> dict[str, Any]:
    """Field names of a dataclass with their resolved annotations."""
    return _field_types(kind)


@cache
def _field_types(kind: Hashable) -> dict[str, Any]:
    assert isinstance(kind, type)
    hints = typing.get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def flatten(value: object, prefix: str = "") -> dict[str, Leaf]:
    """Dotted paths of all leaves: ``{"network.stages.0.width": 64, ...}``.

    Where a field admits several kinds of dataclass, a leaf ``<path>.kind`` names the one that is there.
    """
    if isinstance(value, (bool, int, float, str)):
        return {prefix: value}
    items: Iterable[tuple[str, object]]
    leaves: dict[str, Leaf] = {}
    if isinstance(value, tuple):
        items = ((str(index), item) for index, item in enumerate(value))
    elif isinstance(value, Arguments):
        items = value.items()
    else:
        types_of = field_types(type(value))
        items = [(name, getattr(value, name)) for name in types_of]
        leaves = {
            _join(prefix, f"{name}.kind"): type(inner).__name__ for name, inner in items if _is_union(types_of[name])
        }
    for name, item in items:
        leaves |= flatten(item, _join(prefix, name))
    return leaves


def edit(value: T, path: str, new: object) -> T:
    """A copy of a dataclass value in which the field at a dotted path is ``new``.

    Raises:
        UnknownPath: where the path names no field.
        InvalidValue: where the field does not admit the new value.
    """
    head, _, rest = path.partition(".")
    _field(value, head)
    if isinstance(value, tuple):
        index = int(head)
        changed = edit(value[index], rest, new) if rest else new
        return (*value[:index], changed, *value[index + 1 :])  # type: ignore[return-value]
    if isinstance(value, Arguments):
        return Arguments({**value, head: new})  # type: ignore[return-value, arg-type]
    changed = edit(getattr(value, head), rest, new) if rest else new
    return dataclasses.replace(value, **{head: changed})  # type: ignore[type-var]


def edit_all(value: T, leaves: Mapping[str, Leaf]) -> T:
    """A copy with several fields edited, in their order; see :func:`edit`."""
    for path, leaf in leaves.items():
        value = edit(value, path, leaf)
    return value


def annotation_at(value: object, path: str) -> Any:
    """The annotation of the field at a dotted path.

    Raises:
        UnknownPath: where the path names no field.
    """
    head, _, rest = path.partition(".")
    annotation = _field(value, head)
    if not rest:
        return annotation
    return annotation_at(value[int(head)] if isinstance(value, tuple) else getattr(value, head), rest)


def parse(annotation: Any, text: str) -> Leaf:
    """Text, as it comes from a command line, read as a field's type.

    Raises:
        InvalidValue: where the text cannot be read so.
    """
    choices = _choices(annotation)
    if choices or annotation is str:
        return text
    try:
        if annotation is bool:
            return {"true": True, "false": False}[text.lower()]
        if annotation is int:
            return int(text)
        if annotation is float:
            return float(text)
    except (ValueError, KeyError):
        raise InvalidValue(f"{text!r} cannot be read as {describe(annotation)}.") from None
    raise InvalidValue(f"a value of type {describe(annotation)} cannot be given as text.")


def to_json(value: object) -> Any:
    """Plain JSON data; every dataclass carries its class name under ``"kind"``."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {"kind": type(value).__name__} | {
            name: to_json(getattr(value, name)) for name in field_types(type(value))
        }
    if isinstance(value, tuple):
        return [to_json(item) for item in value]
    if isinstance(value, Arguments):
        return {"kind": "Arguments", "items": [list(item) for item in value.items()]}
    return value


def from_json(data: Any, kinds: Mapping[str, type]) -> Any:
    """The inverse of :func:`to_json`, for the dataclasses named in ``kinds``.

    Raises:
        InvalidValue: where the data name a kind that is not among them.
    """
    if isinstance(data, list):
        return tuple(from_json(item, kinds) for item in data)
    if isinstance(data, dict):
        name = data["kind"]
        if name not in kinds:
            raise InvalidValue(f"unknown kind {name!r}; known: {', '.join(sorted(kinds))}.")
        return kinds[name](**{key: from_json(item, kinds) for key, item in data.items() if key != "kind"})
    return data


def describe(annotation: Any) -> str:
    """An annotation in words: ``one of 'none', 'lrn-first'``; ``a whole number``."""
    choices = _choices(annotation)
    if choices:
        return "one of " + ", ".join(repr(choice) for choice in choices)
    words = {int: "a whole number", float: "a finite number", bool: "true or false", str: "text"}
    if annotation in words:
        return words[annotation]
    if typing.get_origin(annotation) is tuple:
        return f"a tuple of {describe(typing.get_args(annotation)[0])}"
    if _is_union(annotation):
        return " or ".join(describe(option) for option in typing.get_args(annotation))
    if typing.get_origin(annotation) is collections.abc.Mapping:
        return "names with numbers, texts or truth values"
    return f"a {annotation.__name__}"


def _field(value: object, name: str) -> Any:
    if isinstance(value, tuple):
        if not (name.isdigit() and int(name) < len(value)):
            raise UnknownPath(f"{name!r} is no place among {len(value)}; there are 0 to {len(value) - 1}.")
        return type(value[int(name)])
    if isinstance(value, Arguments):
        if name not in value:
            raise UnknownPath(
                f"there is no argument {name!r}.{did_you_mean(name, value)} There are: {', '.join(value)}."
            )
        return type(value[name])
    if not dataclasses.is_dataclass(value):
        raise UnknownPath(f"{value!r} has no fields of its own, so none named {name!r}.")
    known = field_types(type(value))
    if name not in known:
        raise UnknownPath(
            f"{type(value).__name__} has no field {name!r}.{did_you_mean(name, known)} There are: {', '.join(known)}."
        )
    return known[name]


def _join(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name


def _is_union(annotation: Any) -> bool:
    return typing.get_origin(annotation) in (typing.Union, types.UnionType)


def _choices(annotation: Any) -> tuple[str, ...]:
    return typing.get_args(annotation) if typing.get_origin(annotation) is Literal else ()


def _admits(annotation: Any, given: object) -> bool:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Literal:
        return given in arguments
    if origin is tuple:
        if not isinstance(given, tuple):
            return False
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return all(_admits(arguments[0], item) for item in given)
        return len(given) == len(arguments) and all(map(_admits, arguments, given))
    if _is_union(annotation):
        return any(_admits(option, given) for option in arguments)
    if origin is collections.abc.Mapping:
        return isinstance(given, Arguments) and all(
            isinstance(leaf, (bool, int, float, str)) for leaf in given.values()
        )
    if annotation is float:
        return isinstance(given, (int, float)) and not isinstance(given, bool) and math.isfinite(given)
    if annotation is int:
        return isinstance(given, int) and not isinstance(given, bool)
    return isinstance(given, annotation)
