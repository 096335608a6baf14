"""The controller dies, or cannot reach the host, at any moment: one release serves, and the next run converges."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest

from hosts.container_runtime import run as run_here
from tests.controller import flat
from tests.load import Outcome

from .conftest import Steady
from .site import Site, Version

MOMENTS = (0.05, 0.2, 0.4, 0.7)  # seconds
EVERYWHERE = "SIGKILL to Ansible at every task and after every phase"

Command = tuple[str, ...]
Next = Callable[[], tuple[Command, Version]]


def deploys(site: Site) -> Next:
    """Each deploy is of a new version with a migration that is pending."""

    def following() -> tuple[Command, Version]:
        version = site.version(migration="adds_a_table")
        return ("deploy.yml", *version.chosen), version

    return following


def rollbacks(site: Site) -> Next:
    """Each rollback is to the other good version: what one leaves is where the next begins."""

    def following() -> tuple[Command, Version]:
        version = site.good[1] if site.live() == site.good[0] else site.good[0]
        return ("rollback.yml", *version.chosen), version

    return following


class Deaths:
    """Kills runs, each followed by the same command again, and collects what is not as it should be then."""

    def __init__(self, site: Site, following: Next) -> None:
        self.site = site
        self.following = following
        self.versions = [site.live()]
        self.problems: list[str] = []

    def undisturbed(self) -> tuple[list[str], list[str]]:
        """The names of the tasks and of the phases of a run that nobody kills."""
        before = len(self.site.journal())
        command, version = self.following()
        run = self.site.run(*command)
        tasks = list(run.tasks())
        assert run.end() == 0, run.output[-3000:]
        self.versions.append(version)
        return tasks, [line["phase"] for line in self.site.journal()[before:]]

    def at_tasks(self, names: Sequence[str]) -> None:
        """Killed at each of these tasks, then run again.

        Those before the host is asked for the first time are checks on the controller; one run follows on all of them.
        """
        asked = next(number for number, name in enumerate(names) if ": Deploy |" in name or ": Roll back |" in name)
        command, version = self.following()
        for number, name in enumerate(names):
            run = self.site.run(*command)
            for reached, _ in enumerate(run.tasks()):
                if reached == number:
                    break
            run.kill()
            if number < asked:
                continue
            self._again(f"killed at task {number}, {name}", command, version)
            if number + 1 < len(names):
                command, version = self.following()

    def at_moments(self, task: str, seconds: Sequence[float]) -> None:
        """Killed so many seconds after a task has begun that does several things in a row."""
        for after in seconds:
            command, version = self.following()
            run = self.site.run(*command)
            run.until(task)
            time.sleep(after)
            run.kill()
            self._again(f"killed {after:g} s after '{task}' began", command, version)

    def at_phase(self, name: str) -> None:
        """Killed as soon as the journal says that a phase has ended."""
        command, version = self.following()
        with self.site.following() as lines:
            run = self.site.run(*command)
            for line in lines:
                if (line["tag"], line["phase"]) == (version.tag, name):
                    break
            run.kill()
        self._again(f"killed after phase {name}", command, version)

    def _again(self, when: str, command: Command, version: Version) -> None:
        """What serves now is the old release or the new one, and the same command again makes it the new one."""
        found = self.site.ready()["sha"]
        if found not in (self.versions[-1].sha, version.sha):
            self.problems.append(f"{when}: {found} serves")
        try:
            self.site.play(*command)
        except AssertionError as error:
            self.problems.append(f"{when}: the second run failed: {error}")
        if self.site.live() != version:
            self.problems.append(f"{when}: {self.site.live()} is live after the second run")
        if left := self.site.left_behind():
            self.problems.append(f"{when}: {left} left behind")
        if (outcome := self.site.phase(version, "result")["outcome"]) != "succeeded":
            self.problems.append(f"{when}: the journal says that it {outcome}")
        self.versions.append(version)

    def check(self, load: Outcome) -> None:
        assert self.problems == []
        assert load.failures == []
        # In this order and each of them once: never two at the same time, never back.
        assert load.releases == [version.sha for version in self.versions]


@pytest.mark.parametrize(
    "what",
    [
        pytest.param(deploys, marks=pytest.mark.row(1, "any", EVERYWHERE)),
        pytest.param(rollbacks, marks=pytest.mark.row(46, "rollback", EVERYWHERE)),
    ],
)
def test_a_controller_that_is_killed_at_any_time_leaves_one_release_and_the_next_run_converges(
    site: Site, steady: Steady, record_property: Callable[[str, object], None], what: Callable[[Site], Next]
) -> None:
    deaths = Deaths(site, what(site))
    with steady() as load:
        tasks, phases = deaths.undisturbed()
        deaths.at_tasks(tasks)
        # The commit is found, the host is asked, a bundle is written and sent, a release is built.
        deaths.at_moments(next(name for name in tasks if " | Find the " in name), MOMENTS)
        for name in phases:
            deaths.at_phase(name)
    kills = f"{len(tasks)} tasks, {len(MOMENTS)} moments of the longest one, {len(phases)} phases"
    record_property("note", kills)
    seen = " ".join(tasks)
    assert all(said in seen for said in ("Check what the run is for", "Find the ", "Say what is live")), seen
    assert {"start", "switch", "drain", "result"} < set(phases)
    deaths.check(load)


@pytest.mark.row(46, "rollback", "SIGKILL to Ansible as the release is watched, and again without a version")
def test_a_rollback_without_a_version_that_nobody_saw_the_end_of_goes_no_further_the_next_time(
    site: Site, steady: Steady
) -> None:
    before, new = site.live(), site.version()
    with steady() as load:
        site.deploy(new)
        newer = site.version()
        site.deploy(newer)
        run = site.run("rollback.yml")
        run.until("Roll back |")
        site.wait_for_phase("watch")
        run.kill()
        again = site.play("rollback.yml")
        assert site.live() == new
        assert site.left_behind() == []
    assert f"{new.tag} is live already" in flat(again), again
    assert load.failures == []
    assert load.releases == [before.sha, new.sha, newer.sha, new.sha]


@contextmanager
def unreachable(site: Site) -> Iterator[None]:
    """The host drops every packet from and to its SSH server."""
    process = run_here("docker", "inspect", "--format", "{{.State.Pid}}", site.host.name)
    rules: Sequence[Sequence[str]] = (("INPUT", "--dport"), ("OUTPUT", "--sport"))

    def change(flag: str) -> None:
        for chain, port in rules:
            rule = ["iptables", flag, chain, "--protocol", "tcp", port, "22", "--jump", "DROP"]
            subprocess.run(["nsenter", "--target", process, "--net", *rule], check=True, capture_output=True)

    change("--insert")
    try:
        yield
    finally:
        change("--delete")


# Two patiences with a silent connection: a short one, and the one that ansible.cfg has.
IMPATIENT = {
    # A connection of its own: one that is kept has the patience of whoever opened it.
    "ANSIBLE_SSH_ARGS": "-o ControlMaster=no -o ServerAliveInterval=1",
    "ANSIBLE_TIMEOUT": "3",
}


@pytest.mark.parametrize(
    ("what", "task", "phase", "variables"),
    [
        pytest.param(
            what, task, phase, variables, marks=pytest.mark.row(2, name, f"packets to the SSH port drop ({patience})")
        )
        for what, task, phase, name, variables, patience in (
            (deploys, "Deploy |", "", "plan", IMPATIENT, "ServerAliveInterval=1"),
            (deploys, "Deploy |", "stage", "stage", IMPATIENT, "ServerAliveInterval=1"),
            (deploys, "Deploy |", "migrate", "migrate", {}, "as ansible.cfg has it"),
            (deploys, "Deploy |", "start", "start", IMPATIENT, "ServerAliveInterval=1"),
            (deploys, "Deploy |", "watch", "watch", IMPATIENT, "ServerAliveInterval=1"),
            (rollbacks, "Roll back |", "start", "start", IMPATIENT, "of a rollback, ServerAliveInterval=1"),
        )
    ],
)
def test_a_host_that_cannot_be_reached_any_more_serves_on_and_the_next_run_converges(
    site: Site, steady: Steady, what: Callable[[Site], Next], task: str, phase: str, variables: dict[str, str]
) -> None:
    old = site.live()
    command, new = what(site)()
    with steady() as load:
        run = site.run(*command, **variables)
        run.until(task)
        if phase:
            site.wait_for_phase(phase)
        started = time.monotonic()
        with unreachable(site):
            assert run.end() != 0, run.output[-3000:]
        assert time.monotonic() - started < 90
        assert site.ready()["sha"] in (old.sha, new.sha)
        site.play(*command)
        assert site.live() == new
        assert site.left_behind() == []
    assert "unreachable=1" in run.output
    assert load.failures == []
    assert load.releases == [old.sha, new.sha]
