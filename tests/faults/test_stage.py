"""What is wrong before anything has changed, and while a release is built: the one before it serves on."""

from __future__ import annotations

import getpass
import re
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hosts import scratch
from slipway.records.owner import Owner
from tests.controller import flat

from .conftest import Steady
from .site import APP, Run, Site, Version, wait_for

RELEASES = "/srv/logbook/releases"
NO_PROCESS = 2**22  # Linux gives no process this number


@pytest.mark.row(7, "resolve", "no such tag")
def test_a_tag_that_does_not_exist_is_refused_with_near_ones_before_anything_changes(
    site: Site, steady: Steady
) -> None:
    old, journal = site.live(), site.journal()
    with steady() as load:
        output = site.play("deploy.yml", "-e", "version=v2.0.1", check=False)
        assert site.live() == old
        assert site.journal() == journal
        site.next_run()
    assert "No tag 'v2.0.1'" in flat(output), output
    assert re.search(r"Similar tags: .*v2\.0\.0", flat(output)), output
    assert "changed=0" in output
    assert load.failures == []


@pytest.mark.row(8, "resolve", "the tag was moved after it was deployed")
def test_a_moved_tag_is_refused_without_force(site: Site, steady: Steady) -> None:
    old, new, other = site.live(), site.version(), site.version()
    with steady() as load:
        site.deploy(new)
        scratch.git(site.repository, "tag", "--force", "--annotate", new.tag, "--message", "moved", other.sha)
        output = site.fails(new)
        assert site.live() == new
        site.deploy(new, "-e", "force=true")
        assert site.live() == (new.tag, other.sha)
        assert site.left_behind() == []
        site.next_run()
    assert f"The tag {new.tag} was commit {new.sha[:12]}" in flat(output), output
    assert "changed=0" in output
    assert load.failures == []
    assert load.releases[:3] == [old.sha, new.sha, other.sha]


@pytest.mark.row(9, "resolve", "the git remote is down: the repository is moved away")
def test_without_the_remote_nothing_is_deployed_and_a_rollback_still_works(site: Site, steady: Steady) -> None:
    site.next_run()
    old = site.live()
    before, away = site.good[0 if site.good[1] == old else 1], site.repository.with_name("away")
    with steady() as load:
        site.repository.rename(away)
        try:
            output = site.play("deploy.yml", check=False)
            assert old.tag in site.ready()["release"]
            site.play("rollback.yml")
        finally:
            away.rename(site.repository)
        assert site.live() == before
        assert site.left_behind() == []
        site.next_run()
    assert "changed=0" in output
    assert str(site.repository) in flat(output), output
    assert load.failures == []
    assert load.releases == [old.sha, before.sha, old.sha]


@pytest.mark.row(10, "stage", "a truncated source: half releases under its names, with files cut short")
def test_a_truncated_source_is_built_again(site: Site, steady: Steady) -> None:
    old, new = site.live(), site.version()
    with steady() as load:
        for name in (new.release, f"{new.release}.partial"):
            site.sh(f"install -d {RELEASES}/{name}/app && head -c 100 {RELEASES}/{old.release}/app/main.py > "
                    f"{RELEASES}/{name}/app/main.py")  # fmt: skip
        site.deploy(new)
        assert site.live() == new
        assert site.left_behind() == []
        site.next_run()
    built = site.host.exec("cat", f"{RELEASES}/{new.release}/app/main.py")
    assert built.strip() == (APP / "app/main.py").read_text().strip()
    assert load.failures == []


def bundle(site: Site, version: Version) -> Path:
    """A git bundle with a version, as the controller would send it."""
    path = site.state / f"{version.tag}.bundle"
    scratch.git(site.repository, "bundle", "create", str(path), f"refs/tags/{version.tag}")
    return path


