"""The slot on standby: a rollback wakes it; whatever happens to it, nothing is left stopped and no request fails."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hosts.host import USER
from tests.faults.conftest import Steady
from tests.faults.site import STANDBY, UNIT, Site, Version, wait_for

SLOTS = "/srv/logbook/slots"
TIMER = "slipway-standby-logbook.timer"
TOOLS = "/usr/local/sbin"  # before all others in the engine's PATH
# Stands in for the programs that the engine runs, from the moment on at which its deployment is staged. It kills the
# engine in place of the call for which the shell finds the condition in /run/kill-when. $call is at hand, and $step:
# that with the state of the deployment, and without the name of a slot.
TOOL = r"""#!/bin/sh
call="${0##*/} $*"
stages='"state": "(staged|started|switched|watched|finishing)"'
if [ -n "$SLIPWAY_INSIDE_UNIT" ] && [ -e /run/kill-when ] && grep -Eqs "$stages" /srv/logbook/deployment.json; then
    step=$(echo "$(grep '"state"' /srv/logbook/deployment.json) $call" | sed -E 's/blue|green/SLOT/g')
    if . /run/kill-when; then
        rm /run/kill-when
        echo "$call" > /run/killed
        /usr/bin/systemctl kill --signal=KILL slipway-logbook.service
        exec sleep 60
    fi
fi
exec "/usr/bin/${0##*/}" "$@"
"""
# A condition: each step once, whatever else happens between two of them.
STEP_BY_STEP = """! grep -Fqsx "$step" /run/kill-steps && echo "$step" >> /run/kill-steps"""
PROGRAMS = ("systemctl", "systemd-run", "ss")


class Killer:
    """Ends the engine with SIGKILL at a moment that is told by the program which it is about to run."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def set(self, condition: str) -> None:
        self._site.write("/run/kill-when", condition)
        self._site.sh("rm -f /run/killed")

    def killed_at(self) -> str:
        """The call that was not made; "" when the engine was not killed."""
        self._site.sh("rm -f /run/kill-when")
        return self._site.sh("cat /run/killed 2>/dev/null || true")


@pytest.fixture
def killer(site: Site) -> Iterator[Killer]:
    for name in PROGRAMS:
        site.write(f"{TOOLS}/{name}", TOOL)
        site.sh(f"chmod 755 {TOOLS}/{name}")
    yield Killer(site)
    site.sh(f"rm -f /run/kill-when /run/kill-steps {' '.join(f'{TOOLS}/{name}' for name in PROGRAMS)}")


def command(site: Site, *arguments: str) -> list[str]:
    """`slipway` on the host, over SSH, as a person would type it."""
    options = ["-o", f"UserKnownHostsFile={site.state / 'known_hosts'}", "-i", str(site.state / "key")]
    return ["ssh", *options, "-p", str(site.port(22)), f"{USER}@127.0.0.1", "sudo", "slipway", *arguments]


