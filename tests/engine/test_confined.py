"""Commands in a unit of their own: what comes back of them, and how they end. The units are in `tests/attacks`."""

from __future__ import annotations

import ast
import getpass
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from slipway.base import confined
from slipway.base.errors import FailedError

from .conftest import without_systemd

UNIT = confined.Unit("slipway-test", "A test", getpass.getuser())


@pytest.fixture(autouse=True)
def no_systemd(monkeypatch: pytest.MonkeyPatch) -> None:
    without_systemd(monkeypatch)


def run(program: str, directory: Path, timeout: float = 20, given: str = "") -> confined.Result:
    command = [sys.executable, "-c", f"import os, sys, time\n{program}"]
    return confined.run(UNIT, command, environment={"A": "1 \n2"}, directory=directory, timeout=timeout, given=given)


def test_answer_and_output_are_apart(tmp_path: Path) -> None:
    result = run("print('noise'); print('more', file=sys.stderr); os.write(3, os.environ['A'].encode())", tmp_path)
    assert (result.returncode, result.answer) == (0, b"1 \n2")
    assert sorted(result.printed.split()) == ["more", "noise"]


def test_it_has_its_variables_directory_and_input_and_nothing_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OURS", "s3cret")
    long = "x" * 300_000  # more than a pipe holds
    program = "os.write(3, repr((os.getcwd(), sorted(os.environ), len(sys.stdin.read()))).encode())"
    result = run(program, tmp_path, given=long)
    directory, names, length = ast.literal_eval((result.answer or b"").decode())
    assert (directory, length) == (str(tmp_path), 300_000)
    assert set(names) - {"LC_CTYPE"} == {"A", "HOME", "LANG", "PATH", "USER"}


@pytest.mark.parametrize(("program", "code"), [("sys.exit(7)", 7), ("os.kill(os.getpid(), 9)", 137)])
def test_how_it_ended_is_its_exit_code(tmp_path: Path, program: str, code: int) -> None:
    assert run(program, tmp_path).returncode == code


def test_an_answer_has_a_longest_length(tmp_path: Path) -> None:
    result = run("for _ in range(9): os.write(3, b'x' * 2**20) and None", tmp_path)
    assert result.answer is None


def test_of_endless_output_the_end_is_kept(tmp_path: Path) -> None:
    result = run("for _ in range(2000): sys.stderr.write('x' * 1000)\nsys.stderr.write('the end')", tmp_path)
    assert result.printed.endswith("the end")
    assert len(result.printed) <= 2**18


def test_what_takes_too_long_is_ended(tmp_path: Path) -> None:
    with pytest.raises(FailedError, match=r"did not finish within 0.5 s"):
        run("time.sleep(60)", tmp_path, timeout=0.5)


def test_it_ends_when_the_engine_is_killed(tmp_path: Path) -> None:
    """Killed is the process that waits for the answer; the supervisor ends, and with it, on a host, the unit."""
    engine = (
        "from pathlib import Path\n"
        "from slipway.base import confined\n"
        "confined.start, confined.end = lambda *_: [], lambda _: None\n"
        f"unit = confined.Unit('u', 't', {getpass.getuser()!r})\n"
        f'program = \'import os, time; open("pid", "w").write(str(os.getppid())); time.sleep(60)\'\n'
        f"command, directory = [{sys.executable!r}, '-c', program], Path({str(tmp_path)!r})\n"
        "confined.run(unit, command, environment={}, directory=directory)\n"
    )
    root = Path(confined.__file__).parents[2]
    with subprocess.Popen([sys.executable, "-c", engine], cwd=root) as started:
        supervisor = _number(tmp_path / "pid")
        started.kill()
    deadline = time.monotonic() + 10
    while _is_running(supervisor):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _number(file: Path) -> int:
    deadline = time.monotonic() + 10
    while not file.exists() or not file.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return int(file.read_text())


def _is_running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
    finally:
        os.sched_yield()