@pytest.mark.row(10, "stage", "a truncated source: a bundle that is cut short")
def test_a_bundle_that_is_cut_short_is_refused(site: Site, steady: Steady) -> None:
    old, new = site.live(), site.version()
    whole = bundle(site, new).read_bytes()
    half = whole[: len(whole) // 2]
    with steady() as load:
        stage = ["slipway", "stage", "logbook", "--sha", new.sha, "--tag", new.tag, "--bundle", "-"]
        command = ["docker", "exec", "--interactive", site.host.name, *stage]
        refused = subprocess.run(command, input=half, capture_output=True, check=False)
        assert refused.returncode == 1, refused
        assert site.left_behind() == []
        assert site.live() == old
        site.deploy(new)  # the playbook sends a whole one
        assert site.live() == new
        site.next_run()
    assert load.failures == []


@contextmanager
def small_disk(site: Site, options: Callable[[int, int], str]) -> Iterator[None]:
    """The releases on a file system of their own, as large as `options` says of their kilobytes and inodes."""
    live = site.live().release
    site.sh(f"install -d /tmp/keep && cp -a {RELEASES}/{live} /tmp/keep/")
    used, inodes = (int(text) for text in site.sh(
        "du -sk --apparent-size /tmp/keep | cut -f1; du -s --inodes /tmp/keep | cut -f1").split())  # fmt: skip
    site.sh(
        f"owner=$(stat -c %u {RELEASES}); mount -t tmpfs -o mode=755,uid=$owner,gid=$owner,{options(used, inodes)} "
        f"releases {RELEASES} && cp -a /tmp/keep/{live} {RELEASES}/ && rm -r /tmp/keep"
    )
    try:
        yield
    finally:
        # The running release may have been started from there: lazily, as the next deploy starts another.
        site.sh(f"umount --lazy {RELEASES}")


SMALL = {
    "disk": (lambda used, _: f"size={used * 5 // 4 + 20_000}k", "MB free, but a release needs 500 MB"),
    "inodes": (lambda _, inodes: f"size=4g,nr_inodes={inodes + 1000}", "inodes free, but a release needs 20000"),
}


@pytest.mark.parametrize(
    "short",
    [
        pytest.param("disk", marks=pytest.mark.row(11, "stage", "the disk is full: a small tmpfs for the releases")),
        pytest.param("inodes", marks=pytest.mark.row(12, "stage", "no inodes are left: the same with few of them")),
    ],
)
def test_no_room_is_said_first_and_running_out_of_it_leaves_nothing_behind(
    site: Site, steady: Steady, short: str
) -> None:
    old, new = site.live(), site.version(packages="anew")
    options, sentence = SMALL[short]
    with steady() as load:
        with small_disk(site, options):
            said_first = site.fails(new)
            with site.settings(min_free_mb=1, min_free_inodes=1):
                ran_out = site.fails(new)
            assert site.live() == old
            assert site.left_behind() == []
        site.deploy(new)
        assert site.live() == new
        site.next_run()
    assert sentence in flat(said_first), said_first
    assert "changed=0" in said_first
    # By whoever is first: the engine, which looks at the disk while it is built, or the build itself.
    assert re.search(r"The build has used the disk up|No space left on device|os error 28", flat(ran_out)), ran_out
    assert load.failures == []


@pytest.mark.row(13, "stage", "the package index is down: nothing cached, and a proxy that nobody listens on")
def test_without_the_package_index_the_old_release_serves_on(site: Site, steady: Steady) -> None:
    old, new = site.live(), site.version(packages="anew")
    closed = "http://127.0.0.1:9"
    down = {"HTTPS_PROXY": closed, "HTTP_PROXY": closed, "UV_NO_CACHE": "1", "UV_HTTP_RETRIES": "0"}
    with steady() as load:
        with site.build_env(**down):
            output = site.fails(new)
        assert site.live() == old
        assert site.left_behind() == []
        site.deploy(new)
        assert site.live() == new
        site.next_run()
    assert "uv sync failed" in flat(output), output
    assert load.failures == []


@pytest.mark.row(13, "stage", "a package has another hash than the lock file says")
def test_a_package_with_another_hash_is_not_installed(site: Site, steady: Steady) -> None:
    lock = (APP / "uv.lock").read_text()
    name = "alembic"
    begin = lock.index(f'name = "{name}"')
    forged = lock[:begin] + re.sub(r"sha256:[0-9a-f]{4}", "sha256:0000", lock[begin:], count=2)
    old, new = site.live(), site.version(files={"uv.lock": forged})
    with steady() as load:
        output = site.fails(new)
        assert site.live() == old
        assert site.left_behind() == []
        site.next_run()
    assert "ash mismatch" in flat(output), output
    assert load.failures == []


def hold_up_installer(site: Site) -> None:
    """Stop uv in the middle of its work. One that has just ended takes the signal, too, and is not what is meant."""
    site.sh("timeout 60 sh -c 'until pkill -STOP -x uv && pgrep --runstates T -x uv; do sleep 0.01; done'")


@pytest.mark.row(14, "stage", "the installer is killed, as by the kernel when memory runs out: SIGKILL to uv")
def test_an_installer_that_is_killed_leaves_nothing_behind(site: Site, steady: Steady) -> None:
    old, new = site.live(), site.version(packages="anew")
    with steady() as load:
        run = site.run("deploy.yml", *new.chosen)
        run.until("Deploy |")
        hold_up_installer(site)
        site.sh("pkill -KILL -x uv")
        assert run.end() != 0
        assert site.live() == old
        assert site.left_behind() == []
        site.deploy(new)
        assert site.live() == new
        site.next_run()
    assert re.search(r"(uv sync|The virtualenv) failed", flat(run.output)), run.output
    assert load.failures == []


def deploying(site: Site, new: Version) -> Run:
    run = site.run("deploy.yml", *new.chosen)
    run.until("Deploy |")
    return run


def staging(site: Site, new: Version) -> Run:
    """Only the first phase, as on one of several hosts: it is in no unit, which would end uv with the engine."""
    ended = Owner(getpass.getuser(), socket.gethostname(), process=NO_PROCESS)  # so that the next run takes over
    stage = ["slipway", "stage", "logbook", "--sha", new.sha, "--tag", new.tag, "--owner", str(ended), "--bundle", "-"]
    command = ["docker", "exec", "--interactive", site.host.name, *stage]
    with bundle(site, new).open("rb") as sent:
        return Run(subprocess.Popen(command, stdin=sent, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))


@pytest.mark.parametrize(
    "begin",
    [
        pytest.param(begin, marks=pytest.mark.row(14, "stage", f"SIGKILL to the engine, {how}, while uv is stopped"))
        for begin, how in ((deploying, "which does all phases"), (staging, "which does this phase alone"))
    ],
)
def test_no_installer_outlives_its_engine(site: Site, steady: Steady, begin: Callable[[Site, Version], Run]) -> None:
    old, new = site.live(), site.version(packages="anew")
    with steady() as load:
        run = begin(site, new)
        hold_up_installer(site)
        site.kill_holder()
        wait_for(lambda: not site.host.exec("pgrep", "-x", "uv", check=False), 5)
        assert run.end() != 0
        assert site.live() == old
        site.deploy(new)
        assert site.live() == new
        assert site.left_behind() == []
    assert load.failures == []
    assert load.releases == [old.sha, new.sha]
