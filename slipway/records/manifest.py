"""What a release says of itself: written once when it is staged, read by every later phase."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from slipway.base import files

NAME = ".manifest.json"
COMPLETE = ".complete"


@dataclass(frozen=True)
class Revision:
    """One alembic revision, as the release's own migration scripts declare it.

    `oldest_compatible` is the oldest revision whose code still runs on the schema from this one on, where that is said.
    """

    revision: str
    message: str
    oldest_compatible: str | None = None

    def __str__(self) -> str:
        return f"{self.revision} {self.message}".strip()


@dataclass(frozen=True)
class Manifest:
    """The identity of a release. `revisions` is oldest first and None where the app has no alembic."""

    release: str
    tag: str | None
    sha: str
    subject: str
    python: str
    lock_sha256: str
    built_at: str
    heads: list[str] = field(default_factory=list)
    revisions: list[Revision] | None = None

    @property
    def version(self) -> str:
        """How people call the release: its tag, else the commit."""
        return self.tag or self.sha[:12]

    def pending(self, current: str | None) -> list[Revision]:
        """Revisions of this release that a database at `current` has not seen (None: an empty database).

        Nothing is pending when `current` is not one of ours: the schema is ahead of this release then.
        """
        revisions = self.revisions or []
        if current is None:
            return list(revisions)
        names = [item.revision for item in revisions]
        return revisions[names.index(current) + 1 :] if current in names else []

    def knows(self, current: str | None) -> bool:
        """Whether the database's revision is one that this release carries (or there is none yet)."""
        return current is None or any(item.revision == current for item in self.revisions or [])

    def breaking(self, older: Manifest, current: str | None) -> Revision | None:
        """The first revision up to `current`, one of ours, that the code of `older` cannot run on; None without one."""
        names = [item.revision for item in self.revisions or []]
        if older.revisions is None or current not in names:
            return None
        for item in (self.revisions or [])[: names.index(current) + 1]:
            if not older.knows(item.revision) and item.oldest_compatible and not older.knows(item.oldest_compatible):
                return item
        return None


def dump(manifest: Manifest) -> str:
    return json.dumps(asdict(manifest), indent=2) + "\n"


def load(value: dict[str, Any]) -> Manifest:
    """Build a Manifest from decoded JSON; TypeError or KeyError when it is none. Unknown keys are left out."""
    revisions = value.get("revisions")
    if revisions is not None:
        revisions = [Revision(item["revision"], item["message"], item.get("oldest_compatible")) for item in revisions]
    known = {item.name for item in fields(Manifest)}
    return Manifest(**{**{name: held for name, held in value.items() if name in known}, "revisions": revisions})


def read(release: Path) -> Manifest | None:
    """The manifest of a complete release directory; None when it is incomplete or damaged."""
    if not (release / COMPLETE).exists():
        return None
    value = files.read_json(release / NAME)
    try:
        return load(value) if value is not None else None
    except (TypeError, KeyError):
        return None
