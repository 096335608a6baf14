"""Nobody but root can hold, read or replace what the engine keeps below /run; attacked as the app's own user."""

from __future__ import annotations

import json

import pytest

from tests.faults.site import LOCK, STANDBY, Site

USERS = ("logbook", "logbook_build", "logbook_migrate", "www-data", "nobody")

# Each way to get at a file of the engine, for each file that is there and some names that could be.
ATTACK = r"""
import fcntl, json, os, sys
found, tries = [], 0
names = ["logbook.lock", "logbook.standby.json", "other.lock", "program", "."]
ways = {
    "read": lambda path: os.open(path, os.O_RDONLY),
    "write": lambda path: os.open(path, os.O_WRONLY),
    "path": lambda path: os.open(path, os.O_PATH),
    "make": lambda path: os.open(path + ".x", os.O_CREAT | os.O_WRONLY),
    "remove": os.unlink,
    "rename": lambda path: os.rename(path, path + ".old"),
    "link": lambda path: os.link(path, f"/tmp/link-{os.getpid()}"),
    "symlink": lambda path: os.symlink("/etc/passwd", path + ".link"),
    "mode": lambda path: os.chmod(path, 0o666),
    "look": os.stat,
    "list": os.listdir,
    "enter": os.chdir,
    "fifo": lambda path: os.mkfifo(path + ".fifo"),
    "times": lambda path: os.utime(path),
    "truncate": lambda path: os.truncate(path, 0),
}
for directory in ("/run/slipway", "/var/run/slipway", "/proc/1/root/run/slipway", "/run/../run/slipway"):
    for name in names:
        for way, attack in ways.items():
            tries += 1
            try:
                attack(f"{directory}/{name}")
                if not (name == "." and way in ("path", "look")):  # that the directory is there is no secret
                    found.append(f"{way} {directory}/{name}")
            except OSError:
                pass
print(json.dumps({"tries": tries, "found": found}))
"""


@pytest.mark.parametrize("user", USERS)
def test_the_files_of_the_engine_are_out_of_reach(site: Site, user: str) -> None:
    """300 tries for each user."""
    command = ["setpriv", f"--reuid={user}", f"--regid={user if user != 'nobody' else 'nogroup'}", "--init-groups"]
    result = json.loads(site.host.exec(*command, "/usr/bin/python3", "-c", ATTACK))
    assert result == {"tries": 300, "found": []}


def test_the_directory_the_lock_and_the_record_are_roots_alone(site: Site) -> None:
    site.next_run()  # leaves a slot on standby
    shown = site.sh(f"stat -c '%U:%G %a %F' /run/slipway {LOCK} {STANDBY}").splitlines()
    assert [line.rpartition(":")[0] for line in shown] == ["root"] * 3
    assert shown[0] == "root:root 700 directory"
    assert shown[1].startswith("root:root 600 regular")


def test_a_slot_on_standby_is_not_started_by_systemd_although_its_record_is_roots(site: Site) -> None:
    """The unit of the app asks as root whether it may start; as the app's user it would see nothing, and start."""
    site.next_run()
    idle = json.loads(site.host.exec("cat", STANDBY))["slot"]
    site.sh(f"systemctl kill --signal=KILL --kill-whom=main logbook@{idle}.service; sleep 2")
    state = site.sh(f"systemctl show --property=ActiveState,MainPID logbook@{idle}.service")
    assert "MainPID=0" in state, state
    site.next_run()


def test_an_app_that_has_the_lock_open_from_before_is_named_with_its_process(site: Site) -> None:
    """It opened the file with an earlier version of Slipway, and still has it."""
    hold = (
        f"exec 9<{LOCK}; setpriv --reuid=logbook --regid=logbook --init-groups "
        "sh -c 'flock 9; exec sleep 60' >/dev/null 2>&1 & echo $!"
    )
    pid = site.sh(hold)
    try:
        site.wait_there(f"! flock --nonblock {LOCK} true", 10)
        said = site.sh("slipway prune logbook 2>&1; echo code $?")
        assert f"is held by process {pid} of logbook (sleep 60), which is no command of slipway" in said, said
        assert f"`kill {pid}`" in said
        assert said.endswith("code 4")
        status = site.sh("slipway status logbook; echo code $?")
        assert status.endswith("code 0"), "who only looks does not need the lock"
    finally:
        site.sh(f"kill {pid}; timeout 5 flock {LOCK} true")
    site.next_run()
