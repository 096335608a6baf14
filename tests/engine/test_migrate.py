from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from slipway.base import files
from slipway.base import settings as config
from slipway.base.errors import FailedError, RefusedError
from slipway.records import manifest
from slipway.schema import database, migrate
from slipway.schema.database import Item

from .fakes import Programs, write_release


def _release(name: str, *revisions: str, compatible: dict[str, str] | None = None) -> manifest.Manifest:
    known = [manifest.Revision(item, f"step {item}", (compatible or {}).get(item)) for item in revisions]
    return manifest.Manifest(name, name, name * 20, "", "3.13", "", "", [revisions[-1]], known)


At = Callable[..., None]
TABLE = Item("table", "notes", "notes")


class Catalogs:
    """What the database holds, one look after the other; the last one stays."""

    def __init__(self) -> None:
        self.left: list[frozenset[Item]] = [frozenset({TABLE})]

    def hold(self, *catalogs: set[Item]) -> None:
        self.left = [frozenset(items) for items in catalogs]

    def look(self, *_: Any) -> frozenset[Item]:
        return self.left.pop(0) if len(self.left) > 1 else self.left[0]


@pytest.fixture
def catalogs(monkeypatch: pytest.MonkeyPatch) -> Catalogs:
    made = Catalogs()
    monkeypatch.setattr(database, "catalog", made.look)
    return made


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch, catalogs: Catalogs) -> At:
    """Sets at which revision the database is, one question after the other; the last answer stays."""
    assert catalogs.left

    def answer(*answers: str | FailedError | None) -> None:
        left = list(answers)

        def current_revision(*_: Any) -> str | None:
            found = left.pop(0) if len(left) > 1 else left[0]
            if isinstance(found, FailedError):
                raise found
            return found

        monkeypatch.setattr(database, "current_revision", current_revision)

    return answer


def test_pending_migrations_run_and_are_counted(settings: config.Settings, programs: Programs, at: At) -> None:
    at("0001", "0001", "0003")
    release = _release("v1", "0001", "0002", "0003")
    assert migrate.nothing_to_run(settings, release) == ""
    assert migrate.upgrade(settings, release) == "2 migration(s): 0001 to 0003"
    ran, closed = programs.ran
    assert ran == f"{settings.releases}/v1/.venv/bin/python -m alembic upgrade heads"
    assert "to_regclass('alembic_version')" in closed
    assert "to_regrole('\"logbook\"')" in closed, "the user of the app's DATABASE_URL"


@pytest.mark.parametrize("code", [0, 1])
def test_the_table_of_versions_is_closed_to_the_app_however_a_migration_ends(
    settings: config.Settings, programs: Programs, at: At, code: int
) -> None:
    programs.answers["alembic upgrade"] = (code, "", "")
    at("0001", "0002")
    with contextlib.suppress(FailedError):
        migrate.upgrade(settings, dataclasses.replace(_release("v1", "0001", "0002"), version_table='public."v"'))
    assert "REVOKE" in programs.ran[-1]
    assert """to_regclass('public."v"')""" in programs.ran[-1]


def test_that_it_could_not_be_closed_is_said(settings: config.Settings, programs: Programs, at: At) -> None:
    programs.answers["REVOKE"] = (1, "", "ERROR:  42501: permission denied for table alembic_version")
    at("0001", "0002")
    done = migrate.upgrade(settings, _release("v1", "0001", "0002"))
    assert "what the app may write in the table of versions is not known: " in done
    assert "permission denied for table alembic_version" in done


def test_a_database_at_head_has_nothing_to_run(settings: config.Settings, at: At) -> None:
    at("0002")
    assert "at this release's head" in migrate.nothing_to_run(settings, _release("v1", "0001", "0002"))


@pytest.mark.usefixtures("programs")
def test_alembic_that_succeeds_but_is_not_at_the_head_fails(settings: config.Settings, at: At) -> None:
    at("0001", "0002")
    with pytest.raises(FailedError, match="alembic succeeded, but the database is at 0002, not at 0003"):
        migrate.upgrade(settings, _release("v1", "0001", "0002", "0003"))


@pytest.mark.parametrize(
    ("after", "sentence"),
    [
        ("0001", r"The database's revision is still 0001\."),
        ("0002", r"The database's revision is 0002 now \(it was 0001\)"),
        (FailedError("PostgreSQL does not answer."), "the database's revision is unknown: PostgreSQL does not"),
    ],
)
def test_a_failed_migration_shows_alembics_output_and_the_revision(
    settings: config.Settings, programs: Programs, at: At, after: str | FailedError, sentence: str
) -> None:
    programs.answers["alembic"] = (1, "Running upgrade 0001 -> 0002\n", "LockNotAvailable: lock timeout\n")
    at("0001", after)
    with pytest.raises(FailedError, match=sentence) as caught:
        migrate.upgrade(settings, _release("v1", "0001", "0002", "0003"))
    assert caught.value.detail == "Running upgrade 0001 -> 0002\nLockNotAvailable: lock timeout"


def test_a_failed_migration_names_the_changes_that_stay(
    settings: config.Settings, programs: Programs, at: At, catalogs: Catalogs
) -> None:
    programs.answers["alembic"] = (1, "", "IntegrityError: duplicate key\n")
    at("0001")
    catalogs.hold(
        {TABLE, Item("column", "notes", "notes.old text")},
        {
            TABLE,
            Item("column", "notes", "notes.slug text"),
            Item("index", "notes", "ix_slug", is_invalid=True),
            Item("table", "tags", "tags"),
            Item("column", "tags", "tags.id integer not null"),
        },
    )
    with pytest.raises(FailedError) as caught:
        migrate.upgrade(settings, _release("v1", "0001", "0002"))
    parts = "index ix_slug (INVALID) is new; column notes.old text is gone; column notes.slug text is new"
    left = f"These changes were not rolled back, and the next run must expect them: {parts}; table tags is new."
    assert left in str(caught.value)


