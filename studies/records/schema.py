"""Schema versions of stored files, and of what commands print."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning_modules.specs.errors import UserError
from studies.records.results import RECORD_SCHEMA

# Of what commands print with --json (docs/verdict.schema.json): raised when a key is removed or changes its meaning.
PRINTED_SCHEMA = 1


class SchemaVersionError(UserError):
    """Data stored by another version of this package; the text names both schemas and the remedy."""


def require_schema(
    data: Mapping[str, Any],
    source: object,
    supported: int = RECORD_SCHEMA,
    alternative: str = ", or give another --runs",
) -> None:
    """Refuse data that another version of this package stored.

    Args:
        alternative: to the other version, for the error.

    Raises:
        SchemaVersionError: with the schema found, and whether it is newer or older.
    """
    schema = data.get("schema")
    if schema == supported:
        return
    # Data without a schema number count as older.
    if isinstance(schema, int) and schema > supported:
        age, remedy = "newer", "Update this package"
    else:
        age, remedy = "older", "Use the version that stored it"
    raise SchemaVersionError(
        f"{source} was stored under schema {'none' if schema is None else schema}, which is {age} than this version's, "
        f"{supported}. {remedy}{alternative}."
    )
