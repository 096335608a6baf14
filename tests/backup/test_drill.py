"""Restores on trial: of a good backup, and of ones that are broken in the ways that look well from outside."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator

import pytest

from .conftest import PATH, Backups

DRILL = "/var/lib/slipway/drill"


def _archived(host: Backups) -> str:
    """Write something, and have its WAL in the repository; the path of the file."""
    host.sql("INSERT INTO canary SELECT 'more', n FROM generate_series(1, 100) n")
    wal = host.sql("SELECT pg_walfile_name(pg_current_wal_insert_lsn())")
    host.sql("SELECT pg_switch_wal()")
    deadline = time.monotonic() + 60
    while not (path := host.sh(f"find {PATH}/postgresql/archive -name '{wal}-*'")):
        assert time.monotonic() < deadline, f"{wal} was not archived"
        time.sleep(1)
    return path


def test_a_good_backup_passes_and_nothing_of_the_drill_stays(backed_up: Backups) -> None:
    said = backed_up.slipway("drill")
    assert said.code == 0, said.text
    assert "The drill has passed in " in said.text
    assert "3 databases" in said.text
    assert "the repository is whole" in said.text
    assert (backed_up.traces(), backed_up.sh(f"ls -d {DRILL} 2>/dev/null || echo gone")) == ("", "gone")
    assert backed_up.backups()["drill"]["heartbeat_age"] < 900
    assert "ok in " in backed_up.sh("journalctl -t slipway-drill -n 1 -o cat")


def test_the_playbook_and_the_timer_do_the_same(backed_up: Backups) -> None:
    assert "The drill has passed in " in backed_up.play("drill.yml")
    backed_up.sh("systemctl start slipway-drill.service")
    assert backed_up.backups()["drill"]["outcome"] == "ok"


@pytest.mark.row(66, "drill", "SIGKILL to a drill while it restores")
def test_a_killed_drill_ends_and_the_next_takes_away_what_it_left(backed_up: Backups) -> None:
    backed_up.sh(
        "slipway drill >/dev/null 2>&1 & main=$!;"
        f"until test -e {DRILL}/data/global; do sleep 0.05; done; kill -9 $main; sleep 3"
    )
    assert backed_up.sh("ps -u slipway_drill -o args=; true") == ""
    assert backed_up.sh(f"ls {DRILL}") != ""
    assert backed_up.slipway("drill").code == 0
    assert backed_up.traces() == ""


@pytest.mark.row(63, "drill", "a WAL file that was deleted")
def test_a_wal_file_that_was_deleted_is_named(backed_up: Backups) -> None:
    lost = _archived(backed_up)
    _archived(backed_up)
    backed_up.sh(f"mv {lost} /root/lost")
    try:
        said = backed_up.slipway("drill")
    finally:
        backed_up.sh(f"mv /root/lost {lost}")
    assert said.code == 1
    assert f"WAL file {lost.rpartition('/')[2][:24]} is missing in the repository" in said.text
    assert any(row.startswith("drill     FAILED") for row in backed_up.rows())


@pytest.mark.row(62, "drill", "a WAL file that was cut")
def test_a_wal_file_that_was_cut_is_found(backed_up: Backups) -> None:
    cut = _archived(backed_up)
    _archived(backed_up)
    backed_up.sh(f"cp -p {cut} /root/whole; truncate --size=100 {cut}")
    try:
        said = backed_up.slipway("drill")
    finally:
        backed_up.sh(f"cp -p /root/whole {cut}")
    assert said.code == 1
    assert "WAL in the repository cannot be read" in said.text
    assert backed_up.slipway("drill").code == 0


@contextlib.contextmanager
def _other_passphrase(host: Backups) -> Iterator[None]:
    of_databases, of_files = "/etc/pgbackrest/slipway/conf.d/passphrase.conf", "/etc/slipway/backup.passphrase"
    host.sh(
        f"set -e; tar -cf /root/passphrases.tar {of_databases} {of_files} 2>/dev/null;"
        f"sed -i '/cipher-pass/ s/$/-other/' {of_databases}; chown root:postgres {of_databases};"
        f"sed -i 's/$/-other/' {of_files}"
    )
    try:
        yield
    finally:
        host.sh("tar -C / -xpf /root/passphrases.tar")


@pytest.mark.row(61, "backup", "another pass phrase than the repository's")
def test_another_pass_phrase_is_said_in_one_sentence(backed_up: Backups) -> None:
    with _other_passphrase(backed_up):
        backup, drill, rows = backed_up.slipway("backup"), backed_up.slipway("drill"), backed_up.rows()
    for said in (backup, drill):
        assert said.code == 1
        assert f"The repository {PATH}/postgresql was made with another pass phrase." in said.text
        assert f"The repository of files {PATH}/files was made with another pass phrase." in said.text
    assert "backup    databases: the repository was made with another pass phrase" in rows
    assert backed_up.slipway("backup").code == 0


@pytest.mark.row(69, "drill", "a heartbeat that is not written any more")
def test_a_heartbeat_that_stopped_is_a_failure_although_all_else_is_well(backed_up: Backups) -> None:
    backed_up.sh("systemctl stop slipway-heartbeat.timer")
    try:
        backed_up.sql("UPDATE heartbeat SET at = now() - interval '1 hour'", "slipway_host")
        _archived(backed_up)
        said = backed_up.slipway("drill")
        assert said.code == 1
        assert re.search(r"What was restored is 6\d min old, and 15 min are allowed", said.text), said.text
        assert any("slipway-heartbeat.timer does not run: systemctl enable --now" in row for row in backed_up.rows())
    finally:
        backed_up.sh("systemctl start slipway-heartbeat.timer")
        backed_up.slipway("heartbeat")


@contextlib.contextmanager
def _room(host: Backups, megabytes: int) -> Iterator[None]:
    host.sh(f"mkdir -p {DRILL}; mount -t tmpfs -o size={megabytes}m tmpfs {DRILL}")
    try:
        yield
    finally:
        host.sh(f"umount {DRILL}; rm -rf {DRILL}")


@pytest.mark.row(68, "drill", "512 MB")
def test_half_a_gigabyte_is_enough_for_a_small_database(backed_up: Backups) -> None:
    with _room(backed_up, 512):
        said = backed_up.slipway("drill")
        assert backed_up.traces() == ""
    assert said.code == 0, said.text


@pytest.mark.row(68, "drill", "512 MB")
def test_too_little_room_is_said_before_anything_is_restored(backed_up: Backups) -> None:
    with _room(backed_up, 128):
        said = backed_up.slipway("drill")
    assert said.code == 1
    assert "The drill would need " in said.text
    assert "Nothing was restored: make room there." in said.text


@pytest.mark.row(67, "backup", "two at once")
@pytest.mark.parametrize("what", ["backup", "drill"])
def test_of_two_at_once_the_second_says_which_one_runs(backed_up: Backups, what: str) -> None:
    said = backed_up.sh(
        "slipway drill >/dev/null 2>&1 & until test -s /run/slipway/backup.lock; do sleep 0.05; done;"
        f"slipway {what} 2>&1; echo code $?; wait"
    )
    assert "Another one is at work on this host's backups (drill, process " in said
    assert said.endswith("code 4")
