"""Commands of an app beside its migrations: `migrate` and `after_migrate`, and what a rollback does with them."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from slipway.base import settings as config
from slipway.base.errors import FailedError, RefusedError
from slipway.records import journal, manifest
from slipway.schema import commands, migrate
from tests.settings import written

from .fakes import V1, V2, Host, Programs, deployed, request

RELEASE = manifest.Manifest("v1", "v1", "1" * 40, "", "3.13", "", "")


def changed(host: Host, **settings: Any) -> None:
    host.settings = host.engine.settings = dataclasses.replace(host.settings, **settings)


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The commands that would be run, each with its user."""
    found: list[str] = []

    def run(_: Any, __: Any, command: list[str], user: str, *___: Any) -> str | None:
        found.append(f"{user}: {' '.join(command)}")
        return "Traceback: no such table" if "fails" in command else None

    monkeypatch.setattr(commands, "run", run)
    monkeypatch.setattr(commands, "check", lambda *_: None)
    return found


@pytest.mark.parametrize(
    ("value", "kind", "knows"), [(["alembic"], "alembic", True), ([], "nothing", False), (["x"], "commands", False)]
)
def test_kinds(settings: config.Settings, value: list[str], kind: str, *, knows: bool) -> None:
    chosen = dataclasses.replace(settings, migrate=value)
    assert (chosen.migrates, chosen.knows_revision) == (kind, knows)


def test_only_postgresql_has_a_role_of_its_own_for_migrations() -> None:
    values = {**written(), "user": "logbook", "migrate_user": "logbook_migrate"}
    users = {
        kind: config.parse({**values, "database": kind}, source="test").migration_user
        for kind in ("postgresql", "sqlite", "mysql", "none")
    }
    assert users == {"postgresql": "logbook_migrate", "sqlite": "logbook", "mysql": "logbook", "none": "logbook"}


def test_commands_come_after_the_migrations_and_at_each_deploy(host: Host, ran: list[str]) -> None:
    changed(host, after_migrate=["python seed.py --all", "true"])
    deployed(host, V1)
    assert [line.partition(": ")[2] for line in ran] == ["python seed.py --all", "true"]
    line = next(item for item in journal.read(host.settings.journal) if item.phase == "migrate")
    assert (line.outcome, line.message) == ("ok", "the database is at this release's head; 2 command(s) after it")
    deployed(host, V2)
    assert len(ran) == 4
    host.engine.rollback(request(V1), "v1")
    assert len(ran) == 4, "not in a rollback"


def test_one_that_fails_undoes_the_deployment(host: Host, ran: list[str]) -> None:
    deployed(host, V1)
    changed(host, after_migrate=["python fails", "never"])
    with pytest.raises(FailedError, match=r"'python fails' of after_migrate failed\. v1-1+ serves as before") as caught:
        deployed(host, V2)
    assert caught.value.detail == "Traceback: no such table"
    assert len(ran) == 1
    assert host.results()[-1] == ("deploy", "v2", "failed")
    assert "start green" not in host.calls


@pytest.mark.parametrize(
    ("kind", "database_url", "is_elsewhere"),
    [
        ("postgresql", "postgresql://a@/a?host=/run/postgresql", False),
        ("postgresql", "postgresql://a@one,two/a", True),
        ("mysql", "mysql+aiomysql://a:b@db.example.com/a", True),
        ("mysql", "mysql+aiomysql://a@localhost/a?unix_socket=/run/mysqld/mysqld.sock", False),
        ("mysql", "mysql://[", False),
        ("sqlite", "sqlite:///a.db", False),
        ("none", "", False),
    ],
)
def test_where_a_database_is(settings: config.Settings, kind: Any, database_url: str, *, is_elsewhere: bool) -> None:
    settings.env_file.write_text(f'DATABASE_URL="{database_url}"\n')
    chosen = dataclasses.replace(settings, database=kind)
    assert commands.is_done_elsewhere(chosen) == is_elsewhere


