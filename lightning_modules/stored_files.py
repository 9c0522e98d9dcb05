"""Read stored JSON and arrays: bounded, typed, and verified by their checksums.

All that is read back from a runs folder or a tracking store is read here. Whatever is wrong with it raises a
:class:`DamagedFileError` that names the file and what to do. Nothing that is read is executed or unpickled.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lightning_modules.specs.errors import DamagedFileError, UserError

MAX_JSON_BYTES = 2**28  # a manifest of 10,000 trials takes 5e7
MAX_JSON_DEPTH = 32  # a setup, the deepest that is stored, takes 12
MAX_INTEGER_DIGITS = 20  # as many as 2^64 has
MAX_ARRAY_BYTES = 2**32  # labels and predictions take two bytes per example
CHUNK_BYTES = 2**22

CHECKSUM_KEY = "checksum"
NO_CHECKSUM = "0" * 64
# The last entry of a JSON object. The digest is of all other bytes of the file, so that no change of it goes unnoticed.
CHECKSUM_PATTERN = re.compile(rb'"checksum": "([0-9a-f]{64})"\s*\}\s*\Z')

Shape = Any
SchemaCheck = Callable[[Mapping[str, Any], object], None]
NUMBER = (int, float)
NUMBER_OR_NULL = (int, float, type(None))


def dump_json(data: Mapping[str, Any], indent: int | None = None) -> bytes:
    """Serialize an object with a checksum of the rest of the file as its last entry."""
    text = json.dumps({**data, CHECKSUM_KEY: NO_CHECKSUM}, indent=indent)
    head, _, tail = text.rpartition(NO_CHECKSUM)
    return (head + hash_bytes((head + tail).encode()) + tail).encode()


def read_json(file: Path, shape: Shape, remedy: str, require_schema: SchemaCheck | None = None) -> dict[str, Any]:
    """Read a JSON object from a file.

    Args:
        shape: what it must hold, as :func:`require_shape` describes.
        remedy: what a user can do where the file is damaged.
        require_schema: given the data and their source, refuses those of another version with a :class:`UserError`;
            called before the shape is checked, which that version may have changed.

    Raises:
        FileNotFoundError: where there is no such file.
        DamagedFileError: where it cannot be read, is too large, or does not hold such an object.
    """
    return parse_json(read_bounded(file, MAX_JSON_BYTES, remedy), shape, file, remedy, require_schema)


def parse_json(
    content: bytes, shape: Shape, source: object, remedy: str, require_schema: SchemaCheck | None = None
) -> dict[str, Any]:
    """Parse a JSON object, and verify its checksum where it has one (files of earlier versions have none).

    Args:
        source: path or address of the content, for the error.

    Raises:
        DamagedFileError: as :func:`read_json` does.
    """
    try:
        data = _parse_bounded(content)
        if not isinstance(data, dict):
            raise ValueError(f"it holds {describe_value(data)} instead of an object")
        # First: where the schema itself is what was damaged, nobody is to look for another version.
        if CHECKSUM_KEY in data:
            _verify_own_checksum(content)
            del data[CHECKSUM_KEY]
        if require_schema:
            require_schema(data, source)
        require_shape(data, shape)
    except UserError:
        raise
    # RecursionError: the parser's own answer to thousands of nested brackets.
    except (ValueError, RecursionError) as error:
        raise DamagedFileError(source, _first_line(error), remedy) from error
    return data


def require_stored_shape(data: Any, shape: Shape, source: object, remedy: str) -> None:
    """Refuse parsed content of another shape.

    Raises:
        DamagedFileError: with what was found, and what was expected.
    """
    try:
        require_shape(data, shape)
    except ValueError as error:
        raise DamagedFileError(source, _first_line(error), remedy) from error


def _parse_bounded(content: bytes) -> Any:
    """Parse JSON whose numbers and depth are bounded; ``NaN``, which Python once wrote, stays not-a-number."""
    if len(content) > MAX_JSON_BYTES:
        raise ValueError(f"it has {len(content):,} bytes, above the limit of {MAX_JSON_BYTES:,}")
    if not content.strip():
        raise ValueError("it is empty")
    text = content.decode()  # a UnicodeDecodeError is a ValueError
    data = json.loads(text, parse_int=_bounded_integer, parse_float=_finite_number, parse_constant=lambda _: math.nan)
    _require_depth(data)
    return data


def _bounded_integer(text: str) -> int:
    if len(text) > MAX_INTEGER_DIGITS:
        raise ValueError(f"it holds an integer of {len(text)} digits")
    return int(text)


def _finite_number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"it holds the number {text[:40]}, which is out of range")
    return number


def _require_depth(data: Any) -> None:
    level = [data] if isinstance(data, (dict, list)) else []
    for _ in range(MAX_JSON_DEPTH + 1):
        children: list[Any] = []
        for container in level:
            children += container.values() if isinstance(container, dict) else container
        level = [child for child in children if isinstance(child, (dict, list))]
        if not level:
            return
    raise ValueError(f"its content is nested more than {MAX_JSON_DEPTH} levels deep")


def _verify_own_checksum(content: bytes) -> None:
    match = CHECKSUM_PATTERN.search(content)
    if match is None:
        raise ValueError("its checksum is unreadable")
    rest = content[: match.start(1)] + content[match.end(1) :]
    if hash_bytes(rest) != match[1].decode():
        raise ValueError("its checksum does not match its content")


def require_shape(value: Any, shape: Shape, where: str = "") -> None:
    """Refuse a value of another shape.

    Args:
        shape: a type, or a tuple of types (no ``bool`` passes for a number); ``[shape]``, a list of such values;
            ``{"*": shape}``, an object of such values; another dict, an object with exactly these keys, of which those
            that end in ``?`` may be missing.
        where: path of the value, for the error.

    Raises:
        ValueError: with the path, what was found, and what was expected.
    """
    if isinstance(shape, list):
        _require_kind(value, list, where)
        for index, item in enumerate(value):
            require_shape(item, shape[0], f"{where}[{index}]")
    elif isinstance(shape, dict):
        _require_kind(value, dict, where)
        _require_entries(value, shape, where)
    else:
        _require_kind(value, shape, where)


def _require_entries(value: Mapping[str, Any], shape: Mapping[str, Shape], where: str) -> None:
    if "*" in shape:
        for key, item in value.items():
            require_shape(item, shape["*"], f"{where}.{key}" if where else key)
        return
    shapes = {key.removesuffix("?"): item_shape for key, item_shape in shape.items()}
    for key in shape:
        if not key.endswith("?") and key not in value:
            raise ValueError(f"it lacks {where + '.' if where else ''}{key}")
    for key, item in value.items():
        if key not in shapes:
            raise ValueError(f"it holds an unknown entry {(where + '.' if where else '') + key[:60]!r}")
        require_shape(item, shapes[key], f"{where}.{key}" if where else key)


def _require_kind(value: Any, kinds: type | tuple[type, ...], where: str) -> None:
    allowed = kinds if isinstance(kinds, tuple) else (kinds,)
    is_stray_bool = isinstance(value, bool) and bool not in allowed and object not in allowed
    if isinstance(value, allowed) and not is_stray_bool:
        return
    names = " or ".join(KIND_NAMES.get(kind, kind.__name__) for kind in allowed)
    raise ValueError(f"{where or 'it'} is {describe_value(value)}; expected {names}")


KIND_NAMES = {
    dict: "an object",
    list: "a list",
    str: "text",
    int: "an integer",
    float: "a number",
    bool: "true or false",
    type(None): "null",
}


def describe_value(value: Any) -> str:
    """A stored value in words, shortened."""
    if isinstance(value, (dict, list)):
        return KIND_NAMES[type(value)]
    text = json.dumps(value) if isinstance(value, (str, int, float, bool, type(None))) else type(value).__name__
    return text if len(text) <= 40 else f"{text[:40]} ..."


def read_bounded(file: Path, max_bytes: int, remedy: str) -> bytes:
    """Content of a file of bounded size.

    Raises:
        FileNotFoundError: where there is no such file.
        DamagedFileError: where it is larger, or cannot be read.
    """
    try:
        with file.open("rb") as stream:
            content = stream.read(max_bytes + 1)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise DamagedFileError(file, error.strerror or str(error), remedy) from error
    if len(content) > max_bytes:
        raise DamagedFileError(file, f"it is larger than {max_bytes:,} bytes", remedy)
    return content


def read_array(file: Path, dtype: npt.DTypeLike, remedy: str, checksum: str = "") -> npt.NDArray[Any]:
    """Read a one-dimensional array from a NumPy file.

    Args:
        dtype: expected type of its numbers.
        checksum: SHA-256 of the file; empty where it is unknown.

    Raises:
        FileNotFoundError: where there is no such file.
        DamagedFileError: where it cannot be read, or holds another array.
    """
    return parse_array(read_bounded(file, MAX_ARRAY_BYTES, remedy), dtype, file, remedy, checksum)


def parse_array(
    content: bytes, dtype: npt.DTypeLike, source: object, remedy: str, checksum: str = ""
) -> npt.NDArray[Any]:
    """Parse a one-dimensional array from the bytes of a NumPy file; nothing is unpickled.

    Raises:
        DamagedFileError: as :func:`read_array` does.
    """
    if checksum and hash_bytes(content) != checksum:
        raise DamagedFileError(source, "its checksum does not match its content", remedy)
    try:
        shape, found, offset = _read_array_header(io.BytesIO(content), len(content))
        if len(shape) != 1 or found != np.dtype(dtype):
            raise ValueError(f"it holds {found} of shape {shape}; expected {np.dtype(dtype)} of one dimension")
    except ValueError as error:
        raise DamagedFileError(source, _first_line(error), remedy) from error
    return np.frombuffer(content, dtype=found, count=shape[0], offset=offset).copy()


def require_array_size(file: Path, remedy: str) -> None:
    """Compare the header of a NumPy file with the file's size, before anything is allocated for it.

    Raises:
        FileNotFoundError: where there is no such file.
        DamagedFileError: where they disagree, or the header cannot be read.
    """
    try:
        with file.open("rb") as stream:
            _read_array_header(stream, file.stat().st_size)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise DamagedFileError(file, _first_line(error), remedy) from error


def _read_array_header(stream: Any, num_bytes: int) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    """Shape, type and offset of the numbers in a NumPy file.

    Raises:
        ValueError: where the header cannot be read, or does not agree with the number of bytes.
    """
    try:
        version = np.lib.format.read_magic(stream)
        read_header = np.lib.format.read_array_header_1_0
        if version != (1, 0):
            read_header = np.lib.format.read_array_header_2_0
        shape, _, dtype = read_header(stream)
    except Exception as error:  # a forged header is evaluated as a literal: SyntaxError, MemoryError, KeyError, ...
        raise ValueError(f"it has no readable header of a NumPy file ({_first_line(error)})") from error
    if dtype.hasobject:
        raise ValueError("it holds pickled objects, which are never loaded")
    expected_bytes = math.prod(shape) * dtype.itemsize + stream.tell()
    if min(shape, default=0) < 0 or expected_bytes != num_bytes:
        raise ValueError(f"its header announces {expected_bytes:,} bytes, and it has {num_bytes:,}")
    return shape, dtype, stream.tell()


def hash_bytes(content: bytes | memoryview) -> str:
    """SHA-256 of some bytes, in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def hash_file(file: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
