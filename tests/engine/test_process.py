import getpass

import pytest

from slipway import process
from slipway.errors import FailedError


def test_what_does_not_end_in_time_is_named_with_the_time() -> None:
    with pytest.raises(FailedError, match=r"'sleep' did not end within 0\.1 s"):
        process.run(["/usr/bin/sleep", "60"], timeout=0.1)


def test_a_program_that_is_not_there_is_named_with_what_brings_it() -> None:
    for user in (None, getpass.getuser()):
        with pytest.raises(FailedError, match=r"no-such-program is not installed\. Run site\.yml\."):
            process.run(["no-such-program"], user=user)


def test_another_users_program_sees_only_the_environment_that_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEAK", "secret of root")
    shown = process.run(["env"], user=getpass.getuser(), environment={"DATABASE_URL": "x", "HOME": "/home"}).stdout
    names = {line.partition("=")[0] for line in shown.splitlines()}
    assert names == {"DATABASE_URL", "HOME", "LANG", "PATH", "USER"}
    assert "HOME=/home\n" in shown


def test_a_failure_is_returned_with_both_streams_apart() -> None:
    result = process.run(["sh", "-c", "echo out; echo err >&2; exit 3"])
    assert (result.returncode, result.stdout, result.stderr) == (3, "out\n", "err\n")


def test_the_tail_is_of_lines_that_say_something() -> None:
    assert process.tail("one\n\ntwo  \n\n \nthree\n", 2) == "two\nthree"