def test_invalid_indexes_are_dropped_and_named_before_the_next_attempt(
    settings: config.Settings, programs: Programs, at: At, catalogs: Catalogs
) -> None:
    at("0001", "0002")
    catalogs.hold({TABLE, Item("index", "notes", "ix_slug", is_invalid=True), Item("index", "notes", "ix_good")})
    done = migrate.upgrade(settings, _release("v1", "0001", "0002"))
    assert done == "1 migration(s): 0001 to 0002; invalid indexes dropped before: ix_slug"
    drop, upgrade, _ = programs.ran
    assert drop.endswith("DROP INDEX CONCURRENTLY IF EXISTS ix_slug")
    assert upgrade.endswith("alembic upgrade heads")


def test_a_killed_alembic_is_reported_with_its_signal(settings: config.Settings, programs: Programs, at: At) -> None:
    programs.answers["alembic"] = (-9, "Running upgrade 0001 -> 0002\n", "")
    at("0001")
    with pytest.raises(FailedError) as caught:
        migrate.upgrade(settings, _release("v1", "0001", "0002"))
    assert caught.value.detail.endswith("alembic was killed by signal 9")


def test_a_release_on_the_host_shows_that_an_older_head_was_reached(settings: config.Settings, at: At) -> None:
    older = _release("v1", "0001", "0002")
    write_release(settings, older)
    at("0003")
    with pytest.raises(FailedError, match=r"at 0003, which v1 does not have.*Rebase the migrations of v1 on 0003"):
        migrate.nothing_to_run(settings, older)
    write_release(settings, _release("v2", "0001", "0002", "0003"))
    assert migrate.nothing_to_run(settings, older) == "the database is at 0003, ahead of this release"


# Which code a schema suits


@pytest.mark.parametrize(
    ("older", "current", "stops"),
    [
        (["0001"], "0003", True),  # ends before the revision that 0003 wants
        (["0001", "0002"], "0003", False),
        (["0001"], "0002", False),  # what would stop it has not run
        (["0001", "0002", "0003"], "0003", False),
        (["0001"], "0009", False),  # nobody here knows that revision
    ],
)
def test_oldest_compatible_decides_which_code_can_run_on_the_schema(
    settings: config.Settings, older: list[str], current: str, stops: bool
) -> None:
    write_release(settings, _release("v3", "0001", "0002", "0003", compatible={"0003": "0002"}))
    reason = migrate.obstacle(settings, _release("v1", *older), current)
    assert bool(reason) is stops
    if stops:
        assert reason == (
            "v1 cannot run on the schema after migration 0003 step 0003: that needs code which has migration 0002, "
            "and the last migration of v1 is 0001."
        )


@pytest.fixture
def contracted(settings: config.Settings, monkeypatch: pytest.MonkeyPatch) -> manifest.Manifest:
    """The release v1. v3 is live and has migrated the database to 0003, which needs code that has 0002."""
    write_release(settings, _release("v3", "0001", "0002", "0003", compatible={"0003": "0002"}))
    files.link_atomically(settings.slot("blue") / "release", "../../releases/v3")
    files.link_atomically(settings.live, "slots/blue")
    monkeypatch.setattr(database, "size", lambda *_: 1)
    return _release("v1", "0001")


@pytest.mark.usefixtures("programs")
def test_a_downgrade_dumps_first_and_runs_with_the_release_that_has_the_migrations(
    settings: config.Settings,
    programs: Programs,
    at: At,
    contracted: manifest.Manifest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(database, "dump", lambda *_: programs.ran.append(f"dump {_[2].name}"))
    at("0003")
    done = migrate.downgrade(settings, contracted)
    dump, alembic = programs.ran
    assert dump.startswith("dump logbook-0003-")
    assert alembic == f"{settings.releases}/v3/.venv/bin/python -m alembic downgrade 0001"
    assert done.startswith(f"schema downgraded from 0003 to 0001; the dump from before it is {settings.backups}/")
    assert settings.backups.stat().st_mode & 0o777 == 0o700


def test_without_a_dump_there_is_no_downgrade(
    settings: config.Settings, programs: Programs, at: At, contracted: manifest.Manifest
) -> None:
    programs.answers["pg_dump"] = (1, "", "pg_dump: error: permission denied\n")
    at("0003")
    with pytest.raises(FailedError, match="could not be dumped"):
        migrate.downgrade(settings, contracted)
    assert not any("alembic" in line for line in programs.ran)
    assert list(settings.backups.iterdir()) == []


def test_a_downgrade_without_disk_space_for_its_dump_is_refused(
    settings: config.Settings, at: At, contracted: manifest.Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "size", lambda *_: 2**60)
    at("0003")
    with pytest.raises(RefusedError, match="MB free, and a dump may need"):
        migrate.check_downgrade(settings, contracted)


def test_restore_upgrades_the_schema_only_if_it_was_downgraded(
    settings: config.Settings, programs: Programs, at: At, contracted: manifest.Manifest
) -> None:
    assert contracted
    at("0003")
    assert migrate.restore(settings, "0003") == ""
    at("0001")
    assert "at 0003 again" in migrate.restore(settings, "0003")
    assert programs.ran == [f"{settings.releases}/v3/.venv/bin/python -m alembic upgrade 0003"]
