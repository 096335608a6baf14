"""Migrate: bring the database to the release's head, as the migration role, before new code takes traffic."""

from __future__ import annotations

from collections.abc import Mapping

from slipway import database, process
from slipway.config import Settings
from slipway.errors import FailedError
from slipway.manifest import Manifest


def pending(settings: Settings, release: Manifest) -> tuple[str | None, list[str]]:
    """The database's revision, and what this release would still run on it ("0002 add notes")."""
    current = database.current_revision(settings, database.migration_environment(settings))
    return current, [f"{item.revision} {item.message}".strip() for item in release.pending(current)]


def upgrade(settings: Settings, release: Manifest) -> str:
    """Run the pending migrations; a sentence of what was done, "" when there was nothing to do.

    FailedError with alembic's last lines when one fails; it says at which revision the database stands then.
    """
    if release.revisions is None:
        return ""
    environment = database.migration_environment(settings)
    before = database.current_revision(settings, environment)
    waiting = release.pending(before)
    if not waiting:
        return ""
    _alembic_upgrade(settings, release, environment, before)
    after = database.current_revision(settings, environment)
    if after not in release.heads:
        raise FailedError(f"alembic ended well, but the database is at {after or 'no revision'}, not at head.")
    return f"{len(waiting)} migration(s): {before or 'empty'} to {after}"


def _alembic_upgrade(settings: Settings, release: Manifest, environment: Mapping[str, str], before: str | None) -> None:
    directory = settings.release(release.release)
    result = process.run(
        [directory / ".venv/bin/python", "-m", "alembic", "upgrade", "head"],
        user=settings.migrate_user,
        environment={**environment, "RELEASE_TAG": release.tag or "", "RELEASE_SHA": release.sha},
        directory=directory,
        timeout=settings.migrate_timeout,
    )
    if result.returncode == 0:
        return
    after = database.current_revision(settings, environment)
    where = "where it was" if after == before else f"at {after} (it was at {before or 'none'})"
    raise FailedError(
        f"A migration failed; the database's revision is {where}. The live release was not touched.",
        process.tail(result.stdout + result.stderr),
    )
