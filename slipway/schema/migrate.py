"""Migrate: bring the database to the release's head, as the migration role, before new code takes traffic.

And the way back, where it is asked for in so many words: a downgrade loses data, so a dump is made first.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from slipway.base import process
from slipway.base.errors import FailedError, RefusedError
from slipway.base.settings import Settings
from slipway.records import journal
from slipway.records.manifest import Manifest, Revision
from slipway.release import store
from slipway.schema import database
from slipway.slot import slots


def pending(settings: Settings, release: Manifest) -> tuple[str | None, list[Revision]]:
    """The database's revision, and what this release would still run on it."""
    current = database.current_revision(settings, database.migration_environment(settings))
    return current, release.pending(current)


def nothing_to_run(settings: Settings, release: Manifest) -> str:
    """Why the release has no migration to run; "" when it has.

    FailedError when the database is at a revision that the release does not know, unless its own head was reached
    before that and nothing says that its code cannot run there.
    """
    if release.revisions is None:
        return "the app has no alembic"
    current, waiting = pending(settings, release)
    if not release.knows(current):
        _check_ahead(settings, release, str(current))
        if reason := obstacle(settings, release, current):
            raise FailedError(reason)
        return f"the database is at {current}, ahead of this release"
    return "" if waiting else "the database is at this release's head"


def upgrade(settings: Settings, release: Manifest) -> str:
    """Run the pending migrations; a sentence of what was done.

    Indexes that an earlier run failed to build are dropped first: they serve no query, and stand in the way of the next
    attempt. FailedError with alembic's last lines when a migration fails; it says where the database stands then, and
    what is in it that was not before.
    """
    environment = database.migration_environment(settings)
    before, waiting = pending(settings, release)
    schema = database.catalog(settings, environment)
    invalid = sorted(item.name for item in schema if item.is_invalid)
    for name in invalid:
        database.drop_index(settings, environment, name)
    problem = _alembic(settings, release, environment, "upgrade", "head")
    if problem is not None:
        raise FailedError(_whereabouts(settings, environment, before, schema), problem)
    after = database.current_revision(settings, environment)
    if after not in release.heads:
        raise FailedError(f"alembic ended well, but the database is at {after or 'no revision'}, not at head.")
    dropped = f"; dropped before, as invalid: index {', '.join(invalid)}" if invalid else ""
    return f"{len(waiting)} migration(s): {before or 'empty'} to {after}{dropped}"


def obstacle(settings: Settings, release: Manifest, current: str | None) -> str:
    """Why the code of a release cannot run on a database at `current`, as newer migrations declare; "" if it can."""
    newer = _went_through(settings, current)
    found = newer.breaking(release, current) if newer is not None else None
    return breaks(found, release) if found is not None else ""


def breaks(migration: Revision, release: Manifest) -> str:
    """The sentence for a migration that the code of an older release cannot run on."""
    return (
        f"{release.version} cannot run on the schema from migration {migration} on: that wants code which has "
        f"{migration.oldest_compatible}, and {release.version} ends at {', '.join(release.heads) or 'none'}."
    )


def check_downgrade(settings: Settings, release: Manifest) -> None:
    """RefusedError when the schema cannot be taken back to the head of `release`, or there is no room for a dump."""
    environment = database.migration_environment(settings)
    current = database.current_revision(settings, environment)
    newer = _went_through(settings, current)
    if newer is None or not release.heads or not newer.knows(release.heads[0]):
        raise RefusedError(f"No release on this host has the migrations between {current} and {release.version}.")
    size, free = database.size(settings, environment), shutil.disk_usage(settings.root).free
    if free < size:
        raise RefusedError(
            f"{settings.root} has {free // 2**20} MB free, too little for a dump of {size // 2**20} MB. Free some."
        )


