"""Parts that fail, hang, and are interrupted."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.runner import parts, summary
from tests.runner.outcomes import Failure
from tests.runner.parts import Part, Stage
from tests.runner.run import Result, Run

PROJECT = Path(__file__).resolve().parents[2]
MAKEFILE = (PROJECT / "Makefile").read_text()

# Writes what pytest would have written of a test.
RECORD = """
import json, os
def record(event, test, reason=""):
    with open(os.environ["SLIPWAY_OUTCOMES"], "a") as file:
        file.write(json.dumps({"event": event, "test": test, "reason": reason}) + "\\n")
"""


def part(name: str, program: str, seconds: float = 120, hosts: tuple[str, ...] = ()) -> Part:
    return Part(name, (sys.executable, "-c", RECORD + program), seconds, hosts)


class Runs:
    """Runs stages in an empty directory; keeps what was printed and which hosts were removed."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.stop = threading.Event()
        self.removed: list[str] = []
        self.printed = ""
        self.tidy = 0.5

    def __call__(self, *stages: Stage, limit: float = 1000) -> list[Result]:
        deadline = time.monotonic() + limit
        run = Run(self.directory, deadline, self.stop, self.removed.append, self._say, self.tidy, self.clock)
        return run.stages(stages)

    def clock(self) -> float:
        """Five minutes pass at once when the part `hangs` has printed something, however slow the machine is."""
        log = self.directory / "hangs.log"
        return time.monotonic() + (300 if log.exists() and log.stat().st_size else 0)

    def _say(self, text: str) -> None:
        self.printed += text


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path / "logs")


