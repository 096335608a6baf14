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
        with pytest.raises(LockedError, match="Another slipway command is running"), lock.hold(path, "logbook"):
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
