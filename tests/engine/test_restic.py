"""What restic says, and what is made of it."""

from __future__ import annotations

import json
import subprocess

import pytest

from slipway.backup import drill_files, restic
from tests.engine.backups import SETTINGS

SNAPSHOTS = json.dumps(
    [
        {"time": "2026-11-27T20:04:50.6Z", "short_id": "c1c29d71", "paths": ["/etc/slipway"], "summary": {
            "total_files_processed": 7, "total_bytes_processed": 5756}},
        {"time": "2026-11-26T20:04:50.6Z", "short_id": "aaaaaaaa", "paths": ["/etc/slipway"]},
    ]
)  # fmt: skip


def test_snapshots_are_listed_the_oldest_first_also_those_of_older_versions() -> None:
    found = restic.snapshots(SNAPSHOTS)
    assert [(item.name, item.files, item.size) for item in found] == [("aaaaaaaa", 0, 0), ("c1c29d71", 7, 5756)]


def test_the_summary_is_the_last_message_and_no_summary_is_none() -> None:
    text = '{"message_type":"status"}\nnoise\n{"message_type":"summary","snapshot_id":"c1","total_files_processed":7}\n'
    assert restic.summary(text) == {"message_type": "summary", "snapshot_id": "c1", "total_files_processed": 7}
    assert restic.summary('{"message_type":"status"}') is None


@pytest.mark.parametrize(
    ("code", "said", "meant"),
    [
        (12, '{"message_type":"exit_error","code":12,"message":"Fatal: wrong password"}', "another pass phrase"),
        (1, "Fatal: wrong password or no key found", "another pass phrase"),  # before 0.17
        (1, "Save(<data/ab>) returned error: write /x: no space left on device", "is full"),
        (11, "", "in use by another restic"),
        (10, "", "is not there"),
        (1, '{"message_type":"exit_error","message":"pack is broken"}', "could not be used: pack is broken"),
        (7, "", "could not be used: restic ended with the exit code 7"),
    ],
)
def test_what_an_error_means(code: int, said: str, meant: str) -> None:
    assert meant in restic.meaning(code, said)


def test_snapshots_are_kept_as_long_as_full_backups_are() -> None:
    assert "--keep-within=14d" in restic.forget(SETTINGS)


def test_the_pass_phrase_is_in_no_command() -> None:
    assert "/etc/slipway/backup.passphrase" in restic.command(SETTINGS, "snapshots")


def test_files_of_a_long_list_are_picked_and_counted() -> None:
    """By the awk that the hosts have."""
    lines = ['{"type":"dir","path":"/a"}'] + [f'{{"type":"file","path":"/a/{n}","size":{n}}}' for n in range(100)]
    done = subprocess.run(
        ["awk", drill_files._PICK], input="\n".join(lines), capture_output=True, text=True, check=True
    )
    number, *kept = done.stdout.splitlines()
    assert number == "100"
    assert len({file.path for file in restic.listed("\n".join(kept))}) == 3


def test_the_snapshot_itself_comes_with_the_files_and_the_end_of_restic_as_well() -> None:
    head = '{"time":"2026-11-27T20:04:50.6Z","id":"c1c29d719a06","short_id":"c1c29d71","struct_type":"snapshot"}'
    lines = [head, '{"type":"file","path":"/a","size":3}', "exit code 12"]
    said = subprocess.run(
        ["awk", drill_files._PICK], input="\n".join(lines), capture_output=True, text=True, check=True
    ).stdout
    assert [item.name for item in restic.snapshots(said)] == ["c1c29d71"]
    assert [file.path for file in restic.listed(said)] == ["/a"]
    assert "exit code 12" in said.splitlines()


def test_of_a_short_list_all_are_picked() -> None:
    line = '{"type":"file","path":"/a/b c","size":3}'
    done = subprocess.run(["awk", drill_files._PICK], input=line, capture_output=True, text=True, check=True)
    assert [(file.path, file.size) for file in restic.listed(done.stdout)] == [("/a/b c", 3)]
