"""One deployment at a time: whoever comes second is told who is first, and nobody has to be waited for who is dead."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.controller import flat

from .conftest import Steady
from .site import HOLDER, LOCK, Site

OWNER = "somebody@elsewhere (pid 1)"


@pytest.mark.parametrize(
    "second",
    [
        pytest.param("deploy.yml", marks=pytest.mark.row(3, "lock", "two deploys at once")),
        pytest.param("rollback.yml", marks=pytest.mark.row(6, "lock", "a deploy and a rollback together")),
    ],
)
def test_the_second_of_two_runs_is_told_within_5_s_who_holds_the_lock(
    site: Site, steady: Steady, record_property: Callable[[str, object], None], second: str
) -> None:
    old, first, other = site.live(), site.version(migration="naps"), site.version()
    with steady() as load:
        with site.naps(120):
            run = site.run("deploy.yml", *first.chosen)
            run.until("Deploy |")
            site.wait_for_phase("migrate")
            owner = (site.lease() or {})["owner"]
            late = site.run(second, *(other.chosen if second == "deploy.yml" else ()))
            late.until("Deploy |" if second == "deploy.yml" else "Roll back |")
            started = time.monotonic()
            assert late.end() != 0, late.output
            seconds = time.monotonic() - started
        assert run.end() == 0, run.output[-3000:]
        assert site.live() == first
        assert site.left_behind() == []
        if second == "deploy.yml":
            site.deploy(other)
            assert site.live() == other
        else:
            site.play("rollback.yml")
            assert site.live() == old
        assert site.left_behind() == []
    record_property("note", f"told after {seconds:.1f} s")
    assert f"logbook is being deployed by {owner}" in flat(late.output), late.output
    assert seconds < 5
    assert load.failures == []
    assert load.releases == [old.sha, first.sha, other.sha if second == "deploy.yml" else old.sha]


@pytest.mark.row(3, "lock", "a second engine on the host itself")
def test_the_engine_itself_refuses_the_second_within_5_s(site: Site, steady: Steady) -> None:
    old, first, other = site.live(), site.version(migration="naps"), site.version()
    with steady() as load:
        with site.naps(120):
            run = site.run("deploy.yml", *first.chosen)
            run.until("Deploy |")
            site.wait_for_phase("migrate")
            owner = (site.lease() or {})["owner"]
            for command in ("stage", "deploy"):
                started = time.monotonic()
                wanted = f"--sha {other.sha} --tag {other.tag} --owner '{OWNER}'"
                output = site.sh(f"slipway {command} logbook {wanted} 2>&1; echo code $?")
                assert time.monotonic() - started < 5
                assert output.endswith("code 4"), output
                assert owner in output
        assert run.end() == 0, run.output[-3000:]
        assert site.live() == first
    assert load.failures == []
    assert load.releases == [old.sha, first.sha]


@pytest.mark.parametrize(
    "phase",
    [
        pytest.param("stage", marks=pytest.mark.row(4, "lock", "the holder is SIGKILLed while it builds the release")),
        pytest.param("start", marks=pytest.mark.row(4, "lock", "the holder is SIGKILLed while it starts the release")),
    ],
)
def test_the_lock_of_a_holder_that_is_killed_is_free_at_once(site: Site, steady: Steady, phase: str) -> None:
    old, new = site.live(), site.version(packages="anew")
    with steady() as load:
        run = site.run("deploy.yml", *new.chosen)
        run.until("Deploy |")
        site.wait_for_phase(phase, f"kill -KILL {HOLDER} && timeout 1 flock {LOCK} true")
        assert run.end() != 0
        assert site.live() == old
        site.deploy(new)
        assert site.live() == new
        assert site.left_behind() == []
    assert load.failures == []
    assert load.releases == [old.sha, new.sha]


@contextmanager
def clock(site: Site, moved: str) -> Iterator[None]:
    """The engine sees another date: containers have the clock of this machine, which is not ours to set.

    libfaketime under the interpreter of the engine alone, so that phases in the transient unit see it as well.
    """
    interpreter, program = "/usr/local/bin/python-elsewhen", "/usr/local/bin/slipway"
    library = site.sh("ls /usr/lib/*/faketime/libfaketime.so.1")
    # libfaketime asks its environment anew every ten seconds, and the engine has forgotten what it was called with.
    for_long = "FAKETIME_CACHE_DURATION=3600"
    only = "FAKETIME_DONT_FAKE_MONOTONIC=1 FAKETIME_ONLY_CMDS=python3"
    environment = f"LD_PRELOAD={library} FAKETIME={moved} {for_long} {only}"
    site.write(interpreter, f'#!/bin/sh\nexec env {environment} /usr/bin/python3 "$@"\n')
    site.sh(f"chmod 755 {interpreter} && sed -i '1s|^#!/usr/bin/python3|#!{interpreter}|' {program}")
    try:
        yield
    finally:
        site.sh(f"sed -i '1s|^#!{interpreter}|#!/usr/bin/python3|' {program} && rm {interpreter}")


@pytest.mark.row(5, "lock", "the clock jumps a day on, and back (libfaketime under the engine)")
def test_a_clock_that_jumps_moves_neither_the_lease_nor_the_order_of_releases(site: Site, steady: Steady) -> None:
    install = "apt-get update && apt-get -o Acquire::Retries=3 install --yes faketime"
    site.sh(f"test -e /usr/bin/faketime || {{ {install}; }} >/dev/null")
    old, new, newer = site.live(), site.version(), site.version()
    refused = f"slipway stage logbook --sha {old.sha} --tag {old.tag} --owner '{OWNER}' --force 2>&1; echo code $?"
    with steady() as load:
        with clock(site, "+1d"):
            site.deploy(new)
            dated = site.phase(new, "result")["at"]
            run = site.run("deploy.yml", *newer.chosen)
            run.until("Deploy |")
            site.wait_for_phase("start")
            run.freeze()
            site.kill_engine()
            run.kill()  # the lease is all that is left
        for moved in ("+2d", "-1d"):  # a day on from where it was made, and two back
            with clock(site, moved):
                output = site.sh(refused)
                assert output.endswith("code 4"), f"another took over when the clock moved {moved}: {output}"
        with clock(site, "-1d"):
            site.deploy(newer)
        assert site.phase(newer, "result")["at"] < dated, "or the clock was not moved"
        assert site.live() == newer
        listed = site.sh("slipway releases logbook").splitlines()
        assert [line.split()[0 if number else 1] for number, line in enumerate(listed[1:3])] == [
            newer.release,
            new.release,
        ]
        site.play("rollback.yml")
        assert site.live() == new
        assert site.left_behind() == []
    assert load.failures == []
    assert load.releases == [old.sha, new.sha, newer.sha, new.sha]
