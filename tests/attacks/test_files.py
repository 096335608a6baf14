"""What an app or a build puts where the engine reads: no command waits for it, fails with a defect, or shows it."""

from __future__ import annotations

import time

import pytest

from tests.faults.site import Site

# In the place of a manifest, in a release that seems to be complete.
MANIFESTS = {
    "a FIFO": "mkfifo .manifest.json",
    "a link to a FIFO": "mkfifo fifo; ln -s fifo .manifest.json",
    "a socket": "python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\".manifest.json\")'",
    "a directory": "mkdir .manifest.json",
    "a link to a device that never ends": "ln -s /dev/zero .manifest.json",
    "a link to a terminal": "ln -s /dev/tty .manifest.json",
    "a link to a secret": "ln -s /etc/shadow .manifest.json",
    "a link to itself": "ln -s .manifest.json .manifest.json",
    "a file of a terabyte": "truncate -s 1T .manifest.json",
    "lists in lists": "python3 -c 'print(\"[\" * 10**6)' > .manifest.json",
    "objects in objects": 'python3 -c \'print("{\\"a\\":" * 10**6)\' > .manifest.json',
    "no text": "head -c 100000 /dev/urandom > .manifest.json",
    "another type": 'echo \'{"release": [], "revisions": 7}\' > .manifest.json',
    "a name that leads elsewhere": 'echo \'{"release": "../../../etc", "tag": "x", "sha": "x"}\' > .manifest.json',
}
COMMANDS = ("releases logbook", "status logbook", "prune logbook", "rollback --plan logbook", "recover logbook")


@pytest.mark.parametrize("put", MANIFESTS.values(), ids=MANIFESTS)
def test_no_command_waits_for_what_stands_in_the_place_of_a_manifest(site: Site, put: str) -> None:
    """14 things, 5 commands each; as an earlier version of Slipway let a build put them there."""
    place = "/srv/logbook/releases/aa1-000000000000"
    live = site.live()
    try:
        for command in COMMANDS:
            site.sh(f"mkdir {place} && cd {place} && touch .complete && {put}")
            started = time.monotonic()
            said = site.sh(f"timeout 20 slipway {command} 2>&1; echo code $?")
            assert said.splitlines()[-1] in ("code 0", "code 3"), said
            assert time.monotonic() - started < 15
            assert "defect" not in said
            assert "root:" not in said
            site.sh(f"rm -rf {place}")
    finally:
        site.sh(f"rm -rf {place}")
    assert site.live() == live


AT_WORK = {
    "a FIFO": "rm $f; mkfifo $f",
    "a link to a device": "ln -sf /dev/zero $f",
    "a link to a secret": "ln -sf /etc/shadow $f",
    "a directory": "rm $f; mkdir $f",
    "a file of a terabyte": "truncate -s 1T $f",
    "nothing": "rm $f",
}


@pytest.mark.parametrize("put", AT_WORK.values(), ids=AT_WORK)
def test_an_app_that_hides_what_it_is_at_work_on_is_stopped_and_not_waited_for(site: Site, put: str) -> None:
    """The engine reads a number from a file of the app, in a directory that is the app's."""
    old = site.live()
    slot = site.status()["live"]["slot"]
    loop = f"for f in /run/logbook-{slot}/at-work.*; do {put}; done"
    site.sh(f"setpriv --reuid=logbook --regid=logbook --init-groups sh -c '{loop}'")
    new = site.good[0] if old != site.good[0] else site.good[1]
    started = time.monotonic()
    site.deploy(new)
    assert time.monotonic() - started < 60
    assert site.live() == new
    assert "stopped, not kept on standby" in site.phase(new, "drain")["message"]
    assert site.left_behind() == []
