"""The manifest of a release: written once when the release is built, read by every later phase."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
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
    `follows` are the revisions that have to be run before this one; None in a manifest of an earlier version of the
    engine, where that is the revision before it in the list.
    """

    revision: str
    message: str
    oldest_compatible: str | None = None
    follows: tuple[str, ...] | None = None

    def __str__(self) -> str:
        return f"{self.revision} {self.message}".strip()


@dataclass(frozen=True)
class Manifest:
    """The identity of a release. `revisions` is oldest first; None if the app has no alembic.

    `version_table` is the table in which alembic keeps the revision of the database, quoted for SQL; "" if alembic was
    not asked for it, then it is alembic's usual one. `setup` is a digest of the files that set alembic up: releases in
    which it is the same have the same `version_table`. `module` is what serves the app, as it was found when the
    release was built; "" in a manifest of an earlier version of the engine. `packages` is what its virtualenv is known
    by: a digest of the lock file and of what decides what is installed of it. `built_with` is one of the settings by
    which it was built.
    """

    release: str
    tag: str | None
    sha: str
    subject: str
    python: str
    lock_sha256: str
    built_at: str
    heads: list[str] = field(default_factory=list)
    revisions: list[Revision] | None = None
    version_table: str = ""
    setup: str = ""
    module: str = ""
    left_out: list[str] = field(default_factory=list)  # files with variables, which the commit has
    migrates: str = ""  # how its database was to be migrated when it was built; "" of an earlier version: by alembic
    alembic_at: str = ""  # the directory of the release in which alembic runs; "" is the app's
    data: list[str] = field(default_factory=list)  # the paths in it that are links to what is kept
    packages: str = ""
    built_with: str = ""
    unknown: dict[str, Any] = field(default_factory=dict)  # fields of another version of the engine

    @property
    def version(self) -> str:
        """The name of the release for people: its tag, or else its commit."""
        return self.tag or self.sha[:12]

    def pending(self, current: str | None) -> list[Revision]:
        """Revisions of this release that were not run on a database at `current` (None: an empty database).

        Nothing is pending when this release does not have `current`: then the schema is ahead of the release.
        """
        if not self.knows(current):
            return []
        done = self._behind(current)
        return [item for item in self.revisions or [] if item.revision not in done]

    def knows(self, current: str | None) -> bool:
        """Whether this release has the database's revision `current` (None, an empty database, counts as known)."""
        return _parts(current) <= {item.revision for item in self.revisions or []}

    def breaking(self, older: Manifest, current: str | None) -> Revision | None:
        """The first revision of this release, up to `current`, on which the code of `older` cannot run; else None."""
        if older.revisions is None or not self.knows(current):
            return None
        done = self._behind(current)
        for item in self.revisions or []:
            newer = item.revision in done and not older.knows(item.revision)
            if newer and item.oldest_compatible and not older.knows(item.oldest_compatible):
                return item
        return None

    def _behind(self, current: str | None) -> set[str]:
        """The revisions that a database at `current` has, with all that they follow on."""
        follows: dict[str, tuple[str, ...]] = {}
        before: tuple[str, ...] = ()
        for item in self.revisions or []:
            follows[item.revision] = before if item.follows is None else item.follows
            before = (item.revision,)
        return ancestors(follows, _parts(current))


def ancestors(follows: Mapping[str, Iterable[str]], names: Iterable[str]) -> set[str]:
    """These revisions and all that they follow on; `follows` has what each one follows on at once."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting.extend(follows.get(name, ()))
    return found


def _parts(current: str | None) -> set[str]:
    """The revisions of a database that is at several, as `database.current_revision` names them."""
    return set(current.split(",")) if current else set()


def dump(manifest: Manifest) -> str:
    return json.dumps(formats.stamped(manifest, FORMAT), indent=2) + "\n"


def load(value: dict[str, Any]) -> Manifest:
    """Build a Manifest from decoded JSON; TypeError, KeyError or AttributeError when it is not one."""
    revisions = value.get("revisions")
    if revisions is not None:
        revisions = [_revision(item) for item in revisions]
    arguments, unknown = formats.split(value, Manifest)
    made = Manifest(**{**arguments, "revisions": revisions}, unknown=unknown)
    texts = [made.release, made.sha, made.subject, made.python, made.lock_sha256, made.built_at, made.version_table]
    texts += [made.module, made.setup, made.packages, made.built_with]
    if not all(isinstance(text, str) for text in (*texts, *made.heads, *made.left_out)) or not isinstance(
        made.tag, str | None
    ):
        raise TypeError("a text is not one")
    return made


def _revision(value: dict[str, Any]) -> Revision:
    follows = value.get("follows")
    made = Revision(
        value["revision"],
        value["message"],
        value.get("oldest_compatible"),
        None if follows is None else tuple(follows),
    )
    if not all(isinstance(text, str) for text in (made.revision, made.message, *(made.follows or ()))):
        raise TypeError("a text is not one")
    return made


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
        made = load(value)
    except (TypeError, KeyError, AttributeError):
        return None
    return made if made.release == Path(made.release).name else None  # it is the name of a directory
