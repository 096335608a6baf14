"""When one of two hosts fails or is gone, no host switches or both go back, and the next run brings both together."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.controller import flat
from tests.faults.site import UNIT, Version
from tests.load import Outcome

from .fleet import Fleet, back, state

Record = Callable[[str, object], None]

# The slot that does not take traffic yet crashes; the gate is asked again right before the switch.
CRASH_IDLE = (
    "cd /srv/logbook && idle=$(test $(readlink live) = slots/blue && echo green || echo blue) && "
    "systemctl kill --signal=KILL logbook@$idle.service"
)


def served(load: Outcome, *versions: Version) -> None:
    """Every request of a host was answered, by these versions one after the other."""
    assert load.failures == []
    assert load.releases == [version.sha for version in versions]


@pytest.mark.row(49, "fleet", "host 2 is dead before the deploy; then `without` it; then it is back")
def test_with_an_unreachable_host_no_host_switches_and_the_run_says_how_to_go_on(fleet: Fleet) -> None:
    old, new = fleet.live(), fleet.other()
    dead = fleet.second.host.name
    fleet.second.pull_the_plug()
    output = fleet.first.fails(new)
    assert f"{dead} cannot be reached" in flat(output), output
    assert f"pass -e without={dead} " in flat(output), output
    assert fleet.first.live() == old
    assert fleet.first.left_behind() == []
    output = fleet.first.deploy(new, "-e", f"without={dead}")
    assert f"Without {dead}" in flat(output), output
    assert fleet.first.live() == new
    back(fleet.second)
    assert fleet.second.live() == old
    fleet.converges(new)


@pytest.mark.row(49, "fleet", "host 2 is killed while the release starts there")
def test_a_host_that_dies_before_the_switch_keeps_the_other_on_the_old_release(fleet: Fleet) -> None:
    old, new = fleet.live(), fleet.other()
    with fleet.clients() as (first, _):
        run = fleet.first.run("deploy.yml", *new.chosen)
        run.until("Start |")
        fleet.second.wait_for_phase("start")
        fleet.second.pull_the_plug()
        assert run.end() != 0, run.output[-3000:]
        assert f"{fleet.second.host.name} cannot be reached" in flat(run.output), run.output
        assert fleet.first.live() == old
        back(fleet.second)
        assert fleet.live() == old
        fleet.converges(new)
    served(first, old, new)


@pytest.mark.parametrize(
    ("variant", "phase"),
    [
        pytest.param(
            "crashes_at_import", "start", marks=pytest.mark.row(50, "fleet", "host 2 fails its gate: it crashes there")
        ),
        pytest.param(
            "fails_under_traffic", "watch", marks=pytest.mark.row(51, "fleet", "host 2 fails its watch: 500s there")
        ),
    ],
)
def test_a_release_that_is_bad_on_one_host_takes_traffic_on_none(fleet: Fleet, variant: str, phase: str) -> None:
    old, new, next_one = fleet.live(), fleet.version(on_second=variant), fleet.other()
    with fleet.clients() as (first, _):
        output = fleet.first.fails(new)
        assert fleet.live() == old
        assert fleet.left_behind() == []
        fleet.converges(next_one)
    assert f"{fleet.second.host.name} failed, so no host goes on" in flat(output), output
    assert fleet.second.phase(new, phase)["outcome"] == "failed"
    assert [site.phase(new, "result")["outcome"] for site in fleet.sites] == ["reverted", "failed"]
    served(first, old, *([new, old] if phase == "watch" else []), next_one)


@pytest.mark.parametrize(
    "playbook",
    [
        pytest.param("deploy.yml", marks=pytest.mark.row(51, "fleet", "host 2 fails at the switch")),
        pytest.param("rollback.yml", marks=pytest.mark.row(51, "fleet", "host 2 fails at the switch of a rollback")),
    ],
)
def test_a_host_that_fails_at_the_switch_takes_the_other_back(fleet: Fleet, playbook: str) -> None:
    old, new = fleet.live(), fleet.other()
    with fleet.clients() as (first, second):
        with fleet.meanwhile(state("started"), CRASH_IDLE):
            output = fleet.first.play(playbook, *new.chosen, check=False)
        assert fleet.second.phase(new, "switch")["outcome"] == "failed", output
        assert fleet.live() == old
        assert fleet.left_behind() == []
        fleet.first.play(playbook, *new.chosen)
        assert fleet.live() == new
        assert fleet.left_behind() == []
    assert first.failures == []
    served(second, old, new)


@pytest.mark.parametrize("goes_on", [False, True])
@pytest.mark.row(55, "fleet", "host 2 is killed right after the switch, and boots again; also `without` it meanwhile")
def test_a_host_that_dies_right_after_the_switch_serves_the_old_release_until_the_next_run(
    fleet: Fleet, goes_on: bool
) -> None:
    old, new = fleet.live(), fleet.other()
    dead = fleet.second.host.name
    with fleet.clients() as (first, _):
        run = fleet.first.run("deploy.yml", *new.chosen)
        run.until("Watch |")
        fleet.second.pull_the_plug()
        assert run.end() != 0, run.output[-3000:]
        assert f"{dead} cannot be reached" in flat(run.output), run.output
        assert fleet.first.live() == old
        if goes_on:
            fleet.first.deploy(new, "-e", f"without={dead}")
            assert fleet.first.live() == new
        back(fleet.second)
        assert fleet.second.live() == old
        assert "deployment.json" in " ".join(fleet.second.left_behind()), "it is the next run's to end"
        fleet.converges(new)
    served(first, old, new, old, new)


@pytest.mark.parametrize("task", ["Start |", "Switch |", "Finish |"])
@pytest.mark.row(51, "fleet", "SIGKILL to Ansible in the middle of a deploy of two hosts")
def test_a_controller_that_is_killed_in_the_middle_leaves_the_next_run_to_bring_both_together(
    fleet: Fleet, task: str
) -> None:
    old, new = fleet.live(), fleet.other()
    with fleet.clients() as loads:
        run = fleet.first.run("deploy.yml", *new.chosen)
        run.until(task)
        fleet.second.wait_there(f"systemctl -q is-active {UNIT}", 30)
        run.kill()
        fleet.converges(new)
    for load in loads:
        assert load.failures == []
        assert (load.releases[0], load.releases[-1]) == (old.sha, new.sha)


@pytest.mark.parametrize(
    ("without", "message"),
    [
        ("no-such-host", "without names no-such-host, and local has no such host."),
        ("slipway-fleet-1,slipway-fleet-2", "leaves no host for this run."),
    ],
)
def test_hosts_are_left_out_only_when_they_are_there_and_others_are_left(
    fleet: Fleet, without: str, message: str
) -> None:
    old = fleet.live()
    output = fleet.first.fails(fleet.other(), "-e", f"without={without}")
    assert message in flat(output), output
    assert fleet.live() == old
