"""The settings of the host's backups, and the journal of what was made."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from slipway.backup import guard, records
from slipway.backup import settings as backups
from slipway.base import settings as config
from slipway.base.errors import LockedError, RefusedError
from tests.engine.backups import SETTINGS, VALUES


def test_settings_are_read() -> None:
    assert backups.parse(VALUES, "backup.toml") == SETTINGS


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"format": 2}, "written by a newer version"),
        ({"port": "5432"}, "'port' is '5432', but must be of type int"),
        ({"full_days": True}, "'full_days' is True"),
        ({"stanza": None}, "'stanza' is None"),
    ],
)
def test_a_wrong_value_is_named(change: dict[str, object], sentence: str) -> None:
    with pytest.raises(RefusedError, match=sentence):
        backups.parse(VALUES | change, "backup.toml")


def test_a_missing_value_is_named() -> None:
    with pytest.raises(RefusedError, match=r"backup.toml: 'path' is missing. Run site.yml"):
        backups.parse({name: value for name, value in VALUES.items() if name != "path"}, "backup.toml")


def test_a_host_without_backups_has_none_and_says_so(tmp_path: Path) -> None:
    assert backups.find(tmp_path) is None
    with pytest.raises(RefusedError, match="This host has no backups"):
        backups.load(tmp_path)


def test_the_file_of_backups_is_no_app(tmp_path: Path) -> None:
    (tmp_path / "backup.toml").touch()
    (tmp_path / "shop.toml").touch()
    assert config.installed(tmp_path) == ["shop"]


def test_only_timers_that_have_something_to_do_have_to_run() -> None:
    assert SETTINGS.timers == ("slipway-backup.timer", "slipway-heartbeat.timer", "slipway-drill.timer")
    assert replace(SETTINGS, postgresql=False, drill=False).timers == ("slipway-backup.timer",)


def test_records_are_appended_and_lines_that_are_none_left_out(tmp_path: Path) -> None:
    path = tmp_path / "state" / "records.jsonl"
    first, second = (
        records.record("backup", records.OK, "one", 1.23, size=7),
        records.record("drill", "failed", "two", 2),
    )
    records.append(path, first)
    with path.open("a") as file:
        file.write('{"format":1,"kind":')  # the host went down
    records.append(path, second)
    assert records.read(path) == [first, second]
    assert records.last(records.read(path), "backup") == first
    assert records.last(records.read(path), "drill", records.OK) is None


def test_records_of_a_newer_engine_are_refused_and_fields_that_are_new_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    line = (
        '{"format":1,"kind":"backup","outcome":"ok","message":"m","at":"2026-11-27T20:00:00+00:00","seconds":1,"x":1}'
    )
    path.write_text(line + "\n")
    assert records.read(path)[0].unknown == {"x": 1}
    path.write_text(line.replace('"format":1', '"format":2') + "\n")
    with pytest.raises(RefusedError, match="newer version"):
        records.read(path)


def test_the_journal_of_backups_does_not_grow_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "KEPT", 3)
    path = tmp_path / "records.jsonl"
    for number in range(8):
        records.append(path, records.record("backup", records.OK, str(number), 1))
    assert [item.message for item in records.read(path)] == ["3", "4", "5", "6", "7"]


def test_of_two_at_once_the_second_says_who_is_there(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with (
        guard.held("drill", path=path),
        pytest.raises(LockedError, match=r"\(drill, process \d+\)"),
        guard.held("backup", path=path),
    ):
        pass
    with guard.held("backup", path=path):
        assert path.read_text().startswith("backup, process ")
    assert path.read_text() == ""
