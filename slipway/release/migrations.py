"""The migrations of a release that is being built: read from its files where they say it all, else asked of alembic."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slipway.base import confined
from slipway.base.errors import FailedError
from slipway.base.settings import Settings
from slipway.records import manifest
from slipway.records.manifest import Revision
from slipway.release import history, inside, store
from slipway.slot import envfile

CONFIGURATION = "alembic.ini"


@dataclass(frozen=True)
class Migrations:
    """What the manifest of a release says of them; `revisions` None: the app has no alembic."""

    heads: list[str] = field(default_factory=list)
    revisions: list[Revision] | None = None
    version_table: str = ""


def find(settings: Settings, release: Path, python: str, identity: Mapping[str, str]) -> Migrations:
    """The migrations of the release in a directory, whose Python has the version `python`.

    `identity` are the variables that tell the app which release it is. FailedError when alembic cannot read them, or
    could not run them: several heads that nobody has named, an `oldest_compatible` that is not there, a configuration
    that alembic does not find.
    """
    environment = {**envfile.of_migrations(settings), **identity}
    if not _has_alembic(release) and not (release / CONFIGURATION).exists():
        return Migrations()
    found = _read(settings, release, python, environment) or _ask(settings, release, environment)
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


def _read(settings: Settings, release: Path, python: str, environment: Mapping[str, str]) -> Migrations | None:
    """What the files alone say, and another release whose env.py is the same; None when alembic has to be asked.

    To start alembic, and let it connect to the database, takes more than half a second.
    """
    if "ALEMBIC_CONFIG" in environment:
        return None
    table = _known_table(settings, release)
    revisions = history.read(release, python) if table else None
    return Migrations([revisions[-1].revision], revisions, table) if revisions else None


def _known_table(settings: Settings, release: Path) -> str:
    """The table of versions of another release here that sets alembic up with the same files; "" without one."""
    mine = history.setup(release)
    for name, other in store.complete(settings).items():
        if mine is not None and other.version_table and history.setup(settings.release(name)) == mine:
            return other.version_table
    return ""


def _ask(settings: Settings, release: Path, environment: Mapping[str, str]) -> Migrations:
    """What alembic says, run in the release as its migrations are going to be run."""
    answer = inside.ask(
        "alembic_question",
        release,
        unit=confined.Unit(
            f"slipway-{settings.app}-question",
            f"Reading the migrations of {settings.app}",
            settings.migrate_user,
            properties=store.alone(settings),
        ),
        environment=environment,
        timeout=settings.migrate_timeout,  # env.py may wait for a migration that somebody else runs
        purpose="alembic cannot read the release's migrations",
    )
    if reason := answer.get("absent"):
        _check_absence(release, str(reason))
        return Migrations()
    _check_heads(answer["heads"], answer["revisions"])
    return Migrations(answer["heads"], listed(answer), answer["version_table"])


def listed(answer: Mapping[str, Any]) -> list[Revision]:
    """The revisions in alembic's answer, oldest first."""
    return [
        Revision(item["revision"], item["message"], item["oldest_compatible"], (*item["down"], *item["depends"]))
        for item in answer["revisions"]
    ]


def _check_absence(release: Path, reason: str) -> None:
    """FailedError when a release without migrations has files of alembic somewhere: they would never be run."""
    found = _alembic_file(release)
    if found is None:
        return
    if found == Path(CONFIGURATION):
        cure = f"Add alembic to the dependencies in pyproject.toml, and a script_location to {CONFIGURATION}"
    elif found.name == CONFIGURATION:
        cure = f"Move it to the top directory, or set ALEMBIC_CONFIG: {found} in the app's env"
    else:
        cure = f"Commit the {CONFIGURATION} that belongs to it, and check that .gitattributes does not leave it out"
    raise FailedError(
        f"The release has {found}, but {reason}, so its migrations would not be run. {cure}. "
        "If the app has no migrations, delete that file."
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
    descends = {item["revision"]: item["down"] for item in found}  # what it only depends on is of another branch
    labelled = {item["revision"] for item in found if item["labels"]}
    seen: dict[str, str] = {}
    for head in heads:
        if head in labelled:
            continue
        for name in manifest.ancestors(descends, [head]):
            if seen.setdefault(name, head) != head:
                raise FailedError(f"The migrations have {len(heads)} heads ({', '.join(heads)}); run `alembic merge`.")
