import getpass
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hosts.scratch import PROJECT
from slipway.base import process
from slipway.base.errors import FailedError

from .test_terminal import console


def test_a_timeout_error_names_program_and_seconds() -> None:
    with pytest.raises(FailedError, match=r"'sleep' did not finish within 0\.1 s"):
        process.run(["/usr/bin/sleep", "60"], timeout=0.1)


def test_a_missing_program_is_named_with_the_playbook_to_run() -> None:
    for user in (None, getpass.getuser()):
        with pytest.raises(FailedError, match=r"no-such-program is not installed\. Run site\.yml\."):
            process.run(["no-such-program"], user=user)


def test_a_program_of_another_user_gets_only_the_given_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEAK", "secret of root")
    shown = process.run(["env"], user=getpass.getuser(), environment={"DATABASE_URL": "x", "HOME": "/home"}).stdout
    names = {line.partition("=")[0] for line in shown.splitlines()}
    assert names == {"DATABASE_URL", "HOME", "LANG", "PATH", "USER"}
    assert "HOME=/home\n" in shown


def become(user: str, path: str = process.PATH) -> dict[str, str]:
    """The fields of /proc/self/status in a process that was replaced by `cat` as `user`."""
    call = f"process.become(['cat', '/proc/self/status'], {user!r}, {{'PATH': {path!r}}}, pathlib.Path('/'))"
    code = f"import pathlib; from slipway.base import process; {call}"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    return dict(line.split(":", 1) for line in shown.splitlines())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another")
def test_become_drops_all_rights_of_root() -> None:
    seen = become("nobody")
    ids = {number for name in ("Uid", "Gid", "Groups") for number in seen[name].split()}
    assert "0" not in ids
    assert {int(seen[name], 16) for name in ("CapEff", "CapPrm", "CapInh", "CapAmb")} == {0}


def test_become_does_not_prefer_a_program_of_the_release(tmp_path: Path) -> None:
    for name in ("setpriv", "runuser", "sh"):
        (tmp_path / name).write_text("#!/bin/sh\necho mine: yes\n")
        (tmp_path / name).chmod(0o755)
    assert become(getpass.getuser(), f"{tmp_path}:{process.PATH}")["Name"].strip() == "cat"


def test_become_restores_the_default_of_sigpipe() -> None:
    ignored = int(become(getpass.getuser())["SigIgn"], 16)
    assert not ignored & 1 << 12  # SIGPIPE, which is number 13


def test_a_failed_program_returns_both_streams_separately() -> None:
    result = process.run(["sh", "-c", "echo out; echo err >&2; exit 3"])
    assert (result.returncode, result.stdout, result.stderr) == (3, "out\n", "err\n")


def test_tail_ignores_empty_lines() -> None:
    assert process.tail("one\n\ntwo  \n\n \nthree\n", 2) == "two\nthree"


TRACEBACK = ["Traceback (most recent call last):", *(f'  File "app{n}.py", line {n}' for n in range(200))]
SUPERVISOR = [
    "Worker exiting",
    "Traceback (most recent call last):",
    *["  File gunicorn"] * 9,
    "HaltServer: failed to boot",
]


@pytest.mark.parametrize("frames", [3, 40, 200])
def test_first_failure_shows_the_apps_error_and_not_the_supervisors(frames: int) -> None:
    traceback = [*TRACEBACK[:frames], "ValueError: x"]
    log = ["started", *["fine"] * 50, "[ERROR] Exception in worker", *traceback, *SUPERVISOR]
    shown = process.first_failure("\n".join(log)).splitlines()
    assert len(shown) <= 60
    assert {"[ERROR] Exception in worker", *traceback[:4]} <= set(shown)
    assert shown[-1] == "ValueError: x"
    assert "started" not in shown


def test_first_failure_shows_the_whole_chain_of_exceptions() -> None:
    joined = "The above exception was the direct cause of the following exception:"
    chain = [*TRACEBACK[:3], "KeyError: 1", joined, *TRACEBACK[:3], "ValueError: x"]
    log = ["[7] [ERROR] " + chain[0], *chain[1:], *SUPERVISOR]
    assert process.first_failure("\n".join(log)).splitlines() == [log[0], *chain[1:]]


def test_first_failure_shows_lines_before_an_error_without_a_traceback() -> None:
    log = ["SECRET_KEY must be set.", "[ERROR] Worker exited with code 3.", *SUPERVISOR]
    assert process.first_failure("\n".join(log)).splitlines()[:2] == log[:2]


