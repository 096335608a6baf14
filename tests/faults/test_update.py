"""The engine is updated in the middle of a deploy, to a later version and back (for an earlier one: tests/upgrade)."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hosts import scratch
from hosts.container_runtime import run as run_here
from slipway import PROTOCOL, __version__
from slipway.records import deployment
from tests.controller import flat

from .conftest import Steady
from .site import Site

PROGRAM = "/usr/local/bin/slipway"
LATER = f"{__version__}+later"
RECORD = "/srv/logbook/deployment.json"


def build(directory: Path, **numbers: str) -> Path:
    """The engine as one file, of a version in which `numbers` (of files) are one higher than in this one."""
    shutil.rmtree(directory, ignore_errors=True)
    package = directory / "slipway"
    shutil.copytree(scratch.PROJECT / "slipway", package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / "__init__.py").write_text((package / "__init__.py").read_text().replace(__version__, LATER))
    for name, file in numbers.items():
        path = package / file
        found = re.search(rf"(?m)^{name} = (\d+)", path.read_text())
        assert found is not None, f"{file} has no {name}"
        path.write_text(path.read_text().replace(found[0], f"{name} = {int(found[1]) + 1}"))
    output = directory / "program"
    command = [sys.executable, "-m", "slipway", "build", "--output", str(output)]
    subprocess.run(command, check=True, cwd=directory, capture_output=True)
    return output


def install(site: Site, program: Path) -> None:
    """Put the engine in place as site.yml does: by a rename."""
    run_here("docker", "cp", str(program), f"{site.host.name}:{PROGRAM}.later")
    site.sh(f"mv {PROGRAM}.later {PROGRAM}")
    assert LATER in site.sh(f"{PROGRAM} --version")


@contextmanager
def this_version_again(site: Site) -> Iterator[None]:
    """Afterwards the host has the engine of this version again."""
    site.sh(f"cp -a {PROGRAM} /root/slipway")
    try:
        yield
    finally:
        put_back(site)


def put_back(site: Site) -> None:
    site.sh(f"cp -a /root/slipway {PROGRAM}.this && mv {PROGRAM}.this {PROGRAM}")


@pytest.mark.row(54, "upgrade", "a later engine is installed while a deploy is at work")
def test_an_engine_that_is_updated_while_it_is_at_work_ends_its_deploy(site: Site, steady: Steady) -> None:
    old, new, other = site.live(), site.version(migration="naps"), site.version()
    later = build(site.state / "later", PROTOCOL="__init__.py")
    with steady() as load:
        with this_version_again(site):
            with site.naps(8):
                run = site.run("deploy.yml", *new.chosen)
                site.wait_for_phase("migrate")
                install(site, later)
                assert run.end() == 0, run.output[-3000:]
            assert site.live() == new
            assert site.left_behind() == []
            journal = site.journal()
            refused = site.fails(other)  # this controller is older than that engine
            assert site.live() == new
            assert site.journal() == journal
        site.deploy(other)
        assert site.live() == other
        assert site.left_behind() == []
    assert f"The controller uses protocol {PROTOCOL}, but slipway {LATER}" in flat(refused), refused
    assert "changed=0" in refused
    assert load.failures == []
    assert load.releases == [old.sha, new.sha, other.sha]


@pytest.mark.row(54, "upgrade", "a later engine is killed in a deploy, and this version installed again before it ends")
def test_what_a_later_engine_has_open_is_refused_until_that_version_is_back(site: Site, steady: Steady) -> None:
    old, new = site.live(), site.version()
    later = build(site.state / "later", FORMAT="records/deployment.py")
    with steady() as load, this_version_again(site):
        install(site, later)
        run = site.run("deploy.yml", *new.chosen)
        site.wait_for_phase("start")
        run.freeze()
        site.kill_engine()
        run.kill()
        opened = site.sh(f"cat {RECORD}")
        assert json.loads(opened)["format"] == deployment.FORMAT + 1
        put_back(site)
        outputs = [site.play(*playbook, check=False) for playbook in (("deploy.yml", *new.chosen), ("rollback.yml",))]
        shown = site.play("status.yml")
        assert site.sh(f"cat {RECORD}") == opened
        assert site.live() == old
        install(site, later)
        site.deploy(new)
        assert site.live() == new
        assert site.left_behind() == []
    for output in (*outputs, shown):
        assert f"{RECORD} was written by a newer version of Slipway" in flat(output), output
        assert "changed=0" in output
    assert load.failures == []
    assert load.releases == [old.sha, new.sha]
