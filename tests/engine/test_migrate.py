from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from slipway import config, database, manifest, migrate
from slipway.errors import FailedError

from .fakes import Programs, write_release


def _release(name: str, *revisions: str) -> manifest.Manifest:
    known = [manifest.Revision(item, f"step {item}") for item in revisions]
    return manifest.Manifest(name, name, name * 20, "", "3.13", "", "", [revisions[-1]], known)


At = Callable[..., None]


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> At:
    """Sets what the database answers, one question after the other."""

    def answer(*answers: str | FailedError | None) -> None:
        left = list(answers)

        def current_revision(*_: Any) -> str | None:
            found = left.pop(0)
            if isinstance(found, FailedError):
                raise found
            return found

        monkeypatch.setattr(database, "current_revision", current_revision)

    return answer


def test_pending_migrations_run_and_are_counted(settings: config.Settings, programs: Programs, at: At) -> None:
    at("0001", "0003")
    done = migrate.upgrade(settings, _release("v1", "0001", "0002", "0003"))
    assert done == (True, "2 migration(s): 0001 to 0003")
    assert programs.ran == [f"{settings.releases}/v1/.venv/bin/python -m alembic upgrade head"]


def test_a_database_at_head_is_left_alone(settings: config.Settings, programs: Programs, at: At) -> None:
    at("0002")
    assert migrate.upgrade(settings, _release("v1", "0001", "0002"))[0] is False
    assert programs.ran == []


@pytest.mark.usefixtures("programs")
def test_alembic_that_ends_well_short_of_the_head_is_a_failure(settings: config.Settings, at: At) -> None:
    at("0001", "0002")
    with pytest.raises(FailedError, match="ended well, but the database is at 0002, not at head"):
        migrate.upgrade(settings, _release("v1", "0001", "0002", "0003"))


@pytest.mark.parametrize(
    ("after", "sentence"),
    [
        ("0001", "the database's revision is where it was"),
        ("0002", r"the database's revision is at 0002 \(it was at 0001\)"),
        (FailedError("PostgreSQL does not answer."), "where the database stands is unknown: PostgreSQL does not"),
    ],
)
def test_a_migration_that_fails_shows_alembics_words_and_where_the_database_stands(
    settings: config.Settings, programs: Programs, at: At, after: str | FailedError, sentence: str
) -> None:
    programs.answers["alembic"] = (1, "Running upgrade 0001 -> 0002\n", "LockNotAvailable: lock timeout\n")
    at("0001", after)
    with pytest.raises(FailedError, match=sentence) as caught:
        migrate.upgrade(settings, _release("v1", "0001", "0002", "0003"))
    assert caught.value.detail == "Running upgrade 0001 -> 0002\nLockNotAvailable: lock timeout"


def test_a_release_on_the_host_tells_that_the_schema_went_through_an_older_ones_head(
    settings: config.Settings, programs: Programs, at: At
) -> None:
    older = _release("v1", "0001", "0002")
    write_release(settings, older)
    at("0003", "0003")
    with pytest.raises(FailedError, match=r"at 0003, which v1 does not know.*Rebase its migrations on 0003"):
        migrate.upgrade(settings, older)
    write_release(settings, _release("v2", "0001", "0002", "0003"))
    assert migrate.upgrade(settings, older) == (False, "the database is at 0003, ahead of this release")
    assert programs.ran == []