def test_first_failure_of_a_log_without_errors_is_its_end() -> None:
    assert process.first_failure("\n".join(str(n) for n in range(100))).splitlines() == [str(n) for n in range(40, 100)]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another")
def test_a_program_of_another_user_has_a_session_of_its_own_and_no_terminal() -> None:
    """It could type into that of root: what a release builds with runs at `slipway stage`."""
    program = "import os; print(os.getsid(0) == os.getpid(), end=' '); os.open('/dev/tty', os.O_RDWR)"
    code = (
        f"from slipway.base import process; print(process.run(['/usr/bin/python3', '-c', {program!r}], user='nobody'))"
    )
    with console(sys.executable, "-c", f"import sys; sys.path.insert(0, {str(PROJECT)!r}); {code}") as at:
        shown = at.end()[1]
    assert "True" in shown, shown
    assert "No such device or address" in shown


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another")
def test_what_a_program_of_another_user_has_started_ends_with_its_time() -> None:
    number = f"60.{os.getpid()}"
    with pytest.raises(FailedError, match="'sh' did not finish"):
        process.run(["sh", "-c", f"sleep {number} & wait"], user="nobody", timeout=0.3)
    assert subprocess.run(["pgrep", "--full", f"sleep {number}"], check=False).returncode == 1


def test_only_given_descriptors_are_inherited(tmp_path: Path) -> None:
    with (tmp_path / "lock").open("w") as file:
        asks = ["/usr/bin/test", "-e", f"/proc/self/fd/{file.fileno()}"]
        assert process.run(asks).returncode == 1
        assert process.run(asks, inherited=[file.fileno()]).returncode == 0


@pytest.mark.parametrize("stream", [1, 2])
def test_a_program_that_prints_without_end_is_ended(monkeypatch: pytest.MonkeyPatch, stream: int) -> None:
    monkeypatch.setattr(process, "_MOST_OUTPUT", 100_000)
    with pytest.raises(FailedError, match="'sh' printed more than"):
        process.run(["sh", "-c", f"while :; do echo {'x' * 100} >&{stream}; done"])


def test_a_long_input_is_given_whole_or_as_far_as_it_is_read() -> None:
    text = "x" * 3_000_000
    assert process.run(["cat"], given=text).stdout == text
    assert process.run(["head", "--bytes=3"], given=text).stdout == "xxx"
    assert process.run(["sh", "-c", "exec <&-; printf done"], given=text).stdout == "done"


def test_output_that_stays_open_ends_with_the_time() -> None:
    with pytest.raises(FailedError, match=r"did not finish within 0\.3 s"):
        process.run(["sh", "-c", "sleep 5 & exit 0"], timeout=0.3)


PYDANTIC = """Traceback (most recent call last):
  File "/srv/x/app/main.py", line 3, in <module>
    settings = Settings()
pydantic_core._pydantic_core.ValidationError: 2 validation errors for Settings
SECRET_KEY
  Field required [type=missing, input_value={'database_url': 'postgresql://a:hunter2@b/c...'}, input_type=dict]
    For further information visit https://errors.pydantic.dev/2.12/v/missing
first_superuser
  Field required [type=missing, input_value={'database_url': 'postgresql://a:hunter2@b/c...'}, input_type=dict]
    For further information visit https://errors.pydantic.dev/2.12/v/missing
Worker (pid:7) exited with code 3
"""


def test_first_failure_shows_the_fields_of_pydantic_and_none_of_their_values() -> None:
    shown = process.first_failure(PYDANTIC)
    assert "SECRET_KEY\n  Field required [type=missing]" in shown
    assert "first_superuser" in shown
    assert "hunter2" not in shown
    assert "exited" not in shown


@pytest.mark.parametrize("logged", [PYDANTIC, json.dumps({"level": "ERROR", "exc_info": PYDANTIC})])
def test_variables_that_an_app_asks_for_are_named(logged: str) -> None:
    assert process.missing_variables(process.first_failure(logged)) == ["SECRET_KEY", "FIRST_SUPERUSER"]


def test_a_variable_that_environ_does_not_have_is_named_and_no_other_key() -> None:
    raised = (
        'Traceback (most recent call last):\n  File "/srv/a.py", line 1, in <module>\n    os.environ["API_TOKEN"]\n'
    )
    frame = '  File "<frozen os>", line 716, in __getitem__\n    raise KeyError(key) from None\n'
    assert process.missing_variables(f"{raised}{frame}KeyError: 'API_TOKEN'\n") == ["API_TOKEN"]
    assert process.missing_variables(f"{raised}KeyError: 'other'\n") == []
