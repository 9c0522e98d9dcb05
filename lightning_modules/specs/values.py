"""Checked frozen dataclasses with dotted paths: validation, flattening, editing."""

from __future__ import annotations

import collections.abc
import dataclasses
import math
import types
import typing
from collections.abc import Hashable, Iterable, Iterator, Mapping
from functools import cache
from typing import Any, Literal, TypeVar

from lightning_modules.specs.errors import InvalidValue, UnknownPath, did_you_mean

Leaf = bool | int | float | str

# Metadata of a field that is left out of paths and JSON while it has its default: added to a dataclass, it leaves the
# fingerprints and the records of earlier trials as they are.
OMIT_DEFAULT: Mapping[str, bool] = {"omit_default": True}
T = TypeVar("T")


def same_leaf(leaf: object, other: object) -> bool:
    """Whether two leaves are one setting: ``1``, ``True`` and ``1.0`` are three, and NaN is equal to NaN."""
    return _leaf_identity(leaf) == _leaf_identity(other)


def _leaf_identity(leaf: object) -> tuple[type, object]:
    # By the type that JSON has for it, since that is what a fingerprint reads: NumPy's float64 is a float there.
    leaf_type = next((kind for kind in (bool, int, float, str) if isinstance(leaf, kind)), type(leaf))
    return leaf_type, "nan" if isinstance(leaf, float) and math.isnan(leaf) else leaf


class Arguments(Mapping[str, Leaf]):
    """Named leaves as one immutable, hashable value, sorted by name.

    Sorted, so that the order in which arguments were written changes neither equality nor a trial's fingerprint. Two
    are equal if every leaf is the same (:func:`same_leaf`).
    """

    def __init__(self, items: Mapping[str, Leaf] | Iterable[tuple[str, Leaf]] = ()) -> None:
        # As in fields, 0.0 and -0.0 are one setting: their sum with 0.0 is 0.0.
        leaves = {name: leaf + 0.0 if isinstance(leaf, float) else leaf for name, leaf in dict(items).items()}
        self._items = dict(sorted(leaves.items()))

    def __getitem__(self, name: str) -> Leaf:
        return self._items[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Mapping):
            return NotImplemented
        return self._identity == Arguments(other)._identity

    def __hash__(self) -> int:
        return hash(self._identity)

    def __repr__(self) -> str:
        return repr(self._items)

    @property
    def _identity(self) -> tuple[tuple[str, tuple[type, object]], ...]:
        return tuple((name, _leaf_identity(leaf)) for name, leaf in self._items.items())


# -- Validation --------------------------------------------------------------------------------------------------------


def check_fields(value: object) -> None:
    """Check every field of a dataclass instance against its annotation; a float field turns an int into a float.

    Raises:
        InvalidValue: naming the field, the value given and what is expected.
    """
    cls = type(value)
    for name, annotation in field_types(cls).items():
        field_value = getattr(value, name)
        if not _accepts_value(annotation, field_value):
            members = typing.get_args(annotation) if _is_union(annotation) else (annotation,)
            choices = [choice for member in members for choice in _literal_choices(member)]
            suggestion = did_you_mean(field_value, choices) if isinstance(field_value, str) else ""
            raise InvalidValue(
                f"{cls.__name__}.{name} is {field_value!r}; expected {describe_annotation(annotation)}.{suggestion}"
            )
        if annotation is float:
            # 1 and 1.0 are one setting, with one fingerprint, and so are 0.0 and -0.0, whose sum with 0.0 is 0.0; the
            # dataclass is frozen, hence `object.__setattr__`.
            object.__setattr__(value, name, float(field_value) + 0.0)


def freeze_arguments(owner: object, field_name: str) -> None:
    """Replace a field's mapping, such as a plain dict, by ``Arguments``; also of a frozen dataclass.

    Raises:
        InvalidValue: for what is no mapping, or a name that is no text.
    """
    items = getattr(owner, field_name)
    if not isinstance(items, Mapping) or not all(isinstance(name, str) for name in items):
        expected = describe_annotation(field_types(type(owner))[field_name])
        raise InvalidValue(f"{type(owner).__name__}.{field_name} is {items!r}; expected {expected}.")
    object.__setattr__(owner, field_name, Arguments(items))