def downgrade(settings: Settings, release: Manifest) -> str:
    """Dump the database, then take its schema back to the head of `release`; a sentence that says where the dump is."""
    environment = database.migration_environment(settings)
    current = database.current_revision(settings, environment)
    newer = _went_through(settings, current)
    if current is None or newer is None:
        raise FailedError(f"No release on this host has the migrations that lead to {current}.")
    target = _dump(settings, environment, current)
    problem = _alembic(settings, newer, environment, "downgrade", release.heads[0])
    if problem is not None:
        raise FailedError(f"A downgrade failed; the dump from before it is {target}.", problem)
    return f"the schema went back from {current} to {release.heads[0]}; what it held before is in {target}"


def restore(settings: Settings, revision: str) -> str:
    """Bring the schema forward again to where it was before a downgrade; data that went with that does not return."""
    environment = database.migration_environment(settings)
    newer = _went_through(settings, revision)
    if newer is None or database.current_revision(settings, environment) == revision:
        return ""
    problem = _alembic(settings, newer, environment, "upgrade", revision)
    if problem is not None:
        raise FailedError(f"The schema could not be brought back to {revision}.", problem)
    return f"The schema is at {revision} again; its old data is in the newest dump in {settings.backups}."


def _went_through(settings: Settings, revision: str | None) -> Manifest | None:
    """A release on this host, the live one if it will do, that carries the migrations which lead to `revision`."""
    live = slots.live_release(settings)
    present = store.complete(settings)
    for _, item in sorted(present.items(), key=lambda pair: pair[0] != live):
        if revision is not None and item.revisions is not None and item.knows(revision):
            return item
    return None


def _check_ahead(settings: Settings, release: Manifest, current: str) -> None:
    """FailedError unless the database went through this release's head on its way to `current`.

    Otherwise the two have branched, and a migration of this release was never run.
    """
    reached = journal.migrated_heads(journal.read(settings.journal))
    for other in store.complete(settings).values():
        if other.revisions is not None and other.knows(current):
            reached.update(item.revision for item in other.revisions)
    if not reached.issuperset(release.heads):
        raise FailedError(
            f"The database is at {current}, which {release.version} does not know, and its own head "
            f"{', '.join(release.heads)} was never reached. Rebase its migrations on {current}."
        )


def _alembic(settings: Settings, release: Manifest, environment: Mapping[str, str], *arguments: str) -> str | None:
    """Run alembic as a release has it; its last lines when it fails, else None."""
    directory = settings.release(release.release)
    try:
        result = process.run(
            [directory / ".venv/bin/python", "-m", "alembic", *arguments],
            user=settings.migrate_user,
            environment={**environment, "RELEASE_TAG": release.tag or "", "RELEASE_SHA": release.sha},
            directory=directory,
            timeout=settings.migrate_timeout,
        )
    except FailedError as error:  # out of time; what it had done by then is for the caller to find out
        return str(error)
    said = process.tail(result.stdout + result.stderr)
    if result.returncode < 0:
        return f"{said}\nalembic was ended by signal {-result.returncode}".strip()
    return None if result.returncode == 0 else said


def _whereabouts(
    settings: Settings, environment: Mapping[str, str], before: str | None, schema: frozenset[database.Item]
) -> str:
    """After a failed migration: at which revision the database stands, and what is different in its schema."""
    try:
        after = database.current_revision(settings, environment)
        changed = database.difference(schema, database.catalog(settings, environment))
    except FailedError as error:
        return f"A migration failed, and where the database stands is unknown: {error} {error.detail}".strip()
    where = "where it was" if after == before else f"at {after} (it was at {before or 'none'})"
    stays = f" What it has changed stays, a second run must bear it: {'; '.join(changed)}." if changed else ""
    return f"A migration failed; the database's revision is {where}.{stays} The live release was not touched."


def _dump(settings: Settings, environment: Mapping[str, str], current: str) -> Path:
    """A fresh dump in the app's directory of backups, which only root and the migration role can read."""
    settings.backups.mkdir(mode=0o700, exist_ok=True)
    if os.geteuid() == 0:
        shutil.chown(settings.backups, settings.migrate_user)
    made = settings.backups / f"{settings.app}-{current}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.dump"
    database.dump(settings, environment, made)
    return made
