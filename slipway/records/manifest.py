"""The manifest of a release: written once when the release is built, read by every later phase."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slipway.base import files
from slipway.records import formats

NAME = ".manifest.json"
COMPLETE = ".complete"
FORMAT = 1


@dataclass(frozen=True)
class Revision:
    """One alembic revision, as the migration scripts of the release declare it.

    `oldest_compatible`, if declared, is the oldest revision whose code can still run on the schema after this one.
    """

    revision: str
    message: str
    oldest_compatible: str | None = None

    def __str__(self) -> str:
        return f"{self.revision} {self.message}".strip()


@dataclass(frozen=True)
class Manifest:
    """The identity of a release. `revisions` is oldest first; None if the app has no alembic."""

    release: str
    tag: str | None
    sha: str
    subject: str
    python: str
    lock_sha256: str
    built_at: str
    heads: list[str] = field(default_factory=list)
    revisions: list[Revision] | None = None
    unknown: dict[str, Any] = field(default_factory=dict)  # fields of another version of the engine

    @property
    def version(self) -> str:
        """The name of the release for people: its tag, or else its commit."""
        return self.tag or self.sha[:12]

    def pending(self, current: str | None) -> list[Revision]:
        """Revisions of this release that were not run on a database at `current` (None: an empty database).

        Nothing is pending when this release does not have `current`: then the schema is ahead of the release.
        """
        revisions = self.revisions or []
        if current is None:
            return list(revisions)
        names = [item.revision for item in revisions]
        return revisions[names.index(current) + 1 :] if current in names else []

    def knows(self, current: str | None) -> bool:
        """Whether this release has the database's revision `current` (None, an empty database, counts as known)."""
        return current is None or any(item.revision == current for item in self.revisions or [])

    def breaking(self, older: Manifest, current: str | None) -> Revision | None:
        """The first revision of this release, up to `current`, on which the code of `older` cannot run; else None."""
        names = [item.revision for item in self.revisions or []]
        if older.revisions is None or current not in names:
            return None
        for item in (self.revisions or [])[: names.index(current) + 1]:
            if not older.knows(item.revision) and item.oldest_compatible and not older.knows(item.oldest_compatible):
                return item
        return None


def dump(manifest: Manifest) -> str:
    return json.dumps(formats.stamped(manifest, FORMAT), indent=2) + "\n"


def load(value: dict[str, Any]) -> Manifest:
    """Build a Manifest from decoded JSON; TypeError or KeyError when it is not one."""
    revisions = value.get("revisions")
    if revisions is not None:
        revisions = [Revision(item["revision"], item["message"], item.get("oldest_compatible")) for item in revisions]
    arguments, unknown = formats.split(value, Manifest)
    return Manifest(**{**arguments, "revisions": revisions}, unknown=unknown)


def read(release: Path) -> Manifest | None:
    """The manifest of a complete release directory; None when it is incomplete or damaged.

    RefusedError when a newer version of the engine built the release.
    """
    if not (release / COMPLETE).exists():
        return None
    value = files.read_json(release / NAME)
    if value is None:
        return None
    formats.check(value, FORMAT, str(release / NAME))
    try:
        return load(value)
    except (TypeError, KeyError):
        return None
