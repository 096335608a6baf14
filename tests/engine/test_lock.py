import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from slipway.base.errors import LockedError
from slipway.deployment import lock

HOLDER = """
import sys, time
from pathlib import Path
from slipway.deployment import lock
with lock.hold(Path(sys.argv[1]), "logbook") as held:
    held.renew("alice@laptop", "d1", "start", "v1.2.0", 60)
    print("held", flush=True)
    time.sleep(60)
"""


def _holder(path: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_process_gets_the_holder_at_once_and_a_kill_frees_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "run/logbook.lock"
    holder = _holder(path)
    try:
        started = time.monotonic()
        with pytest.raises(LockedError, match=r"alice@laptop \(v1\.2\.0, phase start"), lock.hold(path, "logbook"):
            pass
        assert time.monotonic() - started < 1
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
        with lock.hold(path, "logbook") as held:
            assert held.lease() is not None, "the lease tells who was interrupted"
    finally:
        holder.kill()
        holder.wait()
        if holder.stdout:
            holder.stdout.close()


@pytest.mark.slow
def test_a_waiting_process_gets_the_lock_when_it_is_free(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with lock.hold(path, "logbook"), pytest.raises(LockedError), lock.hold(path, "logbook", wait=0.2):
        pass
    with lock.hold(path, "logbook", wait=0.2) as held:
        assert held.lease() is None


@pytest.mark.parametrize(
    ("owner", "superseded", "now", "held"),
    [
        ("bob", (), 100.0, True),
        ("alice", (), 100.0, False),
        ("bob", ("alice",), 100.0, False),
        ("bob", (), 200.0, False),
    ],
)
def test_a_lease_excludes_other_owners_until_it_ends(
    owner: str, superseded: tuple[str, ...], now: float, held: bool
) -> None:
    lease = lock.Lease("alice", "d1", "stage", "v1", 1, renewed=90.0, until=150.0)
    assert lease.is_held_against(owner, superseded, now) is held


def test_an_ended_lease_leaves_nothing_to_wait_for(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with lock.hold(path, "logbook") as held:
        held.renew("alice", "d1", "stage", "v1", 60)
        assert lock.read(path)
        held.end_lease()
    assert lock.read(path) is None


def test_a_command_that_is_no_deployment_is_waited_for_a_little(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "_SHORT_WAIT", 0.3)
    path = tmp_path / "logbook.lock"
    with lock.hold(path, "logbook") as held:
        named = rf"Another slipway command is running for logbook \(process {os.getpid()} of "
        with pytest.raises(LockedError, match=named), lock.hold(path, "logbook"):
            raise AssertionError("it was not free")
        ended = threading.Timer(0.1, held._file.close)
        ended.start()
        with lock.hold(path, "logbook") as second:
            assert second.waited
        ended.join()


def test_a_deployment_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "_SHORT_WAIT", 30.0)
    path = tmp_path / "logbook.lock"
    with lock.hold(path, "logbook") as held:
        held.renew("alice", "d", "start", "v1", 300)
        started = time.monotonic()
        with pytest.raises(LockedError, match="alice"), lock.hold(path, "logbook"):
            raise AssertionError("it was not free")
        assert time.monotonic() - started < 5


# Whoever could open it could hold it


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_the_lock_and_its_directory_are_the_owners_alone(tmp_path: Path, mask: int) -> None:
    path = tmp_path / "run/logbook.lock"
    before = os.umask(mask)
    try:
        with lock.hold(path, "logbook"):
            pass
    finally:
        os.umask(before)
    assert (path.stat().st_mode & 0o7777, path.parent.stat().st_mode & 0o7777) == (0o600, 0o700)


def test_what_an_earlier_version_has_left_open_to_all_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "run/logbook.lock"
    path.parent.mkdir(mode=0o755)
    path.touch(0o644)
    with lock.hold(path, "logbook"):
        pass
    assert (path.stat().st_mode & 0o7777, path.parent.stat().st_mode & 0o7777) == (0o600, 0o700)


@pytest.mark.parametrize("kind", ["a link", "a link to nothing", "a FIFO", "a directory"])
def test_the_lock_is_nothing_but_a_file(tmp_path: Path, kind: str) -> None:
    path, other = tmp_path / "run/logbook.lock", tmp_path / "other"
    path.parent.mkdir()
    if kind == "a link":
        other.write_text("kept")
    if kind.startswith("a link"):
        path.symlink_to(other)
    elif kind == "a FIFO":
        os.mkfifo(path)
    else:
        path.mkdir()
    with pytest.raises(OSError, match=r"logbook\.lock"), lock.hold(path, "logbook"):
        raise AssertionError("it was held")
    assert not other.exists() or other.read_text() == "kept"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a process of another user")
@pytest.mark.parametrize("lease", [False, True], ids=["no lease", "a lease that was left"])
def test_a_holder_that_is_no_engine_is_named_by_its_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lease: bool
) -> None:
    """It has the file open from before it was closed to others."""
    monkeypatch.setattr(lock, "_SHORT_WAIT", 0.2)
    path = tmp_path / "logbook.lock"
    with lock.hold(path, "logbook") as held:
        if lease:
            held.renew("alice", "d1", "stage", "v1", 60)
    opened = os.open(path, os.O_RDONLY)
    program = f"flock {opened} && echo held && exec sleep 60"
    stranger = subprocess.Popen(["sh", "-c", program], user=65534, pass_fds=[opened], stdout=subprocess.PIPE, text=True)
    os.close(opened)
    try:
        assert stranger.stdout
        assert stranger.stdout.readline() == "held\n"
        said = rf"held by process {stranger.pid} of nobody \(sleep 60\), .* `kill {stranger.pid}`"
        with pytest.raises(LockedError, match=said), lock.hold(path, "logbook"):
            raise AssertionError("it was not free")
    finally:
        stranger.kill()
        stranger.wait()
        if stranger.stdout:
            stranger.stdout.close()
    with lock.hold(path, "logbook"):
        pass


def test_a_lock_is_not_passed_on_to_programs(tmp_path: Path) -> None:
    with lock.hold(tmp_path / "logbook.lock", "logbook") as held:
        assert fcntl.fcntl(held._file.fileno(), fcntl.F_GETFD) & fcntl.FD_CLOEXEC
