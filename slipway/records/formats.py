"""Format numbers of persisted objects, so that an engine of another version neither misreads nor loses them.

Every persisted object carries the number of its format. A reader accepts older formats, keeps fields that it does not
know (see `split`), and refuses a newer format, as it cannot know what that means.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from slipway.base.errors import RefusedError

KEY = "format"
OLDEST = 1  # the format of objects without a number, from before numbers were written
UNKNOWN = "unknown"  # the field of a dataclass that keeps the fields that the class does not know


def check(value: Mapping[str, Any], newest: int, source: str) -> int:
    """The format of a decoded object; RefusedError if it is newer than `newest`. `source` is its file."""
    found = value.get(KEY, OLDEST)
    if not isinstance(found, int) or found > newest:
        raise RefusedError(
            f"{source} was written by a newer version of Slipway (format {found}; this version reads up to {newest}). "
            "Run site.yml with the newer version."
        )
    return found


def split(value: Mapping[str, Any], kind: type) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split a decoded object into the arguments for the dataclass `kind`, and the fields that `kind` does not know."""
    known = {item.name for item in fields(kind)} - {UNKNOWN}
    return (
        {name: item for name, item in value.items() if name in known},
        {name: item for name, item in value.items() if name not in (*known, KEY, UNKNOWN)},
    )


def stamped(instance: Any, newest: int) -> dict[str, Any]:
    """A dataclass instance as an object to be written: its fields, the unknown fields that it keeps, the format."""
    return {KEY: newest, **_merged(asdict(instance))}


def _merged(value: dict[str, Any]) -> dict[str, Any]:
    """An object with the unknown fields that it keeps put back among its own; also in objects inside of it."""
    own = {name: item for name, item in value.items() if name != UNKNOWN}
    return {
        **value.get(UNKNOWN, {}),
        **{name: _merged(item) if isinstance(item, dict) and UNKNOWN in item else item for name, item in own.items()},
    }
