"""Versions of what is written to disk, so that an engine of another version neither misreads nor forgets it.

Every persisted object carries the number of its format. A reader takes older formats, keeps fields that it does not
know (see `split`), and refuses a newer format: what it means cannot be guessed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from slipway.base.errors import RefusedError

KEY = "format"
OLDEST = 1  # what was written before objects carried a number
UNKNOWN = "unknown"  # the field of a dataclass that keeps what its class does not know


def check(value: Mapping[str, Any], newest: int, source: str) -> int:
    """The format of a decoded object; RefusedError when it is newer than `newest`. `source` is its file."""
    found = value.get(KEY, OLDEST)
    if not isinstance(found, int) or found > newest:
        raise RefusedError(
            f"{source} was written by a newer version of Slipway (format {found}; this version reads up to {newest}). "
            "Run site.yml with the newer version."
        )
    return found


def split(value: Mapping[str, Any], kind: type) -> tuple[dict[str, Any], dict[str, Any]]:
    """A decoded object as the arguments for the dataclass `kind`, and the fields that `kind` does not know."""
    known = {item.name for item in fields(kind)} - {UNKNOWN}
    return (
        {name: item for name, item in value.items() if name in known},
        {name: item for name, item in value.items() if name not in (*known, KEY, UNKNOWN)},
    )


def stamped(instance: Any, newest: int) -> dict[str, Any]:
    """A dataclass instance as an object to be written: its fields, those that it only keeps, and the format."""
    return {KEY: newest, **_merged(asdict(instance))}


def _merged(value: dict[str, Any]) -> dict[str, Any]:
    """The fields that an object, or one inside of it, only keeps, put back among its own."""
    own = {name: item for name, item in value.items() if name != UNKNOWN}
    return {
        **value.get(UNKNOWN, {}),
        **{name: _merged(item) if isinstance(item, dict) and UNKNOWN in item else item for name, item in own.items()},
    }
