"""What can happen to a repository, a timer and a running backup; and the way out of backups."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import pytest

from tests.controller import flat

from .conftest import PATH, Backups


@pytest.mark.row(65, "backup", "SIGKILL to a backup")
def test_a_killed_backup_ends_and_the_next_goes_on(backed_up: Backups) -> None:
    backed_up.sh(
        "slipway backup --full >/dev/null 2>&1 & main=$!;"
        "until pgrep -f 'type=full backup' >/dev/null; do sleep 0.05; done; sleep 0.5; kill -9 $main; sleep 3"
    )
    assert backed_up.traces() == ""
    said = backed_up.slipway("backup")
    assert said.code == 0, said.text


@pytest.mark.row(64, "backup", "a timer that was stopped")
def test_a_stopped_timer_is_in_the_status(backed_up: Backups) -> None:
    backed_up.sh("systemctl disable --now slipway-backup.timer 2>/dev/null")
    assert (
        "timer     slipway-backup.timer does not run: systemctl enable --now slipway-backup.timer" in backed_up.rows()
    )
    backed_up.play("site.yml")
    assert backed_up.backups()["timers"] == {}


@contextlib.contextmanager
def _small_disk(host: Backups) -> Iterator[None]:
    """The repository of PostgreSQL on a disk that has almost nothing left; what came there is kept."""
    place = f"{PATH}/postgresql"
    host.sh(
        f"set -e; cp -a {place} /root/aside; size=$(du -sk {place} | cut -f 1);"
        f"mount -t tmpfs -o size=$((size + 64))k,mode=750 tmpfs {place}; chown postgres:postgres {place};"
        f"cp -a /root/aside/. {place}/ || true; head -c 10M /dev/zero >{place}/filler 2>/dev/null || true"
    )
    try:
        yield
    finally:
        host.sh(f"umount {place}; rm -rf /root/aside")


@pytest.mark.row(60, "backup", "the repository is full")
def test_a_full_repository_is_said_and_no_wal_is_lost(backed_up: Backups) -> None:
    with _small_disk(backed_up):
        backed_up.sql("INSERT INTO canary SELECT md5(n::text), n FROM generate_series(1, 40000) n")
        backed_up.sql("SELECT pg_switch_wal()")
        deadline = time.monotonic() + 90
        while not any("NOT ARCHIVED" in row for row in backed_up.rows()):
            assert time.monotonic() < deadline, backed_up.rows()
            time.sleep(2)
        said = backed_up.slipway("backup")
        assert said.code == 1
        assert f"The repository in {PATH}/postgresql has " in said.text
        assert "set backups.path to a larger disk" in said.text
        assert backed_up.ready()["sha"]  # the app goes on
    assert backed_up.slipway("backup").code == 0
    assert not any("NOT ARCHIVED" in row for row in backed_up.rows())
    said = backed_up.slipway("drill")
    assert said.code == 0, said.text


@pytest.mark.row(70, "backup", "the disk of the repository is not mounted")
def test_a_repository_whose_disk_is_not_mounted_is_not_begun_anew(backed_up: Backups) -> None:
    backed_up.sh(
        f"mv {PATH} /var/lib/slipway/aside; install -d {PATH}; install -d -m 700 {PATH}/files;"
        f"install -d -o postgres -g postgres -m 750 {PATH}/postgresql"
    )
    try:
        said = backed_up.slipway("backup")
    finally:
        backed_up.sh(f"rm -rf {PATH}; mv /var/lib/slipway/aside {PATH}")
    assert said.code == 1
    assert f"The repository {PATH}/postgresql is empty, and on " in said.text
    assert f"The repository {PATH}/files is empty, and on " in said.text
    assert backed_up.slipway("backup").code == 0


@pytest.mark.row(61, "backup", "another pass phrase than the repository's")
def test_another_pass_phrase_in_the_inventory_is_refused(backed_up: Backups) -> None:
    backed_up.declare(settings={"backups": {"passphrase": "quite another pass phrase"}})
    try:
        said = flat(backed_up.play("site.yml", check=False))
    finally:
        backed_up.declare()
    assert "backups.passphrase is not the one that the repository of" in said
    assert "quite another pass phrase" not in said


def test_backups_can_be_left_and_taken_up_again(backed_up: Backups) -> None:
    try:
        backed_up.declare(settings={"backups": False})
        backed_up.play("site.yml")
        assert backed_up.sql("SHOW archive_mode") == "off"
        assert backed_up.sh("ls /etc/systemd/system/slipway-backup* /etc/slipway/backup.toml 2>/dev/null; true") == ""
        assert "This host has no backups" in backed_up.slipway("backup").text
        assert "changed=0 " in backed_up.play("site.yml")
    finally:
        backed_up.declare()
    backed_up.play("site.yml")
    assert backed_up.sql("SHOW archive_mode") == "on"
    said = backed_up.slipway("backup --wait 600")
    assert said.code == 0, said.text
    assert backed_up.slipway("drill").code == 0
