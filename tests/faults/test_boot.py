"""The host goes away in the middle of something, and comes back by itself with one release."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable

import pytest

from .conftest import Steady
from .site import Site, wait_for
from .test_migrate import NAPPING

UNAIDED = 30  # seconds from the boot to the first answer


def reboot(site: Site) -> None:
    """Everything is told to stop, and starts again."""
    site.host.reboot()


def pull_the_plug(site: Site) -> None:
    """Every process is gone at once, and the host starts again."""
    site.pull_the_plug()
    site.plug_in()


@pytest.mark.row(19, "migrate", "the host reboots (requests fail until it is back)")
def test_after_a_reboot_in_a_migration_the_old_release_returns_unaided(
    site: Site, steady: Steady, record_property: Callable[[str, object], None]
) -> None:
    old, new, revision = site.live(), site.version(migration="naps"), site.revision()
    with steady() as load:
        with site.naps(120):
            run = site.run("deploy.yml", *new.chosen)
            run.until("Deploy |")
            wait_for(lambda: site.sql(NAPPING) == "1", 30, 0.2)
            began = time.monotonic()
            reboot(site)
            seconds = site.wait_until_ready(UNAIDED)
            assert run.end() != 0
            assert site.live() == old
            site.host.wait_until_booted()
            ended = time.monotonic()
            assert site.revision() == revision
        assert site.left_behind() == []
        site.deploy(new)
        assert site.live() == new
        assert site.revision() != revision
    record_property("note", f"answered {seconds:.0f} s after the boot")
    assert load.outside([(began, ended)]) == []
    assert load.releases == [old.sha, new.sha]


@pytest.mark.row(33, "boot", "the host reboots after a deploy (requests fail until it is back)")
def test_after_a_reboot_the_same_commit_serves_within_30_s(
    site: Site, steady: Steady, record_property: Callable[[str, object], None]
) -> None:
    site.next_run()
    old = site.live()
    with steady() as load:
        began = time.monotonic()
        reboot(site)
        seconds = site.wait_until_ready(UNAIDED)
        assert site.live() == old
        site.host.wait_until_booted()
        ended = time.monotonic()
        assert site.left_behind() == []
        site.next_run()
    record_property("note", f"answered {seconds:.0f} s after the boot")
    assert load.outside([(began, ended)]) == []
    assert load.releases == [old.sha, site.live().sha]


MOMENTS = {
    # As soon as the switch has begun: before the rename, or right at it. It may be over by the next look.
    "begun": """grep -Eq '"state": "(started|switched)"' deployment.json && systemctl -q is-active slipway-logbook""",
    # As soon as the link has moved, before or after that is written down.
    "renamed": 'test "$(readlink live)" != {live}',
}


def wait_for_moment(site: Site, moment: str, then: str = "true") -> None:
    live = site.sh("readlink /srv/logbook/live")
    site.wait_there(f"cd /srv/logbook && {MOMENTS[moment].format(live=live)}", 90, then)


# Prints what the kernel says has happened to the name `live`: 64 it was moved away, 128 something was moved to it,
# 256 it was made, 512 it was deleted.
WATCHER = """
import ctypes, os, struct
libc = ctypes.CDLL(None)
watch = libc.inotify_init1(0)
libc.inotify_add_watch(watch, b"/srv/logbook", 64 | 128 | 256 | 512)
print("watching", flush=True)
while True:
    data = os.read(watch, 65536)
    while data:
        _, mask, _, length = struct.unpack("iIII", data[:16])
        if data[16 : 16 + length].rstrip(bytes(1)) == b"live":
            print(mask, flush=True)
        data = data[16 + length :]
"""


@pytest.mark.row(32, "switch", "inotify watches the link: there is no moment without one")
def test_the_link_is_replaced_by_one_rename(site: Site, steady: Steady) -> None:
    old = site.live()
    command = ["docker", "exec", site.host.name, "python3", "-c", WATCHER]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as watcher:
        assert watcher.stdout is not None
        assert watcher.stdout.readline() == "watching\n"
        with steady() as load:
            site.next_run()
            site.play("rollback.yml", *old.chosen)
            assert site.live() == old
        site.host.exec("pkill", "-f", "inotify_init1")
        events = watcher.stdout.read().split()
    assert events == ["128", "128"]
    assert load.failures == []


@pytest.mark.parametrize(
    ("moment", "dies"),
    [
        pytest.param(moment, dies, marks=pytest.mark.row(32, "switch", f"SIGKILL to the engine{whom} {when}"))
        for moment, when in (("begun", "as the switch begins"), ("renamed", "at the rename"))
        for dies, whom in ((False, ""), (True, ", then to Ansible before it knows,"))
    ],
)
def test_an_engine_that_is_killed_around_the_rename_leaves_one_release_and_the_next_run_converges(
    site: Site, steady: Steady, moment: str, dies: bool
) -> None:
    old, new = site.live(), site.version()
    with steady() as load:
        run = site.run("deploy.yml", *new.chosen)
        run.until("Deploy |")
        if dies:  # the play undoes nothing, so the next run has to
            site.wait_for_phase("start")
            run.freeze()
        wait_for_moment(site, moment, "systemctl kill --signal=KILL slipway-logbook.service")
        run.kill() if dies else run.end()
        assert (site.left_behind() != []) is dies
        assert site.live() in (old, new)
        site.deploy(new)
        assert site.live() == new
        assert site.left_behind() == []
    assert load.failures == []
    assert {old.sha, new.sha} == set(load.releases)


@pytest.mark.parametrize(
    ("moment", "end"),
    [
        pytest.param(
            moment,
            end,
            marks=pytest.mark.row(32, "switch", f"{fault} {when} (requests fail until the host is back)"),
        )
        for moment, when in (("begun", "as the switch begins"), ("renamed", "at the rename"))
        for end, fault in ((reboot, "reboot"), (pull_the_plug, "every process killed"))
    ],
)
def test_a_host_that_goes_away_around_the_rename_comes_back_with_one_release(
    site: Site,
    steady: Steady,
    record_property: Callable[[str, object], None],
    moment: str,
    end: Callable[[Site], None],
) -> None:
    old, new = site.live(), site.version()
    with steady() as load:
        run = site.run("deploy.yml", *new.chosen)
        run.until("Deploy |")
        wait_for_moment(site, moment)
        began = time.monotonic()
        end(site)
        seconds = site.wait_until_ready(UNAIDED)
        run.end()
        site.host.wait_until_booted()
        ended = time.monotonic()
        found = site.live()
        assert found in (old, new)
        assert site.left_behind() == [], "the boot did not end what was open"
        site.deploy(new)
        assert site.live() == new
        assert site.left_behind() == []
    record_property("note", f"{'new' if found == new else 'old'} answered {seconds:.0f} s after the boot")
    assert load.outside([(began, ended)]) == []
    assert set(load.releases) <= {old.sha, new.sha}
