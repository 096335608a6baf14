"""Several runs that are killed one after another, and a CI job that is started again: the next run takes over."""

from __future__ import annotations

import contextlib
import os
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.controller import flat

from .conftest import Steady
from .site import Run, Site, Version, wait_for
from .test_migrate import NAPPING

AT_ONCE = 150  # seconds for a whole deploy on a busy machine; a lease that has to run out takes 300
_chance = random.Random(52)  # noqa: S311  # the same moments in each run
MOMENTS = [(phase, _chance.uniform(0, 5)) for phase in ("migrate", "start", "watch")]


@contextlib.contextmanager
def long_phase(site: Site, name: str) -> Iterator[Version]:
    """A version of which one phase of the cut-over takes 20 s."""
    if name == "migrate":
        with site.naps(20):
            yield site.version(migration="naps")
    elif name == "start":
        with site.settings(start_deadline=60):
            yield site.version("ready_after_20_s")
    else:
        with site.settings(watch_seconds=20):
            yield site.version()


def command(version: Version) -> str:
    """What finds the engine on the host that deploys a version, whether it waits or is at work.

    The engine alone: sudo, which has started it, stops itself when it sees that its command was stopped.
    """
    return f"'python3 .*[s]lipway deploy.*{version.sha}'"


def wait_until_waiting(site: Site, *versions: Version) -> None:
    """Until the deploys of these wait on the host for the end of a run that was killed."""
    for version in versions:
        site.wait_there(f"pgrep -f {command(version)[:-1]}.*--supersede'")


def phases(site: Site, version: Version) -> list[str]:
    """What the journal has of a version."""
    return [line["phase"] for line in site.journal() if line["tag"] == version.tag]


@pytest.mark.parametrize(
    ("phase", "moment"),
    [
        pytest.param(
            phase,
            moment,
            marks=pytest.mark.row(
                52, "lock", f"a run is killed {moment:.1f} s into {phase}, the next one as it waits on the host for it"
            ),
        )
        for phase, moment in MOMENTS
    ],
)
def test_after_two_kills_in_a_row_the_third_run_converges_and_the_second_opens_nothing(
    site: Site, steady: Steady, record_property: Callable[[str, object], None], phase: str, moment: float
) -> None:
    old = site.live()
    with steady() as load:
        with long_phase(site, phase) as first:
            second, third = site.version(), site.version()
            run = site.run("deploy.yml", *first.chosen)
            site.wait_for_phase(phase)
            time.sleep(moment)
            run.kill()
            waiting = site.run("deploy.yml", *second.chosen)
            wait_until_waiting(site, second)
            waiting.kill()
            lease = site.lease()
            assert lease is not None
            assert (lease["version"], lease["phase"]) == (first.tag, phase), (
                "the first one had ended before the second kill"
            )
            started = time.monotonic()
            site.deploy(third)
        seconds = time.monotonic() - started
        assert site.live() == third
        wait_for(lambda: not site.sh(f"pgrep -f {command(second)}; true"), 10, 0.2)
        assert phases(site, second) == []
        assert site.left_behind() == []
    record_property("note", f"the third took {seconds:.0f} s")
    finished = site.phase(first, "result")["outcome"]
    assert finished == ("succeeded" if phase == "watch" else "reverted")
    assert load.failures == []
    assert load.releases == [old.sha, *([first.sha] if phase == "watch" else []), third.sha]


@pytest.mark.row(53, "lock", "three runs that wait for one another, each killed with its engine when it is at work")
def test_a_run_takes_over_from_dead_owners_until_none_is_left(
    site: Site, steady: Steady, record_property: Callable[[str, object], None]
) -> None:
    old = site.live()
    first, second, third = (site.version(migration="naps") for _ in range(3))
    last = site.version()
    signals = "pkill -{} -f {}"
    with steady() as load:
        with site.naps(120):
            run = site.run("deploy.yml", *first.chosen)
            wait_for(lambda: site.sql(NAPPING) == "1", 30, 0.2)
            run.kill()
            # All three find the first one dead. In which order they go on is decided here.
            later = {version: site.run("deploy.yml", *version.chosen) for version in (second, third, last)}
            wait_until_waiting(site, *later)
            for version in (third, last):
                site.sh(signals.format("STOP", command(version)))
            site.kill_engine()
            for version in (second, third):
                site.wait_there(
                    f"""grep -q '"phase": "migrate", "version": "{version.tag}"' /run/slipway/logbook.lock"""
                )
                later[version].kill()
                site.kill_engine()
                site.sh(signals.format("CONT", command(third if version == second else last)))
        started = time.monotonic()
        assert later[last].end() == 0, later[last].output[-3000:]
        seconds = time.monotonic() - started
        assert site.live() == last
        assert site.left_behind() == []
    record_property("note", f"the fourth run took {seconds:.0f} s")
    assert seconds < AT_ONCE
    assert [site.phase(version, "result")["outcome"] for version in (first, second, third)] == ["reverted"] * 3
    assert load.failures == []
    assert load.releases == [old.sha, last.sha]


def job(site: Site, version: Version, run: str) -> Run:
    """A deploy by a CI job: in a container, which has process numbers of its own."""
    container = ("unshare", "--pid", "--fork", "--mount-proc")
    return site.run("deploy.yml", *version.chosen, inside=container, **({"SLIPWAY_RUN": run} if run else {}))


@pytest.mark.row(53, "lock", "the container of a CI job is killed, and the job is started again (SLIPWAY_RUN)")
def test_a_ci_job_that_is_started_again_takes_over_from_itself_at_once_and_no_other_does(
    site: Site, steady: Steady, record_property: Callable[[str, object], None]
) -> None:
    old, new = site.live(), site.version()
    with steady() as load:
        run = job(site, new, "pipeline/77")
        site.wait_for_phase("start")
        owner = (site.lease() or {})["owner"]
        run.freeze()
        with kept_namespace(owner):
            site.kill_engine()
            run.kill()  # the lease is all that is left
            for other in ("pipeline/78", ""):
                refused = job(site, new, other)
                assert refused.end() != 0, refused.output
                assert f"logbook is being deployed by {owner}" in flat(refused.output), refused.output
            assert site.live() == old
            started = time.monotonic()
            again = job(site, new, "pipeline/77")
            assert again.end() == 0, again.output[-3000:]
        seconds = time.monotonic() - started
        assert site.live() == new
        assert site.left_behind() == []
    record_property("note", f"the job's second attempt took {seconds:.0f} s")
    assert "run pipeline/77" in owner
    assert seconds < AT_ONCE
    assert load.failures == []
    assert load.releases == [old.sha, new.sha]


@contextlib.contextmanager
def kept_namespace(owner: str) -> Iterator[None]:
    """The PID namespace of an owner stays after its last process, so that no other one gets its number."""
    number = owner.partition("namespace ")[2].partition(",")[0]
    found = next(path for path in Path("/proc").glob("[0-9]*/ns/pid") if number in where(path))
    descriptor = os.open(found, os.O_RDONLY)
    try:
        yield
    finally:
        os.close(descriptor)


def where(link: Path) -> str:
    """Where a link leads; "" when its process has ended, or is not ours to see."""
    try:
        return str(link.readlink())
    except OSError:
        return ""