@pytest.mark.parametrize(
    ("database_url", "others"),
    [("postgresql://a@/a?host=/run/postgresql", 1), ("postgresql://a@localhost/a", 1), ("postgresql://a@db/a", 0)],
)
def test_of_several_hosts_one_runs_them_where_the_database_is_one(
    host: Host, ran: list[str], database_url: str, others: int
) -> None:
    host.settings.env_file.write_text(f'DATABASE_URL="{database_url}"\nSECRET_KEY="x"\n')
    changed(host, after_migrate=["seed"])
    host.engine.stage(request(V1, fleet=("a", "b")), None)
    host.engine.phase("migrate", "alice", later=True)
    assert len(ran) == others


def test_a_command_that_migrates_is_run_by_one_of_several_hosts(host: Host, ran: list[str]) -> None:
    host.settings.env_file.write_text('DATABASE_URL="postgresql://a@db/a"\nSECRET_KEY="x"\n')
    changed(host, migrate=["aerich upgrade"])
    host.engine.stage(request(V1, fleet=("a", "b")), None)
    done = host.engine.phase("migrate", "alice", later=True)
    assert "the first host of this run has migrated the database" in done.message
    assert ran == []
    assert "upgrade" not in host.calls


@pytest.mark.parametrize(("value", "why"), [(["aerich upgrade"], "'aerich upgrade'"), ([], "false")])
def test_a_rollback_leaves_the_schema_and_says_so(host: Host, ran: list[str], value: list[str], why: str) -> None:
    assert ran == []
    changed(host, migrate=value)
    deployed(host, V1, V2)
    with pytest.raises(RefusedError, match=f"A rollback never changes the schema here, as .*migrate is {why}"):
        host.engine.rollback(request(V1), "", allow_data_loss=True)
    host.engine.rollback(request(V1), "")
    assert host.live() == "v1-111111111111"
    staged = [
        item for item in journal.read(host.settings.journal) if (item.action, item.phase) == ("rollback", "stage")
    ]
    assert f"the schema stays as it is, as apps.logbook.migrate is {why}" in staged[-1].message


def test_no_migrations_are_no_loss_when_it_was_said(host: Host, ran: list[str]) -> None:
    """Otherwise a release without migrations after one that had some is refused."""
    deployed(host, V1)
    host.history = []
    changed(host, migrate=[])
    deployed(host, V2)
    assert ran == []
    line = [item for item in journal.read(host.settings.journal) if item.phase == "migrate"][-1]
    assert (line.outcome, line.message) == ("skipped", "migrate is false")


@pytest.mark.parametrize(
    ("setting", "value"), [("migrate", ["aerich upgrade"]), ("after_migrate", ["true", "./nothing-here"])]
)
def test_a_program_that_is_not_there_is_named_before_anything_changes(
    settings: config.Settings, setting: str, value: list[str]
) -> None:
    changes: dict[str, Any] = {setting: value}
    chosen = dataclasses.replace(settings, **changes)
    with pytest.raises(FailedError, match=rf"apps\.logbook\.{setting} has '{value[-1]}', but neither"):
        commands.check(chosen, RELEASE)
    program = settings.release("v1") / ".venv/bin/aerich"
    program.parent.mkdir(parents=True)
    program.touch(mode=0o755)
    (settings.release("v1") / "nothing-here").touch()
    commands.check(chosen, RELEASE)


def test_what_it_prints_last_is_the_detail(settings: config.Settings, programs: Programs) -> None:
    programs.answers["seed"] = (1, "x\n" * 100 + "the reason\n", "")
    chosen = dataclasses.replace(settings, after_migrate=["seed --fast"])
    with pytest.raises(FailedError) as caught:
        commands.after_migrations(chosen, RELEASE)
    assert caught.value.detail.endswith("x\nthe reason")
    programs.answers["seed"] = (1, "", "")
    with pytest.raises(FailedError) as caught:
        commands.after_migrations(chosen, RELEASE)
    assert caught.value.detail == "it ended with the exit code 1"


def test_a_release_of_which_alembic_was_not_asked_is_built_again(settings: config.Settings) -> None:
    from slipway.release import fit

    other = dataclasses.replace(RELEASE, migrates="commands")
    assert "alembic was not asked for its migrations" in fit._settings(settings, settings.root, other)
    assert fit._settings(settings, settings.root, RELEASE) == ""
    assert fit._settings(dataclasses.replace(settings, migrate=["x"]), settings.root, other) == ""
    assert migrate.stays(settings) == ""
