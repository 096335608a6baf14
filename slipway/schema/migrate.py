"""Migrations: bring the database to the release's head, as the migration role, before the new code takes traffic.

And downgrades, only if they are explicitly allowed: a downgrade can delete data, so a dump is made first.
"""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from slipway.base.errors import FailedError, RefusedError, SlipwayError
from slipway.base.settings import Settings
from slipway.records import journal
from slipway.records.manifest import Manifest, Revision
from slipway.release import store
from slipway.schema import commands, database, url
from slipway.slot import envfile, slots


def pending(settings: Settings, release: Manifest) -> tuple[str | None, list[Revision]]:
    """The database's revision, and the migrations of this release that were not run on it yet."""
    current = database.current_revision(settings, envfile.of_migrations(settings), release.version_table)
    return current, release.pending(current)


def nothing_to_run(settings: Settings, release: Manifest) -> str:
    """Why the release has no migration to run; "" if it has one, or only what migrates knows.

    FailedError when the database is at a revision that the release does not know, unless the release's head was reached
    before that, and no newer migration declares that the release's code cannot run on it.
    """
    if settings.migrates == "nothing":
        return "migrate is false"
    if settings.migrates == "commands":
        return ""
    if release.revisions is None:
        return "the app has no alembic"
    if settings.database == "none":
        return "the app has no database"
    if settings.database != "postgresql":
        return ""  # alembic itself knows
    current, waiting = pending(settings, release)
    if not release.knows(current):
        _check_ahead(settings, release, str(current))
        if reason := obstacle(settings, release, current):
            raise FailedError(reason)
        return f"the database is at {current}, ahead of this release"
    return "" if waiting else "the database is at this release's head"


def upgrade(settings: Settings, release: Manifest) -> str:
    """Run the pending migrations; a sentence that says what was done.

    Invalid indexes, which an earlier run failed to build, are dropped first: no query uses them, and the next attempt
    would fail because of them. When a migration fails: FailedError with alembic's last lines, the revision of the
    database after that, and the changes in its schema.
    """
    environment = envfile.of_migrations(settings)
    if settings.migrates == "commands":
        return _by_commands(settings, release, environment)
    if settings.database != "postgresql":
        return _upgrade_blindly(settings, release, environment)
    before, waiting = pending(settings, release)
    schema = database.catalog(settings, environment)
    invalid = sorted(item.name for item in schema if item.is_invalid)
    for name in invalid:
        database.drop_index(settings, environment, name)
    problem = _alembic(settings, release, environment, "upgrade", "heads")
    open_to_app = _protect_versions(settings, release, environment)
    if problem is not None:
        raise FailedError(_whereabouts(settings, release, environment, before, schema), problem)
    after = database.current_revision(settings, environment, release.version_table)
    if not release.knows(after) or release.pending(after):
        raise FailedError(
            f"alembic succeeded, but the database is at {after or 'no revision'}, not at {', '.join(release.heads)}."
        )
    dropped = f"; invalid indexes dropped before: {', '.join(invalid)}" if invalid else ""
    return f"{len(waiting)} migration(s): {before or 'empty'} to {after}{dropped}{open_to_app}"


def _upgrade_blindly(settings: Settings, release: Manifest, environment: Mapping[str, str]) -> str:
    """Let alembic bring a database, of which only it knows the revision, to the head; FailedError when it cannot."""
    if (problem := _alembic(settings, release, environment, "upgrade", "heads")) is not None:
        raise FailedError(
            f"A migration failed. What stays of it in the {settings.database} database is not known. The live release "
            "was not changed.",
            problem,
        )
    return f"alembic upgrade heads: {', '.join(release.heads) or 'no revision'}"


def _by_commands(settings: Settings, release: Manifest, environment: Mapping[str, str]) -> str:
    """Run the commands of `migrate`; a sentence with what has changed in the schema, as far as that is seen."""
    is_seen = settings.database == "postgresql"
    schema = database.catalog(settings, environment) if is_seen else frozenset()
    done, problem = _run_all(settings, release, environment)
    after = database.catalog(settings, environment) if is_seen else frozenset()
    changed = database.difference(schema, after)
    if problem is not None:
        stays = f" These changes were not rolled back: {'; '.join(changed)}." if changed else ""
        raise FailedError(f"A migration failed: '{done}'.{stays} The live release was not changed.", problem)
    return f"{done} ({len(changed)} change(s) in the schema)" if is_seen else done


def _run_all(settings: Settings, release: Manifest, environment: Mapping[str, str]) -> tuple[str, str | None]:
    """Run the commands of `migrate` in order: all of them, or the one that failed, with its last lines."""
    for command in settings.migrate:
        words = shlex.split(command)
        problem = commands.run(settings, release, words, settings.migration_user, environment)
        if problem is not None:
            return command, problem
    return ", ".join(settings.migrate), None


def _protect_versions(settings: Settings, release: Manifest, environment: Mapping[str, str]) -> str:
    """Let the app only read alembic's table of versions, which may be new; why that is not so, or ""."""
    try:
        role = url.connection(settings, envfile.of_app(settings)).get("PGUSER")
        database.protect_versions(settings, environment, release.version_table, role or settings.user)
    except SlipwayError as error:
        return f"; what the app may write in the table of versions is not known: {error} {error.detail}".rstrip()
    return ""


def stays(settings: Settings) -> str:
    """Why a rollback never changes the schema of this app; "" if it can."""
    if settings.migrates != "alembic":
        how = "false" if settings.migrates == "nothing" else f"'{', '.join(settings.migrate)}'"
        return f"apps.{settings.app}.migrate is {how}"
    return "" if settings.knows_revision else f"its database is {settings.database}"