def slipway(site: Site, *arguments: str, check: bool = True) -> str:
    done = subprocess.run(command(site, *arguments), capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def rollback(site: Site, version: Version, *, check: bool = True) -> str:
    return slipway(site, "rollback", "logbook", version.tag, check=check)


def deploy(site: Site, version: Version, *arguments: str) -> str:
    """Deploy a version whose commit the host has; without Ansible, which these tests are not about."""
    return slipway(site, "deploy", "logbook", "--sha", version.sha, "--tag", version.tag, *arguments)


def on_standby(site: Site) -> tuple[Version, Version]:
    """Two versions, of which the first one is on standby and the second one serves."""
    first, second = site.good
    if site.live() != first or site.status()["live"]["settings_changed"]:
        deploy(site, first)
    deploy(site, second)
    assert standby(site)["release"] == first.release
    return first, second


def standby(site: Site) -> dict[str, Any]:
    """What `slipway status` says is on standby, and could be woken."""
    found: dict[str, Any] | None = site.status()["standby"]
    assert found is not None, "nothing is on standby"
    assert found["problem"] == ""
    assert set(site.processes(found["slot"]).values()) == {"T"}
    return found


def idle(site: Site) -> str:
    return "green" if site.status()["live"]["slot"] == "blue" else "blue"


def paused_workers(site: Site) -> list[int]:
    return list(site.processes(idle(site)))[1:]


def started(site: Site, version: Version) -> str:
    """What the phase `start` of a version's last deployment came to."""
    text: str = site.phase(version, "start")["message"]
    return text


def is_cold(text: str, reason: str) -> bool:
    return f"not woken from standby: {reason}" in text


@pytest.mark.row(56, "standby", "none: a rollback wakes the release before, and the next one the other")
def test_a_rollback_wakes_the_release_on_standby(
    site: Site, steady: Steady, record_property: Callable[[str, object], None]
) -> None:
    first, second = on_standby(site)
    with steady() as load:
        for version in (first, second, first):
            before = site.processes(idle(site)).keys()
            rollback(site, version)
            assert site.live() == version
            assert "woken from standby" in started(site, version)
            live = site.status()["live"]["slot"]
            assert site.processes(live).keys() == before, "it is not the processes that were paused"
            assert site.left_behind() == []
        assert standby(site)["release"] == second.release
    record_property("note", started(site, first))
    assert load.failures == []
    assert load.releases == [second.sha, first.sha, second.sha, first.sha]


@pytest.mark.row(56, "standby", "none: a pause that is longer than Gunicorn's timeout for a silent worker")
def test_gunicorn_ends_no_worker_that_was_paused_for_longer_than_its_timeout(site: Site, steady: Steady) -> None:
    configuration = "/etc/logbook/gunicorn.conf.py"
    before = site.host.exec("cat", configuration)
    site.sh(f"sed -i 's/^timeout = .*/timeout = 4/' {configuration}")
    try:
        with site.settings(timeout=4):
            first, second = site.good
            for version in (first, second):
                deploy(site, version, "--force")
            assert standby(site)["release"] == first.release
            workers = paused_workers(site)
            time.sleep(6)
            with steady() as load:
                rollback(site, first)
                time.sleep(5)
                assert site.live() == first
            assert list(site.processes(site.status()["live"]["slot"]))[1:] == workers
    finally:
        site.write(configuration, before + "\n")
    assert load.failures == []
    assert "was continued after" in site.phase(first, "watch")["message"]


@pytest.mark.row(56, "standby", "a deploy while a release is on standby")
def test_a_deploy_takes_the_slot_of_the_release_on_standby(site: Site, steady: Steady) -> None:
    _, second = on_standby(site)
    new = site.version()
    with steady() as load:
        slot = idle(site)
        paused = site.processes(slot).keys()
        site.deploy(new)
        assert site.live() == new
        said = site.sh(f"journalctl --sync; journalctl --boot --output=cat --unit=logbook@{slot}.service")
        killed = [pid for pid in paused if f"worker {pid} is killed, which is its proper end" in said]
        assert len(killed) == len(paused) - 1, "all but the main process, and none is waited for"
        assert standby(site)["release"] == second.release
        assert not set(paused) & set(site.processes(site.status()["live"]["slot"]))
        assert site.left_behind() == []
        rollback(site, second)
        assert site.live() == second
    assert load.failures == []
    assert load.releases == [second.sha, new.sha, second.sha]


@pytest.mark.row(56, "standby", "the engine is SIGKILLed before each program that it runs, of all steps of a rollback")
def test_an_engine_that_is_killed_at_any_step_of_waking_and_pausing_leaves_nothing_stopped(
    site: Site, steady: Steady, killer: Killer, record_property: Callable[[str, object], None]
) -> None:
    target, serving = on_standby(site)
    seen: list[str] = []
    other_ways: list[str] = []
    with steady() as load:
        for _ in range(60):
            killer.set(STEP_BY_STEP)
            rollback(site, target, check=False)
            if call := killer.killed_at():
                seen.append(call)
                rollback(site, target)
            else:
                said = {name: site.phase(target, name)["message"] for name in ("start", "drain")}
                if "woken from standby" in said["start"] and "on standby for" in said["drain"]:
                    break
                # A busy machine may have kept it from being woken or paused: then not all steps were taken.
                other_ways.append(f"{said['start']}; {said['drain']}")
            assert site.live() == target, call
            assert site.left_behind() == [], call
            target, serving = serving, target
            if not site.status()["standby"]:  # it has to be woken and paused again
                deploy(site, target)
                target, serving = serving, target
    record_property("note", "; ".join([f"{len(seen)} steps", *other_ways]))
    assert site.live() == target
    assert load.failures == []
    assert any(call.startswith("systemd-run") for call in seen), "it was not killed as it paused"
    assert any(call.startswith("ss --unix --tcp") for call in seen), seen
    assert len(seen) < 59


# What the engine was about to do when it was killed, and what is true of the processes of the slot in question besides:
# between two signals it runs nothing that could be waited for, so they are sent here.
HALVES = {
    "as it pauses, the main process stopped": ("[ ${0##*/} = systemd-run ]", "main", "STOP"),
    "as it pauses, the main process and a worker stopped": ("[ ${0##*/} = systemd-run ]", "main worker", "STOP"),
    "as it wakes, one worker continued": (f"grep -q waking {STANDBY}", "worker", "STOP"),
}


@pytest.mark.parametrize("half", [pytest.param(name, marks=pytest.mark.row(56, "standby", name)) for name in HALVES])
def test_a_slot_that_is_half_stopped_is_put_right_by_the_next_run(
    site: Site, steady: Steady, killer: Killer, half: str
) -> None:
    target, _ = on_standby(site)
    condition, which, signal = HALVES[half]
    with steady() as load:
        slot = site.status()["live"]["slot"] if "pauses" in half else idle(site)
        killer.set(condition)
        rollback(site, target, check=False)
        assert killer.killed_at()
        main, *workers = site.processes(slot)
        wanted = {"main": main, "worker": workers[0]}
        site.sh(f"kill -{signal} {' '.join(str(wanted[name]) for name in which.split())}")
        assert "T" in site.processes(slot).values()
        rollback(site, target)
        assert site.live() == target
        assert site.left_behind() == []
    assert load.failures == []


@pytest.mark.row(56, "standby", "the engine is SIGKILLed between the switch and waking Gunicorn's main process")
def test_the_live_slot_does_not_stay_stopped_after_the_boot_unit_has_run(
    site: Site, steady: Steady, killer: Killer
) -> None:
    target, _ = on_standby(site)
    with steady() as load:
        killer.set(f"grep -q switched /srv/logbook/deployment.json && grep -q waking {STANDBY}")
        rollback(site, target, check=False)
        assert killer.killed_at()
        assert site.live() == target
        assert any("is stopped" in item for item in site.left_behind())
        slipway(site, "recover", "logbook")
        assert site.left_behind() == []
        assert site.live() == target
    assert load.failures == []


@pytest.mark.row(56, "standby", "the host reboots (requests fail until it is back)")
def test_after_a_reboot_a_rollback_starts_anew(
    site: Site, steady: Steady, record_property: Callable[[str, object], None]
) -> None:
    first, second = on_standby(site)
    with steady() as load:
        began = time.monotonic()
        site.host.exec("systemctl", "stop", f"logbook@{idle(site)}.service")
        stopped = time.monotonic() - began
        rollback(site, first)
        rollback(site, second)
        standby(site)
        away = time.monotonic()
        site.host.reboot()
        took = time.monotonic() - away
        site.wait_until_ready(30)
        site.host.wait_until_booted()
        back = time.monotonic()
        assert site.live() == second
        assert site.status()["standby"] is None
        assert site.left_behind() == []
        rollback(site, first)
        assert site.live() == first
    assert is_cold(started(site, first), "it was not on standby")
    record_property("note", f"the paused slot alone stopped in {stopped:.1f} s, the host restarted in {took:.1f} s")
    assert stopped < 5, "it waited for Gunicorn's graceful_timeout"
    assert load.outside([(away, back)]) == []


@pytest.mark.row(56, "standby", "a paused worker is killed, as the kernel does when memory runs out")
def test_a_standby_that_lost_a_worker_is_not_woken(site: Site, steady: Steady) -> None:
    first, second = on_standby(site)
    with steady() as load:
        pid = paused_workers(site)[0]
        assert site.sh(f"cat /proc/{pid}/oom_score_adj") == "1000", "it is not the first to go"
        site.sh(f"kill -KILL {pid}")
        assert "was killed" in slipway(site, "status", "logbook")
        rollback(site, first)
        assert site.live() == first
        assert site.left_behind() == []
        live = site.processes(site.status()["live"]["slot"])
        assert {site.sh(f"cat /proc/{pid}/oom_score_adj") for pid in live} == {"0"}
    assert is_cold(started(site, first), "one of its processes was killed")
    assert load.failures == []
    assert load.releases == [second.sha, first.sha]


@pytest.mark.row(56, "standby", "the paused main process is killed, as the kernel does when memory runs out")
def test_systemd_does_not_start_a_standby_again_that_lost_its_main_process(site: Site, steady: Steady) -> None:
    first, second = on_standby(site)
    with steady() as load:
        slot = idle(site)
        site.sh(f"kill -KILL {next(iter(site.processes(slot)))}")
        site.wait_there(f"! systemctl -q is-active logbook@{slot}.service", 10)
        time.sleep(3)  # RestartSec= is one second
        assert site.processes(slot) == {}
        rollback(site, first)
        assert site.live() == first
        assert site.left_behind() == []
    assert is_cold(started(site, first), "it was not on standby")
    assert load.failures == []
    assert load.releases == [second.sha, first.sha]


@pytest.mark.row(58, "standby", "PostgreSQL is restarted")
def test_after_a_restart_of_postgresql_a_rollback_starts_anew(site: Site, steady: Steady) -> None:
    first, _ = on_standby(site)
    with steady() as load:
        began = time.monotonic()
        site.host.exec("systemctl", "restart", "postgresql@17-main.service")
        site.wait_until_ready(20)
        ended = time.monotonic()
        rollback(site, first)
        assert site.live() == first
        assert site.left_behind() == []
    assert is_cold(started(site, first), "PostgreSQL has been restarted since")
    assert load.outside([(began, ended)]) == []


@pytest.mark.row(58, "standby", "PostgreSQL ends one of its connections")
def test_a_standby_that_lost_a_connection_is_not_woken(site: Site, steady: Steady) -> None:
    first, _ = on_standby(site)
    with steady() as load:
        record = json.loads(site.host.exec("cat", STANDBY))
        backend = record["sessions"][0].removeprefix("process ")
        assert site.sql(f"SELECT pg_terminate_backend({backend})") == "t"
        rollback(site, first)
        assert site.live() == first
        assert site.left_behind() == []
    assert is_cold(started(site, first), "a connection of it to PostgreSQL was closed since")
    assert load.failures == []


@pytest.mark.row(58, "standby", "its environment is changed")
def test_a_standby_with_an_older_environment_is_not_woken(site: Site, steady: Steady) -> None:
    first, _ = on_standby(site)
    before = site.host.exec("cat", "/etc/logbook/env")
    with steady() as load:
        site.sh("echo 'NEW_VARIABLE=\"1\"' >> /etc/logbook/env")
        try:
            rollback(site, first)
            assert site.live() == first
            assert "NEW_VARIABLE" in site.host.exec("cat", f"{SLOTS}/{site.status()['live']['slot']}/env")
            # What it took over from has the older environment as well, and was not kept.
            assert site.status()["standby"] is None
            assert "its settings have changed since it was started" in site.phase(first, "drain")["message"]
            assert site.left_behind() == []
        finally:
            site.sh(f"cat > /etc/logbook/env <<'END'\n{before}\nEND")
    assert is_cold(started(site, first), "its settings have changed since")
    assert load.failures == []


@pytest.mark.row(58, "standby", "memory is short, at the rollback and at the pause")
def test_when_memory_is_short_nothing_is_woken_and_nothing_paused(site: Site, steady: Steady) -> None:
    first, _ = on_standby(site)
    with steady() as load:
        site.write("/run/meminfo", "MemTotal: 1048576 kB\nMemAvailable: 81920 kB\n")
        site.sh("mount --bind /run/meminfo /proc/meminfo")
        try:
            rollback(site, first)
        finally:
            site.sh("umount /proc/meminfo")
        assert site.live() == first
        assert site.left_behind() == []
        assert site.status()["standby"] is None
    reason = "memory is short (MemAvailable 80 MB of 1024 MB)"
    assert is_cold(started(site, first), reason)
    assert f"stopped, not kept on standby: {reason}" in site.phase(first, "drain")["message"]
    assert load.failures == []


def jobs(site: Site, slot: str, after: float) -> list[str]:
    """Which jobs of the release with a scheduler have run after a moment of the clock that counts from boot."""
    site.host.exec("journalctl", "--sync")
    lines = site.host.exec("journalctl", "--boot", f"--unit=logbook@{slot}", "--output=cat").splitlines()
    ran = [line.split() for line in lines if line.startswith("job ")]
    return [which for _, which, at in ran if float(at) > after]


def boot_clock(site: Site) -> float:
    return float(site.sh("cut -d' ' -f1 /proc/uptime"))


def ticks(site: Site, slot: str) -> int:
    """Processor time of a slot's processes, in ticks of a hundredth of a second."""
    pids = " ".join(f"/proc/{pid}/stat" for pid in site.processes(slot))
    return int(site.sh(f"awk '{{n += $14 + $15}} END {{print n}}' {pids}"))


@pytest.mark.row(57, "standby", "an app with a scheduler in its lifespan: woken again")
def test_the_jobs_of_a_scheduler_run_before_the_pause_and_after_it_and_not_meanwhile(
    site: Site, steady: Steady
) -> None:
    scheduling, other = site.version("has_a_scheduler"), site.good[1]
    with steady() as load:
        site.deploy(scheduling)
        slot = site.status()["live"]["slot"]
        assert {"task", "thread"} <= set(jobs(site, slot, 0)), "the scheduler does not work"
        deploy(site, other)
        paused_at = json.loads(site.host.exec("cat", STANDBY))["paused_at"]
        quiet = boot_clock(site)
        time.sleep(5)
        assert jobs(site, slot, quiet) == []
        assert len(jobs(site, slot, paused_at + 1)) == 0
        woken = boot_clock(site)
        rollback(site, scheduling)
        time.sleep(1)
        assert {"task", "thread"} <= set(jobs(site, slot, woken)), "the scheduler does not go on"
        assert site.left_behind() == []
    assert load.failures == []


@pytest.mark.row(
    57, "standby", "an app with a scheduler in its lifespan: no job for a minute, no processor time, none at its end"
)
@pytest.mark.row(58, "standby", "its time is over: the timer ends it")
def test_at_the_end_of_its_time_a_timer_ends_the_standby_and_no_job_has_run(
    site: Site, steady: Steady, record_property: Callable[[str, object], None]
) -> None:
    scheduling, other = site.version("has_a_scheduler"), site.good[1]
    with steady() as load:
        site.deploy(scheduling)
        slot = site.status()["live"]["slot"]
        with site.settings(standby_minutes=1):
            deploy(site, other)
        assert standby(site)["release"] == scheduling.release
        paused, used = boot_clock(site), ticks(site, slot)
        time.sleep(50)
        assert ticks(site, slot) == used
        assert standby(site)["release"] == scheduling.release
        site.wait_there(f"! systemctl -q is-active logbook@{slot}.service", 40)
        ended = boot_clock(site)
        wait_for(lambda: site.status()["standby"] is None, 10)
        assert jobs(site, slot, paused) == []
        assert site.left_behind() == []
        rollback(site, scheduling)
        assert site.live() == scheduling
    assert is_cold(started(site, scheduling), "it was not on standby")
    record_property("note", f"ended {ended - paused:.0f} s after the pause of one minute began")
    assert load.failures == []


@pytest.mark.row(58, "standby", "it holds a lock in PostgreSQL, which others would wait for: it is stopped")
def test_a_release_that_holds_a_lock_in_postgresql_is_not_kept_on_standby(site: Site, steady: Steady) -> None:
    holding, other = site.version("holds_a_lock"), site.good[1]
    with steady() as load:
        site.deploy(holding)
        deploy(site, other)
        assert site.status()["standby"] is None
        assert site.sql("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == "0"
        assert site.left_behind() == []
    assert "of its connections had a transaction or a lock in PostgreSQL" in site.phase(other, "drain")["message"]
    assert load.failures == []


@pytest.mark.row(56, "standby", "an answer is out, and its background task goes on for 3 s")
def test_a_slot_is_not_paused_before_its_background_tasks_are_done(site: Site, steady: Steady) -> None:
    old = site.version()
    site.deploy(old)
    count = "SELECT count(*) FROM entries WHERE text = 'later'"
    before = int(site.sql(count))
    with steady() as load:
        with site.client() as client, site.settings(watch_seconds=0, drain_seconds=30):
            answer = client.post("/later", params={"seconds": 8})
            assert (answer.status_code, answer.json()["release"]) == (202, old.tag)
            deploy(site, site.good[0])
        assert int(site.sql(count)) == before + 1, "it was paused in the middle"
        assert standby(site)["release"] == old.release
        assert site.left_behind() == []
    assert load.failures == []


@pytest.mark.row(56, "standby", "the timer of an older standby comes to its end while a deployment is at work")
def test_the_end_of_an_older_standby_leaves_the_newer_one_alone(site: Site, steady: Steady) -> None:
    first, second = on_standby(site)
    with steady() as load:
        slipway(site, "end-standby", "logbook")
        assert standby(site)["release"] == first.release, "its time was not over"
        rollback(site, first)
        slipway(site, "end-standby", "logbook")
        assert standby(site)["release"] == second.release
        assert site.sh(f"systemctl list-timers --all --plain --no-legend {TIMER} | wc -l") == "1"
        assert site.sh(f"systemctl is-active {UNIT} || true") == "inactive"
    assert load.failures == []