def require_field(condition: bool, owner: object, field_name: str, expected: str) -> None:
    """Raise ``InvalidValue`` about ``owner.field_name`` unless a condition holds."""
    if not condition:
        raise InvalidValue(
            f"{type(owner).__name__}.{field_name} is {getattr(owner, field_name)!r}; expected {expected}."
        )


def field_types(cls: type) -> dict[str, Any]:
    """Field names of a dataclass with their resolved annotations."""
    return _field_types(cls)


# Cached, since resolving annotations evaluates them as code. `Hashable`, since to type checkers not every type is.
@cache
def _field_types(cls: Hashable) -> dict[str, Any]:
    assert isinstance(cls, type)
    hints = typing.get_type_hints(cls)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


# -- Paths -------------------------------------------------------------------------------------------------------------


def is_omitted(owner: object, name: str) -> bool:
    """Whether a field of a dataclass value is one that is left out at its default, and has it."""
    (field,) = (field for field in dataclasses.fields(owner) if field.name == name)  # type: ignore[arg-type]
    return "omit_default" in field.metadata and getattr(owner, name) == field.default


def flatten_fields(value: object, prefix: str = "", *, with_omitted: bool = False) -> dict[str, Leaf]:
    """Dotted paths of all leaves: ``{"network.stages.0.width": 64, ...}``.

    Where a field accepts several dataclasses, a leaf ``<path>.kind`` names the class of its value: a VGG network and a
    residual one would otherwise differ only in their other leaves.

    Args:
        with_omitted: whether to list also the fields that are left out at their default (``OMIT_DEFAULT``).
    """
    if isinstance(value, (bool, int, float, str)):
        return {prefix: value}
    leaves: dict[str, Leaf] = {}
    children: dict[str, object] = {}
    if isinstance(value, tuple):
        children = {str(index): item for index, item in enumerate(value)}
    elif isinstance(value, Arguments):
        children = dict(value)
    else:
        for name, annotation in field_types(type(value)).items():
            if is_omitted(value, name) and not with_omitted:
                continue
            children[name] = getattr(value, name)
            if _is_union(annotation):
                leaves[_join_path(prefix, f"{name}.kind")] = type(children[name]).__name__
    for name, child in children.items():
        leaves |= flatten_fields(child, _join_path(prefix, name), with_omitted=with_omitted)
    return leaves


def edit_field(value: T, path: str, new_value: object) -> T:
    """Copy a dataclass value with the field at a dotted path replaced.

    Raises:
        UnknownPath: if the path names no field.
        InvalidValue: if the field does not accept the new value.
    """
    head, _, rest = path.partition(".")
    _field_annotation(value, head)
    if isinstance(value, tuple):
        index = int(head)
        new_item = edit_field(value[index], rest, new_value) if rest else new_value
        return (*value[:index], new_item, *value[index + 1 :])  # type: ignore[return-value]
    if isinstance(value, Arguments):
        new_leaf = edit_field(value[head], rest, new_value) if rest else new_value  # below a leaf there is no field
        return Arguments({**value, head: new_leaf})  # type: ignore[return-value, arg-type]
    new_field = edit_field(getattr(value, head), rest, new_value) if rest else new_value
    # `replace` runs `__post_init__`, so that the copy is checked as any other value.
    return dataclasses.replace(value, **{head: new_field})  # type: ignore[type-var]


def edit_fields(value: T, leaves: Mapping[str, Leaf]) -> T:
    """Copy a dataclass value with several fields replaced, in their order; see :func:`edit_field`."""
    for path, leaf in leaves.items():
        value = edit_field(value, path, leaf)
    return value


def annotation_at(value: object, path: str) -> Any:
    """The annotation of the field at a dotted path.

    Raises:
        UnknownPath: if the path names no field.
    """
    head, _, rest = path.partition(".")
    annotation = _field_annotation(value, head)
    if not rest:
        return annotation
    if isinstance(value, tuple):
        return annotation_at(value[int(head)], rest)
    return annotation_at(value[head] if isinstance(value, Arguments) else getattr(value, head), rest)


