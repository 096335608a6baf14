"""What `slipway run` starts: as if it had the terminal of whoever typed it, and without having it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hosts.scratch import PROJECT

USER = "nobody" if os.geteuid() == 0 else Path.home().owner()
DRIVER = f"""
import pathlib, sys
sys.path.insert(0, {str(PROJECT)!r})
from slipway.base import process, terminal
command = sys.argv[1:]
terminal.end_as(terminal.run(lambda: process.become(command, {USER!r}, {{}}, pathlib.Path("/"))))
"""
PYTHON = "/usr/bin/python3"  # that of the tests may be below /root
SECONDS = 5


def driven(*command: str) -> list[str]:
    return [sys.executable, "-c", DRIVER, *command]


class Console:
    """A terminal, and on it a job that leads its session, as a shell or a login does."""

    def __init__(self, *command: str, **streams: Any) -> None:
        self.master, self.slave = os.openpty()
        self.output = b""
        self.resize(40, 100)
        given = {"stdin": self.slave, "stdout": self.slave, "stderr": self.slave, **streams}
        self.job = subprocess.Popen(command, start_new_session=True, preexec_fn=self._take, **given)

    def _take(self) -> None:
        fcntl.ioctl(self.slave, termios.TIOCSCTTY, 0)
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):  # ignored by jobs of the background, with nohup
            signal.signal(number, signal.SIG_DFL)

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def read(self, seconds: float) -> bool:
        """Take what is shown within so many seconds; whether anything was."""
        if not select.select([self.master], [], [], seconds)[0]:
            return False
        self.output += os.read(self.master, 65536)
        return True

    def until(self, text: str) -> str:
        """What was shown until `text` was."""
        deadline = time.monotonic() + SECONDS
        while text.encode() not in self.output:
            assert time.monotonic() < deadline, self.output
            self.read(0.1)
        return self.output.decode(errors="replace")

    def end(self) -> tuple[int, str]:
        """Wait for the job; its exit code, and all that was shown."""
        deadline = time.monotonic() + SECONDS
        while self.job.poll() is None:
            assert time.monotonic() < deadline, self.output
            self.read(0.02)
        while self.read(0):
            pass
        return self.job.returncode, self.output.decode(errors="replace")

    def waiting(self) -> bytes:
        """What was typed, or put there as if it had been, and not read by any program."""
        attributes = termios.tcgetattr(self.slave)
        attributes[3] &= ~termios.ICANON
        termios.tcsetattr(self.slave, termios.TCSANOW, attributes)
        return os.read(self.slave, 4096) if select.select([self.slave], [], [], 0.1)[0] else b""


@contextlib.contextmanager
def console(*command: str, **streams: Any) -> Iterator[Console]:
    made = Console(*command, **streams)
    try:
        yield made
    finally:
        made.job.kill()
        made.job.wait()
        os.close(made.master)
        os.close(made.slave)


# What it must not be able to do

TYPES = r"""
import fcntl, os, termios
places = list(map(int, os.listdir("/proc/self/fd")))
for path in ("/dev/tty", "/dev/console", "/dev/tty0"):
    try:
        places.append(os.open(path, os.O_RDWR))
    except OSError:
        pass
tries = 0
for place in places:
    for character in b"id > /tmp/pwned\n":
        for request, argument in ((termios.TIOCSTI, bytes([character])), (0x541C, bytes([3]))):
            tries += 1
            try:
                fcntl.ioctl(place, request, argument)
            except OSError:
                pass
