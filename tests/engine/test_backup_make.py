"""Making a backup and a drill of it: what is written down, whatever a part of them comes to."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from slipway.backup import cluster, copies, drill, drill_files, heartbeat, make, pgbackrest, records, units
from slipway.backup import settings as backups
from slipway.base import confined
from slipway.base import settings as config
from slipway.base.errors import FailedError
from tests.engine.backups import SETTINGS
from tests.engine.test_pgbackrest import ANSWER

SUMMARY = '{"message_type":"summary","snapshot_id":"c1c29d719a06","total_bytes_processed":5756,"data_added_packed":9}'


class Programs:
    """What pgbackrest and restic answer, by their command; what they were called with."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, str]] = {"backup --exclude-caches": (0, SUMMARY)}
        self.info = json.dumps(ANSWER).replace('"main"', '"app-1"')
        self.called: list[str] = []

    def pgbackrest(self, _: Any, *arguments: str, **__: Any) -> confined.Result:
        return self._answer(" ".join(arguments))

    def restic(self, _: Any, command: list[str], **__: Any) -> confined.Result:
        return self._answer(" ".join(command))

    def _answer(self, command: str) -> confined.Result:
        self.called.append(command)
        code, said = next((answer for part, answer in self.answers.items() if part in command), (0, ""))
        return confined.Result(code, b"", said)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    made = Programs()
    monkeypatch.setattr(backups, "LOCK", tmp_path / "lock")
    monkeypatch.setattr(backups, "RECORDS", tmp_path / "records.jsonl")
    monkeypatch.setattr(backups, "SCRATCH", tmp_path / "drill")
    monkeypatch.setattr(copies, "PLACE", tmp_path / "copies")
    monkeypatch.setattr(config, "installed", list)
    monkeypatch.setattr(units, "run_pgbackrest", made.pgbackrest)
    monkeypatch.setattr(units, "run_restic", made.restic)
    monkeypatch.setattr(units, "ask_pgbackrest", lambda *_: made.info)
    monkeypatch.setattr(heartbeat, "beat", lambda _: None)
    monkeypatch.setattr(make, "say", lambda _: None)
    monkeypatch.setattr("time.time", lambda: 1795809810.0)
    return made


@pytest.fixture
def settings(tmp_path: Path) -> backups.Settings:
    place = tmp_path / "repository"
    (place / "files").mkdir(parents=True)
    (place / "files/config").touch()
    return replace(SETTINGS, path=place)


def _last() -> records.Record:
    return records.read(backups.RECORDS)[-1]


def test_what_was_made_is_written_down_with_its_size(programs: Programs, settings: backups.Settings) -> None:
    made = make.make(settings)
    assert made == _last()
    assert made.outcome == records.OK
    assert "databases: diff 20261127-200324F_20261127-200326D, 408 bytes stored of 31.4 MB" in made.message
    assert "files: snapshot c1c29d71, 9 bytes stored of 6 kB" in made.message
    assert "--type=diff backup" in programs.called


def test_a_part_that_fails_does_not_keep_the_other_from_being_made(
    programs: Programs, settings: backups.Settings
) -> None:
    programs.answers["--type="] = (41, "P00  ERROR: [041]: unable to write: [28] No space left on device")
    with pytest.raises(FailedError, match=r"The backup has failed: The repository \S+/postgresql is full. Make room"):
        make.make(settings)
    assert _last().outcome == records.FAILED
    assert [(part["what"], bool(part["problem"])) for part in _last().detail["parts"]] == [
        ("databases", True),
        ("files", False),
    ]


def test_after_an_upgrade_of_postgresql_a_full_backup_begins(programs: Programs, settings: backups.Settings) -> None:
    programs.answers["--type=diff"] = (51, "P00  ERROR: [051]: PostgreSQL version 18 does not match")
    programs.answers["stanza-create"] = (28, "P00  ERROR: [028]: files exist but do not match the database")
    make.make(replace(settings, version="18"))
    assert [call for call in programs.called if "restic" not in call] == [
        *("--type=diff backup", "stanza-create", "stanza-upgrade", "--type=full backup")
    ]


def test_a_cluster_that_is_another_one_does_not_take_the_place_of_the_former(
    programs: Programs, settings: backups.Settings
) -> None:
    programs.answers["stanza-create"] = (28, "P00  ERROR: [028]: files exist but do not match the database")
    with pytest.raises(FailedError, match="has the backups of another PostgreSQL 17 than the one of this host"):
        make.prepare(settings)
    assert programs.called == ["stanza-create"]


def test_files_that_could_not_be_read_are_a_failure_although_there_is_a_snapshot(
    programs: Programs, settings: backups.Settings
) -> None:
    programs.answers["backup --exclude-caches"] = (3, SUMMARY)
    with pytest.raises(FailedError, match="Some files of apps could not be read"):
        make.make(settings)


def test_a_repository_that_cannot_be_read_is_not_begun_anew(programs: Programs, settings: backups.Settings) -> None:
    status = {"code": 99, "message": "CryptoError: unable to flush"}
    programs.info = json.dumps([{"archive": [], "backup": [], "db": [], "name": "app-1", "repo": [{"status": status}]}])
    with pytest.raises(FailedError, match=r"was made with another pass phrase. Set backups.passphrase"):
        make.make(settings)
    assert not [call for call in programs.called if "stanza-create" in call]


def test_a_full_disk_is_refused_before_it_is_full(
    programs: Programs, settings: backups.Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(make, "free", lambda _: 100 * 10**6)
    with pytest.raises(FailedError, match=r"has 100.0 MB left, and the next backup may take"):
        make.make(settings)
    assert programs.called == []


@pytest.mark.usefixtures("programs")
def test_what_a_drill_could_not_see_has_failed_and_is_written_down(
    settings: backups.Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unseen(_: backups.Settings) -> drill_files.Found:
        raise FailedError("The repository of files cannot be listed.")

    monkeypatch.setattr(confined, "end", lambda _: None)
    monkeypatch.setattr(drill_files, "look", unseen)
    monkeypatch.setattr(cluster, "databases", lambda _: [])
    with pytest.raises(FailedError, match=r"The drill has failed: The repository of files cannot be listed."):
        drill.drill(replace(settings, postgresql=False))
    assert (_last().kind, _last().outcome) == ("drill", records.FAILED)


def test_a_drill_without_a_backup_says_what_to_type(
    programs: Programs, settings: backups.Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs.info = "[]"
    monkeypatch.setattr(confined, "end", lambda _: None)
    monkeypatch.setattr(drill_files, "look", lambda _: drill_files.Found("ab", 1, 1))
    with pytest.raises(FailedError, match="has nothing of this host yet"):
        drill.drill(settings)
    assert pgbackrest.parse("[]", "app-1").is_new