def obstacle(settings: Settings, release: Manifest, current: str | None) -> str:
    """Why the code of a release cannot run on a database at `current`, as newer migrations declare; else ""."""
    newer = _went_through(settings, current)
    found = newer.breaking(release, current) if newer is not None else None
    return breaks(found, release) if found is not None else ""


def breaks(migration: Revision, release: Manifest) -> str:
    """The message for a migration on whose schema the code of an older release cannot run."""
    return (
        f"{release.version} cannot run on the schema after migration {migration}: that needs code which has migration "
        f"{migration.oldest_compatible}, and the last migration of {release.version} is "
        f"{', '.join(release.heads) or 'none'}."
    )


def check_downgrade(settings: Settings, release: Manifest) -> None:
    """RefusedError when the schema cannot be downgraded to the head of `release`, or a dump may not fit the disk."""
    environment = envfile.of_migrations(settings)
    current = database.current_revision(settings, environment, release.version_table)
    newer = _went_through(settings, current)
    if len(release.heads) > 1:
        raise RefusedError(
            f"{release.version} has {len(release.heads)} heads, and a schema is downgraded to a single one only. "
            "Downgrade it by hand with alembic, then roll back."
        )
    if newer is None or not release.heads or not newer.knows(release.heads[0]):
        raise RefusedError(f"No release on this host has the migrations between {current} and {release.version}.")
    size, free = database.size(settings, environment), shutil.disk_usage(settings.root).free
    if free < size:
        raise RefusedError(
            f"{settings.root} has {free // 2**20} MB free, and a dump may need {size // 2**20} MB. Free some space."
        )


def downgrade(settings: Settings, release: Manifest) -> str:
    """Dump the database, then downgrade its schema to the head of `release`; a sentence with the path of the dump."""
    environment = envfile.of_migrations(settings)
    current = database.current_revision(settings, environment, release.version_table)
    newer = _went_through(settings, current)
    if current is None or newer is None:
        raise FailedError(f"No release on this host has the migrations that lead to {current}.")
    target = _dump(settings, environment, current)
    problem = _alembic(settings, newer, environment, "downgrade", release.heads[0])
    if problem is not None:
        raise FailedError(f"A downgrade failed. The dump from before it is {target}.", problem)
    return f"schema downgraded from {current} to {release.heads[0]}; the dump from before it is {target}"


def restore(settings: Settings, revision: str) -> str:
    """Upgrade the schema again to where it was before a downgrade. Data that the downgrade deleted does not return."""
    environment = envfile.of_migrations(settings)
    newer = _went_through(settings, revision)
    if newer is None or database.current_revision(settings, environment, newer.version_table) == revision:
        return ""
    for part in revision.split(","):
        problem = _alembic(settings, newer, environment, "upgrade", part)
        if problem is not None:
            raise FailedError(f"The schema could not be upgraded to {revision} again.", problem)
    return f"The schema is at {revision} again. The deleted data is in the newest dump in {settings.backups}."


def _went_through(settings: Settings, revision: str | None) -> Manifest | None:
    """A release on this host that has the migration `revision`, the live one if possible; None if there is none."""
    live = slots.live_release(settings)
    present = store.complete(settings)
    for _, item in sorted(present.items(), key=lambda pair: pair[0] != live):
        if revision is not None and item.revisions is not None and item.knows(revision):
            return item
    return None


def _check_ahead(settings: Settings, release: Manifest, current: str) -> None:
    """FailedError unless the database was at this release's head before it came to `current`.

    Otherwise the two histories have branched, and a migration of this release was never run.
    """
    reached = journal.migrated_heads(journal.read(settings.journal))
    for other in store.complete(settings).values():
        if other.revisions is not None and other.knows(current):
            reached.update(item.revision for item in other.revisions)
    if not reached.issuperset(release.heads):
        raise FailedError(
            f"The database is at {current}, which {release.version} does not have, and it never was at the head of "
            f"{release.version}, {', '.join(release.heads)}. Rebase the migrations of {release.version} on {current}."
        )


def _alembic(settings: Settings, release: Manifest, environment: Mapping[str, str], *arguments: str) -> str | None:
    """Run the alembic of a release; its last lines when it fails, else None."""
    python = settings.release(release.release) / ".venv/bin/python"
    command = [str(python), "-m", "alembic", *arguments]
    return commands.run(settings, release, command, settings.migration_user, environment, release.alembic_at)


def _whereabouts(
    settings: Settings,
    release: Manifest,
    environment: Mapping[str, str],
    before: str | None,
    schema: frozenset[database.Item],
) -> str:
    """The message after a failed migration: the database's revision, and what is different in its schema."""
    try:
        after = database.current_revision(settings, environment, release.version_table)
        changed = database.difference(schema, database.catalog(settings, environment))
    except FailedError as error:
        return f"A migration failed, and the database's revision is unknown: {error} {error.detail}".strip()
    where = f"still {before or 'none'}" if after == before else f"{after} now (it was {before or 'none'})"
    stays = ""
    if changed:
        stays = f" These changes were not rolled back, and the next run must expect them: {'; '.join(changed)}."
    return f"A migration failed. The database's revision is {where}.{stays} The live release was not changed."


def _dump(settings: Settings, environment: Mapping[str, str], current: str) -> Path:
    """Write a new dump to the app's directory of backups, which only root can enter."""
    keep_to_root(settings.backups)
    made = settings.backups / f"{settings.app}-{current}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.dump"
    database.dump(settings, environment, made)
    return made


def keep_to_root(directory: Path) -> None:
    """Make a directory this user's alone. Earlier versions of Slipway gave it to the migration role."""
    directory.mkdir(mode=0o700, exist_ok=True)
    os.chown(directory, os.geteuid(), os.getegid(), follow_symlinks=False)
    directory.chmod(0o700)