print("tries", tries)
"""


@pytest.mark.parametrize("streams", ["all", "output is a pipe", "input is a pipe", "none"])
def test_a_command_cannot_type_into_the_terminal(streams: str) -> None:
    """TIOCSTI and TIOCLINUX on everything that it has open or can open: more than 60 tries."""
    changed = {"output is a pipe": {"stdout": subprocess.DEVNULL}, "input is a pipe": {"stdin": subprocess.DEVNULL}}
    none = dict.fromkeys(("stdout", "stderr"), subprocess.DEVNULL) | {"stdin": subprocess.DEVNULL}
    with console(*driven(PYTHON, "-c", TYPES), **changed.get(streams, none if streams == "none" else {})) as at:
        code, shown = at.end()
        assert code == 0, shown
        assert at.waiting() == b""


def test_without_a_terminal_of_its_own_a_command_would_type() -> None:
    """Or the test above sees nothing."""
    if Path("/proc/sys/dev/tty/legacy_tiocsti").read_text().strip() == "0":
        pytest.skip("this kernel lets nobody type into a terminal")
    direct = DRIVER.replace("terminal.end_as(terminal.run(lambda: ", "((").rstrip() + "\n"
    with console(sys.executable, "-c", direct, PYTHON, "-c", TYPES) as at:
        assert at.end()[0] == 0
        assert b"id > /tmp/pwned" in at.waiting()


def test_a_command_has_another_terminal_in_another_session() -> None:
    program = "import os; print(os.ttyname(0), os.ttyname(1), os.ttyname(2), os.getsid(0), os.listdir('/proc/self/fd'))"
    with console(*driven(PYTHON, "-c", program)) as at:
        code, shown = at.end()
        assert code == 0, shown
        one, two, three, session, descriptors = shown.split(maxsplit=4)
        assert one == two == three != os.ttyname(at.slave)
        assert int(session) != at.job.pid
        assert len(re.findall(r"\d+", descriptors)) <= 4, "nothing else is open"


def test_a_command_has_nothing_open_that_slipway_has(tmp_path: Path) -> None:
    """Also not what its caller has let it inherit."""
    with (tmp_path / "of root").open("w") as file:
        os.set_inheritable(file.fileno(), True)
        code = f"import os; os.set_inheritable({file.fileno()}, True)\n{DRIVER}"
        shown = subprocess.run(
            [sys.executable, "-c", code, "ls", "-l", "/proc/self/fd"],
            pass_fds=[file.fileno()], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
    assert "of root" not in shown
    assert shown.count(" -> ") == 4, "its three streams, and what it lists"


def test_what_a_command_leaves_behind_does_not_read_what_is_typed_later() -> None:
    """As a password: a process that goes on has no terminal of ours to read from."""
    leaves = "(trap '' HUP; exec 3>&1; while read -r line; do echo stolen $line >/tmp/stolen-$$; done) & echo left"
    with console(*driven("sh", "-c", leaves)) as at:
        at.until("left")
        at.end()
        at.type("a password\n")
        time.sleep(0.3)
        assert b"a password" in at.waiting()


def test_what_the_terminal_answers_to_the_last_output_is_not_typed() -> None:
    """A command may ask a terminal who it is, and end before the answer comes."""
    with console(*driven("sh", "-c", "printf '\\033[c'; sleep 0.3")) as at:
        at.until("\033[c")
        at.type("\033[?62;cid")
        at.end()
        assert at.waiting() == b""


# What has to work as before


@pytest.mark.parametrize("code", [0, 1, 7, 126, 255])
@pytest.mark.parametrize("at_a_terminal", [False, True])
def test_the_exit_code_is_that_of_the_command(code: int, at_a_terminal: bool) -> None:
    command = driven("sh", "-c", f"exit {code}")
    if at_a_terminal:
        with console(*command) as at:
            assert at.end()[0] == code
    else:
        assert subprocess.run(command, stdin=subprocess.DEVNULL, check=False).returncode == code


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
@pytest.mark.parametrize("at_a_terminal", [False, True])
def test_the_end_by_a_signal_is_that_of_the_command(number: int, at_a_terminal: bool) -> None:
    command = driven("sh", "-c", f"kill -{number:d} $$")
    if at_a_terminal:
        with console(*command) as at:
            assert at.end()[0] == -number
    else:
        assert subprocess.run(command, stdin=subprocess.DEVNULL, check=False).returncode == -number


def test_pipes_are_passed_on_as_they_are() -> None:
    content = secrets.token_bytes(2**20)
    done = subprocess.run(driven("sh", "-c", "cat; echo error >&2"), input=content, capture_output=True, check=True)
    assert done.stdout == content
    assert done.stderr == b"error\n"


def test_a_pipe_that_nobody_reads_any_more_ends_the_command() -> None:
    done = subprocess.run(
        ["sh", "-c", '"$@" | head -c 3', "-", *driven("yes")], capture_output=True, timeout=10, check=True
    )
    assert done.stdout == b"y\ny"


def test_all_output_is_shown_however_much_it_is() -> None:
    with console(*driven("sh", "-c", "seq 100000; echo end")) as at:
        code, shown = at.end()
    assert code == 0
    assert shown.split() == [*map(str, range(1, 100_001)), "end"]


SIZE = """
import os, signal, time
told = []
signal.signal(signal.SIGWINCH, lambda *_: told.append(1))
print(os.get_terminal_size(), "ready", flush=True)
while not told:
    time.sleep(0.01)