def await_(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_a_part_that_fails_ends_no_other_and_fails_the_run(runs: Runs) -> None:
    bad = part("bad", "record('failed', 't::b', 'KeyError: x'); record('passed', 't::a'); print('traceback'); exit(1)")
    good = part("good", "record('passed', 't::c'); print('3 passed in 1.00s')")
    results = runs(Stage((bad,)), Stage((good,)))
    assert [result.ended for result in results] == ["failed", "passed"]
    assert results[0].found.failures == [Failure("t::b", "KeyError: x")]
    assert summary.code(results) == 1
    assert "\n3 passed in 1.00s\n" in runs.printed


def test_the_run_passes_when_every_part_does(runs: Runs) -> None:
    assert summary.code(runs(Stage((part("a", ""), part("b", ""))))) == 0


def test_so_many_parts_as_a_stage_says_run_side_by_side(runs: Runs) -> None:
    """`first` ends only once `beside` has begun, and `third` begins when one of them has ended."""
    here = runs.directory
    first = part(
        "first",
        f"import pathlib, time\nwhile not pathlib.Path({str(here / 'beside.log')!r}).exists(): time.sleep(0.02)",
    )
    names = ("first", "beside", "third")
    third = part("third", f"import pathlib; print(len(list(pathlib.Path({str(here)!r}).glob('*.log'))))")
    results = runs(Stage((first, part("beside", ""), third)))
    assert [(result.part.name, result.ended) for result in results] == [(name, "passed") for name in names]
    assert (here / "third.log").read_text() == "3\n"


def test_a_stage_begins_when_the_one_before_it_has_ended(runs: Runs) -> None:
    late = part("late", "import time; time.sleep(0.5); print('done', flush=True)")
    after = part("after", f"print(open({str(runs.directory / 'late.log')!r}).read())")
    runs(Stage((late, part("beside", ""))), Stage((after,)))
    assert (runs.directory / "after.log").read_text() == "done\n\n"


def test_what_parts_print_is_not_mixed(runs: Runs) -> None:
    slow = "import time\nfor n in range(5): print('{0}', n, flush=True); time.sleep(0.1)"
    runs(Stage((part("a", slow.format("a")), part("b", slow.format("b")))))
    for name in "ab":
        assert "\n".join(f"{name} {number}" for number in range(5)) in runs.printed


def test_a_part_that_hangs_is_ended_and_named_with_the_test_that_it_was_at(runs: Runs) -> None:
    hangs = part(
        "hangs",
        "record('started', 't::done'); record('ended', 't::done'); record('started', 't::stuck')\n"
        "import subprocess, signal, time\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "print(subprocess.Popen(['sleep', '600']).pid, flush=True); time.sleep(600)",
        hosts=("slipway-somewhere",),
    )
    (result, after) = runs(Stage((hangs, part("after", "")), at_once=1))
    assert (result.ended, after.ended) == ("too long", "passed")
    (failure,) = result.found.failures
    assert failure.reason.endswith("it was at t::stuck")
    assert runs.removed == ["slipway-somewhere"]
    child = int((runs.directory / "hangs.log").read_text())
    await_(lambda: is_gone(child))


def test_a_part_that_is_ended_may_tidy_up_first(runs: Runs) -> None:
    work = "import time\ntry:\n print('at work', flush=True); time.sleep(600)\nfinally: print('tidied')"
    runs.tidy = 60
    runs(Stage((part("hangs", work),)))
    assert "tidied" in runs.printed


def test_what_a_part_leaves_running_is_ended_with_it(runs: Runs) -> None:
    runs(Stage((part("leaves", "import subprocess; print(subprocess.Popen(['sleep', '600']).pid)"),)))
    child = int((runs.directory / "leaves.log").read_text())
    await_(lambda: is_gone(child))


def test_when_no_time_is_left_the_running_part_is_ended_and_the_next_is_not_started(runs: Runs) -> None:
    hangs, never = part("hangs", "import time; print('at work', flush=True); time.sleep(600)", 900), part("never", "")
    results = runs(Stage((hangs,)), Stage((never,)), limit=100)
    assert [result.ended for result in results] == ["too long", "not started"]
    assert results[0].found.failures[0].reason.endswith("; last line: at work")
    assert results[1].found.failures == [Failure("never", "was not started: no time left")]
    assert summary.code(results) == 1


def test_a_run_that_is_interrupted_ends_all_parts_and_says_so(tmp_path: Path) -> None:
    """As by Ctrl-C, or by a CI system that gives up: by a signal to the runner alone."""
    program = f"""
import sys
from tests.runner import __main__ as runner, parts
from tests.runner.parts import Part, Stage
sleep = lambda name: Part(name, ("sh", "-c", "sleep 600 & echo $!; wait"), 600)
parts.STAGES = (Stage((sleep("one"), sleep("two"))), Stage((sleep("three"),)))
runner.LOGS = __import__("pathlib").Path({str(tmp_path)!r})
sys.argv = ["runner"]
sys.exit(runner.main())
"""
    runner = subprocess.Popen([sys.executable, "-c", program], cwd=PROJECT, stdout=subprocess.PIPE, text=True)
    logs = [tmp_path / "one.log", tmp_path / "two.log"]
    await_(lambda: all(log.exists() and log.read_text().endswith("\n") for log in logs))
    os.kill(runner.pid, signal.SIGTERM)
    printed, _ = runner.communicate(timeout=60)
    assert runner.returncode == 130
    assert "FAILED one: one: was interrupted; last line: " in printed
    assert "FAILED three: three: was not started, as the run was interrupted\n" in printed
    for log in logs:
        await_(lambda log=log: is_gone(int(log.read_text())))  # type: ignore[misc]


def test_the_last_lines_name_what_failed_and_then_the_times(runs: Runs) -> None:
    bad = part("unit", "record('passed', 't::a'); record('skipped', 't::s'); record('failed', 't::b', 'E: x'); exit(1)")
    lint = part("lint", "print('a.py:1:1: F401 unused'); exit(1)")
    lines = summary.lines(runs(Stage((lint,)), Stage((bad,))), 61.2)
    assert lines[:3] == [
        "1 passed, 2 failed",
        "FAILED lint: a.py:1:1: F401 unused",
        "FAILED unit: t::b: E: x",
    ]
    assert [line.split() for line in lines[3:]] == [
        ["lint", "0", "s", "failed"],
        ["unit", "0", "s", "failed,", "tests:", "1", "passed,", "1", "failed,", "1", "skipped"],
        ["all", "61", "s"],
    ]


def test_reasons_are_cut_where_all_of_the_last_lines_would_be_too_many_to_be_kept(runs: Runs) -> None:
    outcomes = "; ".join(f"record('failed', 't::{number}', 'why ' * 200)" for number in range(12))
    lines = summary.lines(runs(Stage((part("unit", f"{outcomes}; exit(1)"),))), 61.2)
    assert len("\n".join(lines)) < summary.LONGEST
    assert all(line.startswith(f"FAILED unit: t::{number}: why why") for number, line in enumerate(lines[1:13]))
    assert all(line.endswith("…") for line in lines[1:13])


def test_a_host_that_cannot_be_removed_does_not_hide_the_results(runs: Runs) -> None:
    def fails(_: str) -> None:
        raise RuntimeError("no daemon")

    hangs = part("hangs", "import time; time.sleep(600)", seconds=0.3, hosts=("slipway-x",))
    run = Run(runs.directory, time.monotonic() + 20, runs.stop, fails, runs._say, 0.5)
    assert run.stages([Stage((hangs,))])[0].ended == "too long"
    assert "slipway-x was not removed: no daemon" in runs.printed


def test_single_parts_bring_what_they_want_of_the_machine() -> None:
    def names(*wanted: str) -> list[list[str]]:
        return [[part.name for part in stage.parts] for stage in parts.stages(wanted)]

    assert names("lint") == [["lint"]]
    assert names("apps") == [["prepare"], ["apps"]]
    assert not parts.BY_NAME & {name for stage in names() for name in stage}
    assert names("molecule", "faults") == [["prepare"], ["faults", "molecule"]]
    with pytest.raises(ValueError, match="no part 'fault'"):
        parts.stages(("fault",))


def test_every_part_is_a_target_of_the_makefile() -> None:
    targets = {line.partition(":")[0] for line in MAKEFILE.splitlines()}
    commands = [part.command for stage in parts.STAGES for part in stage.parts]
    assert commands
    assert [command for command in commands if command[-1] not in targets] == []


def test_every_suite_that_the_unit_tests_leave_out_is_a_part() -> None:
    left_out = re.findall(r"^NOT_UNIT := (.*)$", MAKEFILE, re.MULTILINE)[0].split()
    assert len(left_out) > 1
    targets = "|".join(part.name for stage in parts.STAGES for part in stage.parts)
    run = re.findall(rf"^(?:{targets}): [^\n]*\n((?:\t[^\n]*\n)+)", MAKEFILE, re.MULTILINE)
    assert [suite for suite in left_out if not re.search(rf"tests/{suite}\b", " ".join(run))] == []


def test_every_suite_that_starts_hosts_is_left_out_of_the_unit_tests() -> None:
    left_out = re.findall(r"^NOT_UNIT := (.*)$", MAKEFILE, re.MULTILINE)[0].split()
    starts = [path for path in PROJECT.glob("tests/*/**/*.py") if re.search(r'Host\("slipway-', path.read_text())]
    suites = {path.parent.relative_to(PROJECT / "tests").as_posix() for path in starts}
    assert len(suites) > 3
    assert suites - set(left_out) == set()


def test_what_the_unit_tests_leave_out_by_a_marker_is_run_by_the_matrix() -> None:
    unit, matrix = (
        next(line for line in MAKEFILE.partition(f"\n{target}: ")[2].splitlines() if "pytest" in line)
        for target in ("unit", "matrix")
    )
    assert unit.replace('-m "not matrix"', "-m matrix") == matrix
    assert parts.MATRIX in parts.STAGES[-1].parts
    assert parts.MATRIX.name not in parts.BY_NAME


def test_the_containers_that_the_suites_start_are_those_that_the_runner_would_remove() -> None:
    started = re.findall(
        r'Host\("(slipway-[\w-]+)"', "".join(path.read_text() for path in PROJECT.glob("tests/**/*.py"))
    )
    started += re.findall(r"- name: (slipway-[\w-]+)", (PROJECT / "molecule/default/molecule.yml").read_text())
    assert sorted(started) == sorted(host for stage in parts.STAGES for part in stage.parts for host in part.hosts)


SUITE = """
import pytest
def test_passes(): pass
def test_fails(): assert [1] == [2], "the reason"
def test_fails_with_an_output(): assert "live" in "went wrong", "TASK [Deploy] ok " * 40
@pytest.fixture
def broken(): raise KeyError("setup")
def test_errors(broken): pass
@pytest.mark.skip(reason="later")
def test_skipped(): pass
"""


@pytest.mark.parametrize(
    "how", [[], pytest.param(["--numprocesses", "2"], marks=pytest.mark.slow)], ids=["one process", "two"]
)
def test_what_pytest_finds_is_recorded(runs: Runs, tmp_path: Path, how: list[str]) -> None:
    suite = tmp_path / "suite"
    suite.mkdir()
    (suite / "test_some.py").write_text(SUITE)
    (suite / "test_bad.py").write_text("import nowhere\n")
    (suite / "conftest.py").write_text((PROJECT / "tests/conftest.py").read_text())
    (suite / "pytest.ini").write_text(f"[pytest]\npythonpath = {PROJECT}\n")
    quickly = ("env", "PYTEST_DISABLE_PLUGIN_AUTOLOAD=1", sys.executable, "-m", "pytest", "-p", "xdist")
    command = (*quickly, "--continue-on-collection-errors", f"--rootdir={suite}", *how, str(suite))
    (result,) = runs(Stage((Part("pytest", command, 300),)))
    assert result.ended == "failed"
    assert dict(result.found.counts) == {"passed": 1, "failed": 4, "skipped": 1}
    reasons = {failure.test: failure.reason for failure in result.found.failures}
    assert reasons["test_bad.py"].startswith("not collected: ")
    assert "No module named 'nowhere'" in reasons["test_bad.py"]
    assert reasons["test_some.py::test_fails"].startswith("AssertionError: the reason assert [1] == [2]")
    assert reasons["test_some.py::test_fails_with_an_output"] == "assert 'live' in 'went wrong'"
    assert reasons["test_some.py::test_errors"] == "setup: KeyError: 'setup'"
    assert result.found.running == []


def test_a_line_that_was_cut_off_by_a_kill_is_left_out(runs: Runs) -> None:
    cut = part(
        "cut", "record('failed', 't::a', 'x'); open(os.environ['SLIPWAY_OUTCOMES'], 'a').write('{\"ev'); exit(1)"
    )
    (result,) = runs(Stage((cut,)))
    assert result.found.failures == [Failure("t::a", "x")]
    assert json.loads((runs.directory / "cut.jsonl").read_text().splitlines()[0])["test"] == "t::a"
