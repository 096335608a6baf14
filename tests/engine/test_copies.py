"""Copies of databases that are files: whole, of one moment, and gone afterwards."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from slipway.backup import copies
from slipway.base import process
from slipway.base import settings as config


@pytest.fixture
def app(settings: config.Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> config.Settings:
    monkeypatch.setattr(copies, "PLACE", tmp_path / "copies")
    monkeypatch.setattr(config, "DATA_DIRECTORY", tmp_path / "lib")
    run = process.run

    def as_oneself(command: Sequence[str], **how: Any) -> subprocess.CompletedProcess[str]:
        return run(command, **{**how, "user": None})

    monkeypatch.setattr(process, "run", as_oneself)
    found = replace(settings, writable_paths=[])
    (found.data_directory / "data").mkdir(parents=True)
    return found


def test_a_database_is_copied_with_what_is_still_in_its_log(app: config.Settings) -> None:
    path = app.data_directory / "data/ap p?.db"
    with contextlib.closing(sqlite3.connect(path)) as live:
        live.execute("PRAGMA journal_mode = WAL")
        live.execute("CREATE TABLE t (n)")
        live.executemany("INSERT INTO t VALUES (?)", [(n,) for n in range(100)])
        live.commit()
        (app.data_directory / "link.db").symlink_to(path)
        (app.data_directory / "text.txt").write_text("SQLite it is not")
        with copies.made([app]) as found:
            assert found.problems == []
            assert [copy.name for copy in found.made] == [f"{app.app}-0-ap p?.db"]
            assert oct(copies.PLACE.stat().st_mode & 0o777) == "0o700"
            with contextlib.closing(sqlite3.connect(found.made[0])) as copy:
                assert copy.execute("SELECT count(*) FROM t").fetchone() == (100,)
    assert not copies.PLACE.exists()


def test_a_database_that_cannot_be_copied_is_named_and_the_others_are(app: config.Settings) -> None:
    (app.data_directory / "a.db").write_bytes(b"SQLite format 3\0" + b"x" * 5000)
    with contextlib.closing(sqlite3.connect(app.data_directory / "b.db")) as live:
        live.execute("CREATE TABLE t (n)")
        live.commit()
    with copies.made([app]) as found:
        assert [copy.name for copy in found.made] == [f"{app.app}-1-b.db"]
        (problem,) = found.problems
    assert problem.startswith(f"The database of SQLite {app.data_directory}/a.db of {app.app} could not be copied (")