print(os.get_terminal_size())
print("got", input("now"))
"""


def test_keys_size_and_changes_of_it_arrive() -> None:
    with console(*driven(PYTHON, "-c", SIZE)) as at:
        assert "columns=100, lines=40" in at.until("ready")
        at.resize(50, 132)
        at.until("columns=132, lines=50")
        at.until("now")
        at.type("typed\r")
        at.until("got typed")
        assert at.end()[0] == 0


def test_what_is_typed_is_shown_once_and_not_when_it_is_a_password() -> None:
    script = "import getpass; print('hello', input('name? ')); print('of', len(getpass.getpass()))"
    with console(*driven(PYTHON, "-c", script)) as at:
        at.until("name? ")
        at.type("alice\r")
        at.until("Password:")
        at.type("s3cret\r")
        code, shown = at.end()
    assert code == 0, shown
    assert shown.count("alice") == 2
    assert "s3cret" not in shown
    assert "of 6" in shown


@pytest.mark.parametrize(("key", "number"), [("\x03", signal.SIGINT), ("\x1c", signal.SIGQUIT)])
def test_a_key_that_interrupts_ends_the_command_by_its_signal(key: str, number: int) -> None:
    with console(*driven("sh", "-c", "ulimit -c 0; echo ready; exec sleep 60")) as at:
        at.until("ready")
        at.type(key)
        assert at.end()[0] == -number


def test_a_command_that_handles_an_interrupt_goes_on() -> None:
    with console(*driven("bash", "-c", "trap 'echo caught' INT; echo ready; read -r line; echo got $line")) as at:
        at.until("ready")
        at.type("\x03")
        at.until("caught")


def test_the_end_of_input_arrives() -> None:
    with console(*driven("sh", "-c", "echo ready; cat; echo over")) as at:
        at.until("ready")
        at.type("\x04")
        at.until("over")
        assert at.end()[0] == 0


def test_the_terminal_is_afterwards_as_it_was() -> None:
    with console(*driven("sh", "-c", "stty raw -echo; echo end")) as at:
        before = termios.tcgetattr(at.slave)
        at.end()
        assert termios.tcgetattr(at.slave) == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGUSR1])
@pytest.mark.parametrize("at_a_terminal", [False, True])
def test_a_signal_to_slipway_is_one_to_the_command(number: int, at_a_terminal: bool) -> None:
    script = f"trap 'echo caught; exit 9' {number:d}; echo ready; while :; do sleep 0.05; done"
    with console(*driven("bash", "-c", script), **({} if at_a_terminal else {"stdin": subprocess.DEVNULL})) as at:
        at.until("ready")
        at.job.send_signal(number)
        code, shown = at.end()
    assert (code, "caught" in shown) == (9, True), shown


def _stat(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""


@pytest.mark.parametrize("at_a_terminal", [False, True])
def test_a_command_does_not_outlive_slipway(at_a_terminal: bool) -> None:
    streams = {} if at_a_terminal else dict.fromkeys(("stdin", "stderr"), subprocess.DEVNULL)
    with console(*driven("sh", "-c", "echo $$ ready; trap '' HUP; while :; do sleep 0.05; done"), **streams) as at:
        pid = int(at.until("ready").split()[0])
        at.job.kill()
        at.job.wait()
        deadline = time.monotonic() + SECONDS
        while " (sh) " in (shown := _stat(pid)) and " Z " not in shown:
            assert time.monotonic() < deadline, "it runs still"
            time.sleep(0.02)


def test_who_ignores_hangups_ignores_them_for_the_command() -> None:
    script = "trap '' HUP; exec \"$@\""
    with console("sh", "-c", script, "-", *driven("sh", "-c", "echo ready; sleep 0.3; echo end")) as at:
        at.until("ready")
        at.job.send_signal(signal.SIGHUP)
        code, shown = at.end()
    assert (code, "end" in shown) == (0, True), shown


# Pipelines and jobs


def test_what_the_next_program_of_a_pipeline_reads_from_the_terminal_is_left_to_it() -> None:
    """As with `slipway run logbook -- python -m app.tokens list | less`."""
    script = '"$@" | { read -r first; echo $first; echo page; sleep 0.5; read -r line < /dev/tty; echo read $line; }'
    with console("bash", "-c", script, "-", *driven("sh", "-c", "echo listed; exec sleep 1")) as at:
        at.until("page")
        at.type("q\n")
        at.until("read q")
        code, shown = at.end()
    assert code == 0
    assert shown.startswith("listed\r\npage\r\n"), "no line begins where the last one has ended"


def test_a_command_whose_output_is_a_pipe_reads_what_is_typed() -> None:
    with console(
        "bash", "-c", '"$@" | cat', "-", *driven("bash", "-c", "echo ready >&2; read -r l; echo got $l")
    ) as at:
        at.until("ready")
        at.type("this\r")
        at.until("got this")
        assert at.end()[0] == 0


def test_a_command_whose_input_is_a_pipe_can_ask_for_a_password() -> None:
    script = "import getpass, sys; print(len(sys.stdin.read()), len(getpass.getpass()))"
    with console("bash", "-c", 'printf data | "$@"', "-", *driven(PYTHON, "-c", script)) as at:
        at.until("Password:")
        at.type("s3cret\r")
        code, shown = at.end()
    assert code == 0, shown
    assert "4 6" in shown
    assert "s3cret" not in shown


def test_a_command_is_stopped_and_continued_with_its_job(tmp_path: Path) -> None:
    (tmp_path / "driver").write_text(DRIVER)
    with console("bash", "--norc", "--noprofile", "--noediting", "-i") as at:
        at.type("PS1='the ''prompt '\r")
        at.until("the prompt")
        at.type(f"{sys.executable} {tmp_path}/driver bash -c 'echo re\"\"ady; read -r l; echo got $l'\r")
        at.until("ready")
        for turn in range(2):
            at.type("\x1a")
            at.until("Stopped")
            at.until("the prompt")
            at.output = b""
            at.type(f"echo shell {turn} is h''ere; fg\r")
            at.until(f"shell {turn} is here")
            at.until("driver bash")  # fg says what it continues
            at.output = b""
            time.sleep(0.2)
        at.type("this\r")
        at.until("got this")
        at.until("the prompt")
        at.type("echo code $?''; exit\r")
        assert "code 0" in at.end()[1]


def test_a_command_in_the_background_waits_with_reading_until_it_is_fetched(tmp_path: Path) -> None:
    (tmp_path / "driver").write_text(DRIVER)
    with console("bash", "--norc", "--noprofile", "--noediting", "-i") as at:
        at.type("PS1='the ''prompt '\r")
        at.until("the prompt")
        at.type(f"{sys.executable} {tmp_path}/driver bash -c 'echo re\"\"ady; read -r l; echo got $l' &\r")
        at.until("ready")
        time.sleep(0.3)
        at.type("echo the shell re''ads; fg\r")
        at.until("the shell reads")
        at.until("driver bash")
        time.sleep(0.3)
        at.output = b""
        at.type("this\r")
        at.until("got this")
        at.until("the prompt")
        at.type("exit\r")
        at.end()