def _field_annotation(value: object, name: str) -> Any:
    if isinstance(value, tuple):
        # Written in one way only: under the path 00 an override would pass for another setting than that of 0.
        if name not in map(str, range(len(value))):
            raise UnknownPath(f"{name!r} is not an index of these {len(value)} items; expected 0 to {len(value) - 1}.")
        return type(value[int(name)])
    if isinstance(value, Arguments):
        if name not in value:
            raise UnknownPath(
                f"there is no argument {name!r}.{did_you_mean(name, value)} There are: {', '.join(value)}."
            )
        return type(value[name])
    if not dataclasses.is_dataclass(value):
        raise UnknownPath(f"{value!r} has no fields, so there is no field {name!r} below it.")
    annotations = field_types(type(value))
    if name not in annotations:
        raise UnknownPath(
            f"{type(value).__name__} has no field {name!r}.{did_you_mean(name, annotations)} "
            f"There are: {', '.join(annotations)}."
        )
    return annotations[name]


def _join_path(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name


# -- Annotations -------------------------------------------------------------------------------------------------------


def parse_leaf(annotation: Any, text: str) -> Leaf:
    """Read text, as it comes from a command line, as a field's type.

    Raises:
        InvalidValue: if the text cannot be read as that type.
    """
    if _literal_choices(annotation) or annotation is str:
        return text
    try:
        if annotation is bool:
            return {"true": True, "false": False}[text.lower()]  # bool("false") would be true
        if annotation is int:
            return int(text)
        if annotation is float:
            return float(text)
    except (ValueError, KeyError):
        raise InvalidValue(f"{text!r} cannot be read as {describe_annotation(annotation)}.") from None
    raise InvalidValue(f"a value of type {describe_annotation(annotation)} cannot be given as text.")


def describe_annotation(annotation: Any) -> str:
    """Describe an annotation in words: ``one of 'none', 'lrn-first'``; ``a whole number``."""
    choices = _literal_choices(annotation)
    if choices:
        return "one of " + ", ".join(map(repr, choices))
    descriptions = {int: "a whole number", float: "a finite number", bool: "true or false", str: "text"}
    if annotation in descriptions:
        return descriptions[annotation]
    origin, type_arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is tuple:
        return f"a tuple of {describe_annotation(type_arguments[0])}"
    if _is_union(annotation):
        return " or ".join(map(describe_annotation, type_arguments))
    if origin is collections.abc.Mapping:
        return "a mapping from names to numbers, texts or truth values"
    return f"a {annotation.__name__}"


def _is_union(annotation: Any) -> bool:
    # `X | Y` and `Union[X, Y]` have different origins up to Python 3.13.
    return typing.get_origin(annotation) in (typing.Union, types.UnionType)


def _literal_choices(annotation: Any) -> tuple[str, ...]:
    return typing.get_args(annotation) if typing.get_origin(annotation) is Literal else ()


def _accepts_value(annotation: Any, value: object) -> bool:
    origin, type_arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Literal:
        return value in type_arguments
    if origin is tuple:
        return isinstance(value, tuple) and _accepts_items(type_arguments, value)
    if _is_union(annotation):
        return any(_accepts_value(option, value) for option in type_arguments)
    if origin is collections.abc.Mapping:
        return isinstance(value, Arguments) and all(isinstance(leaf, Leaf) for leaf in value.values())
    # Python counts booleans among the integers; `epochs=True` is a mistake nevertheless.
    if annotation is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if annotation is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, annotation)


def _accepts_items(item_annotations: tuple[Any, ...], items: tuple[object, ...]) -> bool:
    """Whether a tuple has the items of ``tuple[X, ...]`` or of ``tuple[X, Y]``."""
    if len(item_annotations) == 2 and item_annotations[1] is Ellipsis:
        return all(_accepts_value(item_annotations[0], item) for item in items)
    return len(items) == len(item_annotations) and all(map(_accepts_value, item_annotations, items))
