"""Migrate: bring the database to the release's head, as the migration role, before new code takes traffic."""

from __future__ import annotations

from collections.abc import Mapping

from slipway import database, journal, process, releases
from slipway.config import Settings
from slipway.errors import FailedError
from slipway.manifest import Manifest


def pending(settings: Settings, release: Manifest) -> tuple[str | None, list[str]]:
    """The database's revision, and what this release would still run on it ("0002 add notes")."""
    current = database.current_revision(settings, database.migration_environment(settings))
    return current, [f"{item.revision} {item.message}".strip() for item in release.pending(current)]


def upgrade(settings: Settings, release: Manifest) -> tuple[bool, str]:
    """Run the pending migrations: whether there were any, and a sentence of what was done or found.

    FailedError with alembic's last lines when one fails; it says at which revision the database stands then. Also
    when the database is at a revision that the release does not know, unless its own head was reached before that.
    """
    if release.revisions is None:
        return False, "the app has no alembic"
    environment = database.migration_environment(settings)
    before = database.current_revision(settings, environment)
    if not release.knows(before):
        _check_ahead(settings, release, str(before))
        return False, f"the database is at {before}, ahead of this release"
    waiting = release.pending(before)
    if not waiting:
        return False, "the database is at this release's head"
    _alembic_upgrade(settings, release, environment, before)
    after = database.current_revision(settings, environment)
    if after not in release.heads:
        raise FailedError(f"alembic ended well, but the database is at {after or 'no revision'}, not at head.")
    return True, f"{len(waiting)} migration(s): {before or 'empty'} to {after}"


def _check_ahead(settings: Settings, release: Manifest, current: str) -> None:
    """FailedError unless the database went through this release's head on its way to `current`.

    Otherwise the two have branched, and a migration of this release was never run.
    """
    reached = journal.migrated_heads(journal.read(settings.journal))
    for other in releases.complete(settings).values():
        if other.revisions is not None and other.knows(current):
            reached.update(item.revision for item in other.revisions)
    if not reached.issuperset(release.heads):
        raise FailedError(
            f"The database is at {current}, which {release.tag or release.sha[:12]} does not know, and its own head "
            f"{', '.join(release.heads)} was never reached. Rebase its migrations on {current}."
        )


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
    evidence = process.tail(result.stdout + result.stderr)
    try:
        after = database.current_revision(settings, environment)
    except FailedError as error:
        raise FailedError(f"A migration failed, and where the database stands is unknown: {error}", evidence) from None
    where = "where it was" if after == before else f"at {after} (it was at {before or 'none'})"
    raise FailedError(
        f"A migration failed; the database's revision is {where}. The live release was not touched.", evidence
    )
