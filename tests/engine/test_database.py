from pathlib import Path

import pytest

from slipway.base import settings as config
from slipway.base.errors import FailedError
from slipway.schema import database

from .fakes import Programs


@pytest.mark.parametrize(
    ("installed", "asked"),
    [(["9.6", "15", "17"], "17/bin/psql"), (["15", "lost+found"], "15/bin/psql"), ([], "psql")],
)
def test_the_newest_psql_is_asked_without_debians_wrapper(
    settings: config.Settings,
    programs: Programs,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    installed: list[str],
    asked: str,
) -> None:
    for version in installed:
        (tmp_path / "lib" / version / "bin").mkdir(parents=True)
        (tmp_path / "lib" / version / "bin/psql").touch()
    monkeypatch.setattr(database, "PROGRAMS", tmp_path / "lib")
    database.current_revision(settings, {"DATABASE_URL": "postgresql://me@/app"})
    expected = str(tmp_path / "lib" / asked) if installed else asked
    assert [line.split()[0] for line in programs.ran] == [expected]


def test_of_a_password_with_an_at_sign_in_it_no_part_is_named_as_the_host(
    settings: config.Settings, programs: Programs
) -> None:
    programs.answers["psql"] = (2, "", 'could not translate host name "cret@db" to address')
    with pytest.raises(FailedError, match=r"^PostgreSQL at the host in the URL has a name that this host cannot"):
        database.check(settings, {"DATABASE_URL": "postgresql://me:se@cret@db/app"})
