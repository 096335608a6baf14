"""The processes of a slot's service, read from a /proc that is a directory of the test's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from slipway.slot import memory, processes
from slipway.slot.processes import Process, Slot

from .fakes import Programs

SHOWN = "MainPID=10\nControlGroup=/system.slice/logbook@blue.service\nOOMScoreAdjust=0\n"


def stat(pid: int, state: str = "S", parent: int = 1, started: int = 5, name: str = "python") -> str:
    return f"{pid} ({name}) {state} {parent} {' '.join('0' for _ in range(17))} {started} 0 0\n"


class Proc:
    """A /proc and a tree of control groups."""

    def __init__(self, root: Path) -> None:
        self.proc, self.groups, self.run = root / "proc", root / "cgroup", root / "run"
        self.group = self.groups / "system.slice/logbook@blue.service"
        self.group.mkdir(parents=True)
        (self.run / "logbook-blue").mkdir(parents=True)

    def add(self, pid: int, **values: object) -> None:
        (self.proc / str(pid)).mkdir(parents=True, exist_ok=True)
        (self.proc / str(pid) / "stat").write_text(stat(pid, **values))  # type: ignore[arg-type]
        with (self.group / "cgroup.procs").open("a") as file:
            file.write(f"{pid}\n")


@pytest.fixture
def proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, programs: Programs) -> Proc:
    made = Proc(tmp_path)
    monkeypatch.setattr(processes, "PROC", made.proc)
    monkeypatch.setattr(processes, "CONTROL_GROUPS", (tmp_path / "absent", made.groups))
    monkeypatch.setattr(processes, "RUN", made.run)
    programs.answers["systemctl show"] = (0, SHOWN, "")
    return made


def test_a_name_with_brackets_and_blanks_does_not_shift_the_fields() -> None:
    found = processes.parse_stat(stat(7, "T", 3, 99, name="a) S 1 (b"))
    assert (found.state, found.parent, found.started) == ("T", 3, 99)


def test_children_of_the_main_process_are_workers_and_all_else_of_the_service_is_not(proc: Proc) -> None:
    proc.add(10)
    proc.add(11, parent=10, started=6)
    proc.add(12, parent=10, started=7)
    proc.add(13, parent=11, started=8)
    proc.add(14, parent=10, state="Z")
    assert processes.of_service("logbook", "blue") == Slot(
        Process(10, 5), (Process(11, 6), Process(12, 7)), (Process(13, 8),)
    )


@pytest.mark.parametrize("shown", ["MainPID=0\nControlGroup=\n", "MainPID=99\nControlGroup=/system.slice\n", ""])
def test_a_service_that_does_not_run_has_no_processes(proc: Proc, programs: Programs, shown: str) -> None:
    proc.add(10)
    programs.answers["systemctl show"] = (0, shown, "")
    assert processes.of_service("logbook", "blue") is None


def test_a_process_is_known_by_its_number_and_its_start(proc: Proc) -> None:
    proc.add(10, state="T", started=5)
    proc.add(11, state="Z")
    assert processes.is_there(Process(10, 5))
    assert processes.is_stopped(Process(10, 5))
    assert not processes.is_there(Process(10, 6)), "the number was given out again"
    assert not processes.is_stopped(Process(10, 6))
    assert not processes.is_there(Process(11, 5)), "it has ended"
    assert not processes.is_there(Process(12, 5))


def test_requests_at_work_are_added_up_and_an_unknown_number_is_not_none(proc: Proc) -> None:
    workers = [Process(11, 5), Process(12, 5)]
    (proc.run / "logbook-blue/at-work.11").write_bytes(bytes([2, 0, 0, 0]))
    assert processes.at_work("logbook", "blue", workers) is None
    (proc.run / "logbook-blue/at-work.12").write_bytes(bytes([0, 1, 0, 0]))
    assert processes.at_work("logbook", "blue", workers) == 2 + 256


def test_the_age_of_a_heartbeat_follows_the_clock_that_gunicorn_sets(proc: Proc, tmp_path: Path) -> None:
    """Since version 21 the time of modification on the clock since boot, before it the time of change."""
    links = proc.proc / "10/fd"
    links.mkdir(parents=True)
    now = time.monotonic()
    for number, modified in enumerate((now - 40, now - 1, time.time())):
        path = tmp_path / f"wgunicorn-{number}"
        path.touch()
        os.utime(path, (modified, modified))
        (links / str(number)).symlink_to(path)
    (links / "9").symlink_to(tmp_path / "other")
    ages = sorted(processes.heartbeat_ages(Process(10, 5)))
    assert ages[0] < 1, "never reported: as old as its file"
    assert 1 <= ages[1] < 5
    assert 40 <= ages[2] < 45
    assert processes.heartbeat_ages(Process(99, 5)) == []


@pytest.fixture
def sleeper() -> Iterator[Process]:
    """A real process that does nothing."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as made:
        found = processes.status(made.pid)
        assert found is not None
        yield Process(made.pid, found.started)
        made.kill()


def test_a_real_process_is_stopped_and_continued(sleeper: Process) -> None:
    assert processes.stop([sleeper])
    assert processes.is_stopped(sleeper)
    processes.resume([sleeper])
    deadline = time.monotonic() + 5
    while processes.is_stopped(sleeper):
        assert time.monotonic() < deadline


def test_a_process_of_another_start_gets_no_signal(sleeper: Process) -> None:
    assert processes.stop([Process(sleeper.pid, sleeper.started + 1)])
    assert not processes.is_stopped(sleeper)


def test_a_process_that_has_ended_counts_as_stopped(sleeper: Process) -> None:
    os.kill(sleeper.pid, signal.SIGKILL)
    deadline = time.monotonic() + 5
    while processes.is_there(sleeper):
        assert time.monotonic() < deadline
    assert processes.stop([sleeper])


MEMORY = "MemTotal:        1048576 kB\nMemFree: 1 kB\nMemAvailable:     {available} kB\n"


@pytest.mark.parametrize(
    ("available", "pressure", "expected"),
    [
        (81920, "", "memory is short (MemAvailable 80 MB of 1024 MB)"),
        (104857, "", "memory is short (MemAvailable 102 MB of 1024 MB)"),
        (104858, "", ""),
        (524288, "some avg10=0.00 avg60=99.00 avg300=0.00 total=1\nfull avg10=50.00 avg60=0\n", ""),
        (
            524288,
            "some avg10=12.3",
            "memory is short (some process waited for it in 12 % of the last 10 s)",
        ),
        (524288, "some avg10=10.00 avg60=0.00", ""),
    ],
)
def test_memory_is_short_below_a_tenth_or_when_others_wait_for_it(available: int, pressure: str, expected: str) -> None:
    assert memory.describe_shortage(MEMORY.format(available=available), pressure) == expected


def test_memory_that_cannot_be_read_counts_as_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert memory.describe_shortage("MemTotal: 1 kB\n", "") == "how much memory is free is not in /proc/meminfo"
    monkeypatch.setattr(memory, "MEMORY", tmp_path / "absent")
    assert "cannot be read" in memory.shortage()


def test_memory_of_this_machine_can_be_read() -> None:
    assert "cannot be read" not in memory.shortage()


def test_a_process_may_have_any_name() -> None:
    program = (
        "import ctypes, time; ctypes.CDLL(None).prctl(15, b'\\xff) S 1', 0, 0, 0); print(flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as made:
        assert made.stdout is not None
        made.stdout.readline()
        found = processes.status(made.pid)
        made.kill()
    assert found is not None
    assert found.parent == os.getpid()
