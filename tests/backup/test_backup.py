"""Backups without any setting, by the playbook and by the timers."""

from __future__ import annotations

import time

from tests.controller import flat

from .conftest import CANARY, PATH, Backups

TIMERS = ("slipway-backup.timer", "slipway-drill.timer", "slipway-heartbeat.timer")


def test_a_host_is_backed_up_without_any_setting(backed_up: Backups) -> None:
    found = backed_up.backups()
    assert (found["repository"], found["path"], found["timers"]) == ("local", PATH, {})
    assert found["databases"]["last"]["size"] > 10**7
    assert (found["last"]["outcome"], found["archive"]["problem"]) == ("ok", "")
    kept = next(row for row in backed_up.rows() if row.startswith("kept"))
    assert kept.endswith("what ends the host ends its backups")
    for timer in TIMERS:
        assert backed_up.sh(f"systemctl is-active {timer}; systemctl is-enabled {timer}").split() == [
            "active",
            "enabled",
        ]


def test_nothing_in_the_repository_is_in_the_clear(backed_up: Backups) -> None:
    assert CANARY in backed_up.sql("SELECT what FROM canary LIMIT 1")
    assert backed_up.sh(f"grep -rl {CANARY} {PATH} || echo none") == "none"
    closed = backed_up.sh(f"stat -c '%a %U' {PATH}/postgresql {PATH}/files /etc/slipway/backup.passphrase").split("\n")
    assert closed == ["750 postgres", "700 root", "600 root"]
    refused = backed_up.sh(
        f"runuser -u logbook -- ls {PATH}/postgresql {PATH}/files /etc/pgbackrest/slipway 2>&1 | grep -c denied"
    )
    assert refused == "3"


def test_a_second_run_changes_nothing_and_does_not_restart_postgresql(backed_up: Backups) -> None:
    started = backed_up.sql("SELECT pg_postmaster_start_time()")
    output = backed_up.play("site.yml")
    assert "changed=0 " in output, output[-3000:]
    assert backed_up.sql("SELECT pg_postmaster_start_time()") == started


def test_what_the_playbook_made_is_said_with_its_size_and_seconds(backed_up: Backups) -> None:
    said = flat(backed_up.play("backup.yml"))
    assert "Made a backup in " in said
    assert "databases: diff " in said
    assert " stored of " in said
    assert "files: snapshot " in said


def test_files_of_an_app_can_be_read_back(backed_up: Backups) -> None:
    restic = f"restic --no-cache --repo {PATH}/files --password-file /etc/slipway/backup.passphrase"
    assert backed_up.sh(f"{restic} dump latest /var/lib/logbook/kept.txt") == CANARY
    listed = backed_up.sh(f"{restic} ls latest")
    assert "/etc/slipway/logbook.toml" in listed
    assert "/etc/ssl/slipway/" in listed


def test_the_timer_makes_a_backup_and_the_next_is_spread(backed_up: Backups) -> None:
    before = backed_up.backups()["databases"]["count"]
    backed_up.sh("systemctl start slipway-backup.service")
    assert backed_up.backups()["databases"]["count"] == before + 1
    assert (
        backed_up.sh("systemctl show slipway-backup.timer --property=RandomizedDelayUSec")
        == "RandomizedDelayUSec=1h 30min"
    )
    assert "ok in " in backed_up.sh("journalctl -t slipway-backup -n 1 -o cat")


def test_wal_is_archived_within_a_minute_of_what_was_written(backed_up: Backups) -> None:
    backed_up.sql("INSERT INTO canary VALUES ('late', 0)")
    written = backed_up.sql("SELECT pg_walfile_name(pg_current_wal_insert_lsn())")
    deadline = time.monotonic() + 100
    while not backed_up.sh(f"ls {PATH}/postgresql/archive/*/17-1/{written[:16]} 2>/dev/null | grep {written} || true"):
        assert time.monotonic() < deadline, f"{written} was not archived"
        time.sleep(2)


def test_the_heartbeat_is_in_a_database_that_no_app_reaches(backed_up: Backups) -> None:
    assert "The heartbeat is of " in backed_up.slipway("heartbeat").text
    assert backed_up.sql("SELECT count(*) FROM heartbeat", "slipway_host") == "1"
    refused = backed_up.sh("runuser -u logbook -- psql -d slipway_host -c 'SELECT 1' 2>&1 || true")
    assert "FATAL" in refused
