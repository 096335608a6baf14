"""What a host answers to a script, whatever its shell, its sudo and its language print beside that."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from hosts.scratch import PROJECT
from playbooks.look.frame import COMMAND, Framed, framed, unframed, why_not

MARK = "slipway-0123"


def answer(script: str, before: str = "", after: str = "", **environment: str) -> Framed | None:
    """The answer of a shell here, with noise before and after it."""
    done = subprocess.run(
        COMMAND.split(), input=framed(script, MARK), capture_output=True, check=False,
        env={"PATH": os.environ["PATH"], **environment},
    )  # fmt: skip
    return unframed(before + done.stdout.decode() + after, MARK)


@pytest.mark.parametrize(
    "before", ["", "Welcome\n", "Welcome", "\x1b[1mWelcome\x1b[0m\r\n", f"{MARK} end 1\n", "1\n" * 9]
)
@pytest.mark.parametrize("after", ["", "logout\n", "bye"])
def test_noise_around_the_answer_is_not_part_of_it(before: str, after: str) -> None:
    found = answer("echo one; echo two", before, after)
    assert found is not None
    assert (found.text, found.code) == ("one\ntwo\n", 0)


@pytest.mark.parametrize("become", ["", "BECOME-SUCCESS-ojkcnuzqyqagb\n"])
@pytest.mark.parametrize(
    ("before", "greeting"),
    [
        ("", ""),
        ("Welcome\n", ""),
        ("Welcome\r\n", ""),
        ("hi", "hi"),
        ("Welcome\nhi ", "hi"),
        ("\x1b]0;box\x07", "\x1b]0;box\x07"),
    ],
)
def test_a_greeting_without_a_line_break_is_told(become: str, before: str, greeting: str) -> None:
    found = answer("true", before + become)
    assert found is not None
    assert found.greeting == greeting


@pytest.mark.parametrize(
    ("script", "framed_answer"),
    [
        ("true", Framed("", 0)),
        ("exit 3", Framed("", 3)),
        ("printf x; false", Framed("x", 1)),
        ("cat; echo more", Framed("more\n", 0)),  # nothing reads the rest of the script as its input
        ("echo \"it's\" '$HOME' \\\\ !x", Framed("it's $HOME \\ !x\n", 0)),
        ("printf '%s\\n' a '' b", Framed("a\n\nb\n", 0)),
        ("pwd; umask; echo $LC_ALL", Framed("/\n0022\nC\n", 0)),
        ("# a comment at the end", Framed("", 0)),
    ],
)
def test_the_answer_is_all_that_the_script_prints_and_its_code(script: str, framed_answer: Framed) -> None:
    assert answer(script) == framed_answer


@pytest.mark.parametrize("variable", ["LANG", "LC_ALL", "LANGUAGE"])
def test_the_language_of_the_user_does_not_matter(variable: str) -> None:
    assert answer("ls /nowhere 2>&1", **{variable: "de_DE.UTF-8"}) == answer("ls /nowhere 2>&1")


def test_programs_of_the_administrator_are_found_without_the_users_path() -> None:
    found = answer("echo $PATH", PATH="/home/user/bin")
    assert found is not None
    assert found.text.split(":")[:3] == ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin"]


def test_terminals_end_lines_in_another_way() -> None:
    assert unframed(f"hi\r\n\r\n{MARK} begin\r\none\r\ntwo\r\n\r\n{MARK} end 0\r\n", MARK) == Framed("one\ntwo\n", 0)


@pytest.mark.parametrize("output", ["", "Welcome\n", f"{MARK} begin\nhalf", "slipway-9 begin\nx\n\nslipway-9 end 0\n"])
def test_without_its_frame_there_is_no_answer(output: str) -> None:
    assert unframed(output, MARK) is None


@pytest.mark.parametrize("script", ["if", "echo 'open", "("])
def test_a_script_that_is_none_has_no_answer(script: str) -> None:
    assert answer(script) is None


@pytest.mark.parametrize(
    ("output", "sentence"),
    [
        ("Hi\n/bin/sh: 1: sudo: not found\n", "box has no sudo, and 'ops' is not root: install sudo there, or log in"),
        ("bash: line 1: sudo: command not found", "box has no sudo"),
        ("sudo: sorry, you must have a tty to run sudo", "sudo on box demands a terminal: add `Defaults:ops !req"),
        ("sudo: a password is required", "sudo on box demands a password for 'ops': add -K to the command"),
        ("Missing sudo password", "sudo on box demands a password for 'ops': add -K"),
        ("Incorrect sudo password", "sudo on box refuses the password that was given for 'ops'"),
        ("ops is not in the sudoers file.", "'ops' may not use sudo on box: add `ops ALL=(ALL) NOPASSWD: ALL`"),
        ("Sorry, user ops is not allowed to execute '/bin/sh' as root on box.", "'ops' may not use sudo on box"),
        ("/etc/sudoers.d/x:1:9: syntax error", "The settings of sudo on box are broken: run `visudo --check`"),
        ("This account is currently not available.", "'ops' may not log in to box with a shell"),
        ("sudo: effective uid is not 0, is sudo installed setuid root?", "sudo on box cannot become root"),
        ("Hi\n  fork: no memory \n\n", "box did not answer a script of /bin/sh as root; the last line that it printed "
         "is: fork: no memory."),
        ("", "box did not answer a script of /bin/sh as root; it printed nothing."),
    ],
)  # fmt: skip
def test_a_host_without_an_answer_is_one_sentence(output: str, sentence: str) -> None:
    assert why_not("box", "ops", output).startswith(sentence)


def test_no_task_asks_a_host_without_a_frame() -> None:
    files = [*PROJECT.glob("*.yml"), *(PROJECT / "playbooks").rglob("*.yml"), *(PROJECT / "roles").rglob("*.yml")]
    assert [
        path.name for path in files if re.search(r"^\s*(ansible\.builtin\.)?raw:", path.read_text(), re.MULTILINE)
    ] == []


@pytest.mark.parametrize("plugin", sorted((PROJECT / "action_plugins").glob("*.py")), ids=lambda path: path.stem)
def test_an_action_asks_in_the_one_place(plugin: Path) -> None:
    assert "_low_level_execute_command" not in plugin.read_text()
