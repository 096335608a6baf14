"""The migrations of a release that is being built: read from its files where they say it all, else asked of alembic."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from slipway.base import confined
from slipway.base.errors import FailedError
from slipway.base.settings import Settings
from slipway.records import manifest
from slipway.records.manifest import Revision
from slipway.release import configured, history, inside, store
from slipway.slot import envfile, surroundings

CONFIGURATION = configured.FILE

# One name, or two with a dot between them, as SQL has them: plain, or in quotes with any quote in it doubled.
_MOST_HEADS = 100
_NAME = r'(?:[A-Za-z_][A-Za-z0-9_$]*|"(?:[^"\0]|"")+")'
_TABLE = re.compile(rf"(?:{_NAME}(?:\.{_NAME})?)?")


@dataclass(frozen=True)
class Migrations:
    """What the manifest of a release says of them; `revisions` None: the app has no alembic."""

    heads: list[str] = field(default_factory=list)
    revisions: list[Revision] | None = None
    version_table: str = ""
    at: str = ""  # the directory of the release in which alembic runs; "" is the app's


def find(settings: Settings, release: Path, seen: history.Seen, identity: Mapping[str, str]) -> Migrations:
    """The migrations of the release in a directory, of which its files say what was `seen`.

    `identity` are the variables that tell the app which release it is. FailedError when alembic cannot read them, or
    could not run them: several heads that nobody has named, an `oldest_compatible` that is not there, a configuration
    that alembic does not find.
    """
    if settings.migrates != "alembic":
        return Migrations()
    environment = surroundings.complete(settings, release, {**envfile.of_migrations(settings), **identity})
    if not _has_alembic(release) and not (settings.workdir(release) / CONFIGURATION).exists():
        return Migrations()
    place = configured.place(settings, release, environment)
    found = _from_files(settings, seen, environment) or _ask(settings, release, environment, place)
    if place != settings.workdir(release):
        found = replace(found, at=str(place.relative_to(release)))
    names = {item.revision for item in found.revisions or []}
    for item in found.revisions or []:
        if item.oldest_compatible and item.oldest_compatible not in names:
            raise FailedError(
                f"Migration {item.revision} declares oldest_compatible = {item.oldest_compatible!r}, "
                "which is not a revision of this release."
            )
    return found


def _has_alembic(release: Path) -> bool:
    return any(release.glob(".venv/lib/python*/site-packages/alembic/__init__.py"))


def _from_files(settings: Settings, seen: history.Seen, environment: Mapping[str, str]) -> Migrations | None:
    """What the files alone say, and another release whose env.py is the same; None when alembic has to be asked.

    To start alembic, and let it connect to the database, takes more than half a second.
    """
    if "ALEMBIC_CONFIG" in environment or not seen.setup or not seen.revisions:
        return None
    tables = (item.version_table for item in store.complete(settings).values() if item.setup == seen.setup)
    table = next(filter(None, tables), "")
    return Migrations([seen.revisions[-1].revision], seen.revisions, table) if table else None


def _ask(settings: Settings, release: Path, environment: Mapping[str, str], place: Path) -> Migrations:
    """What alembic says, run in the release as its migrations are going to be run."""
    answer = inside.ask(
        "alembic_question",
        release,
        directory=place,
        unit=confined.Unit(
            f"slipway-{settings.app}_question",
            f"Reading the migrations of {settings.app}",
            settings.migration_user,
            writable=(settings.data_directory,),
            properties=store.alone(settings),
        ),
        environment=environment,
        timeout=settings.migrate_timeout,  # env.py may wait for a migration that somebody else runs
        purpose="alembic cannot read the release's migrations",
    )
    if reason := answer.get("absent"):
        _check_absence(settings.workdir(release), str(reason))
        return Migrations()
    try:
        found = Migrations(list(map(_text, answer["heads"])), listed(answer), _text(answer["version_table"]))
        _check_heads(found.heads, answer["revisions"])
    except (KeyError, TypeError, AttributeError) as error:
        raise FailedError("alembic cannot read the release's migrations: its answer is none.") from error
    if not _TABLE.fullmatch(found.version_table):
        raise FailedError(
            "alembic cannot read the release's migrations: the name of its table of versions is none of PostgreSQL."
        )
    return found


def listed(answer: Mapping[str, Any]) -> list[Revision]:
    """The revisions in alembic's answer, oldest first."""
    return [_revision(item, [*item["down"], *item["depends"]]) for item in answer["revisions"]]


def seen(answer: Any) -> history.Seen:
    """What a build says that the files of its release say; nothing, so that alembic is asked, when it is no answer."""
    try:
        revisions = [_revision(item, item["follows"]) for item in answer["revisions"] or []]
        return history.Seen(_text(answer["setup"]), revisions or None)
    except (KeyError, TypeError):
        return history.Seen()


def _revision(item: Mapping[str, Any], follows: Sequence[Any]) -> Revision:
    oldest = item["oldest_compatible"]
    return Revision(
        _text(item["revision"]),
        _text(item["message"]),
        None if oldest is None else _text(oldest),
        tuple(map(_text, follows)),
    )


def _text(value: Any) -> str:
    """The value, which has to be a text, as the answer comes from code of the project; else TypeError."""
    if not isinstance(value, str):
        raise TypeError
    return value


def _check_absence(release: Path, reason: str) -> None:
    """FailedError when a release without migrations has files of alembic somewhere: they would never be run."""
    found = _alembic_file(release)
    if found is None:
        return
    if found == Path(CONFIGURATION):
        cure = f"Add alembic to the dependencies in pyproject.toml, and a script_location to {CONFIGURATION}"
    elif found.name == CONFIGURATION:
        cure = f"Set ALEMBIC_CONFIG: {found} in the app's env"
    else:
        cure = f"Commit the {CONFIGURATION} that belongs to it, and check that .gitattributes does not leave it out"
    raise FailedError(
        f"The release has {found}, but {reason}, so its migrations would not be run. {cure}. "
        "If the app has no migrations, set migrate: false."
    )


def _alembic_file(release: Path) -> Path | None:
    """A configuration of alembic in the source of a release, or an env.py of migrations; the one nearest to the top."""
    found = []
    for directory, names, files in os.walk(release):
        place = Path(directory).relative_to(release)
        names[:] = [name for name in names if name != ".venv"]
        if CONFIGURATION in files:
            found.append(place / CONFIGURATION)
        if "env.py" in files and ("versions" in names or "script.py.mako" in files):
            found.append(place / "env.py")
    return min(found, key=lambda path: (path.name != CONFIGURATION, len(path.parts), path), default=None)


def _check_heads(heads: Sequence[str], found: Sequence[Mapping[str, Any]]) -> None:
    """FailedError when two heads have grown from one revision and neither has a label: somebody forgot to merge them.

    Others are meant: histories in directories of their own, and branches with a label.
    """
    if len(heads) > _MOST_HEADS:
        raise FailedError(f"The migrations have {len(heads)} heads; run `alembic merge`.")
    descends = {item["revision"]: item["down"] for item in found}  # what it only depends on is of another branch
    labelled = {item["revision"] for item in found if item["labels"]}
    seen: dict[str, str] = {}
    for head in heads:
        if head in labelled:
            continue
        for name in manifest.ancestors(descends, [head]):
            if seen.setdefault(name, head) != head:
                raise FailedError(f"The migrations have {len(heads)} heads ({', '.join(heads)}); run `alembic merge`.")
