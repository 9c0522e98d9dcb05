"""Lines of a search's journal, which Optuna writes and reads: each holds a checksum of itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning_modules.specs.errors import DamagedFileError
from lightning_modules.stored_files import CHECKSUM_KEY, dump_json, parse_json, read_bounded

JOURNAL_REMEDY = "It is moved aside; the search asks for the same candidates, and those that ended are not retrained."
MAX_JOURNAL_BYTES = 2**30  # a candidate takes a few kilobytes


def add_checksum(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return an entry with a checksum of itself as its last value."""
    with_checksum: dict[str, Any] = json.loads(dump_json(entry))
    return with_checksum


def verify_journal(file: Path) -> int:
    """Verify every line of a journal.

    Returns:
        The number of bytes of whole lines; what follows them was cut off as it was written.

    Raises:
        DamagedFileError: for a line that is damaged, or has no checksum.
    """
    content = read_bounded(file, MAX_JOURNAL_BYTES, JOURNAL_REMEDY)
    *lines, cut_off = content.split(b"\n")
    for number, line in enumerate(lines, start=1):
        try:
            # As it was when its checksum was taken: Optuna leaves the spaces out.
            _verify_line(json.dumps(json.loads(line)).encode(), file)
        except (ValueError, RecursionError) as error:
            reason = f"line {number}: {getattr(error, 'reason', error)}"
            raise DamagedFileError(file, reason, JOURNAL_REMEDY) from error
    return len(content) - len(cut_off)


def _verify_line(line: bytes, file: Path) -> None:
    if f'"{CHECKSUM_KEY}": '.encode() not in line:
        raise ValueError("it has no checksum")
    parse_json(line, {"*": object}, file, JOURNAL_REMEDY)
