"""Running a command for whoever types it, without giving it their terminal.

Who has root's terminal open can type into it (TIOCSTI; TIOCLINUX on a console), and can read what is typed there after
the command has ended. So a command has a session of its own. Where one of its streams would be the terminal it has a
pseudo-terminal, and this process passes on what is typed and shown; pipes and files it has as they are.

There are three processes: the relay, which is the caller's job; the monitor, which leads the new session, as only with
a parent in its session a command can be stopped and continued; and the command. What is typed is taken from the
terminal at once if all three streams are the terminal, and otherwise when the command reads from it: the next program
of a pipeline (`less`) may read there, too.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import select
import signal
import socket
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

_PASSED_ON = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
_CHUNK = 65536  # bytes
_LONGEST_END = 5.0  # seconds for what it has left to be shown: something else may go on printing
_LAST_WORDS = 0.1  # seconds without output, after which none of a command that has ended is waited for
_FAILED = 126  # as a shell says it of a program that cannot be executed


def run(start: Callable[[], NoReturn]) -> int:
    """Run a command in a session of its own; how it ended, as wait(2) says it. `start` becomes the command."""
    streams = [number for number in range(3) if os.isatty(number)]
    master, slave = os.openpty() if streams else (-1, -1)
    channel, other_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    relay = _Relay(channel, streams, master, slave)
    sys.stdout.flush()
    sys.stderr.flush()
    monitor = os.fork()
    if monitor == 0:
        try:
            channel.close()  # it has to notice when the relay is gone
            if streams:
                os.close(master)
            _become_monitor(start, other_end, streams, slave, is_typed_at=relay.is_typed_at)
        finally:
            os._exit(_FAILED)
    other_end.close()
    if streams:
        os.close(slave)
    try:
        if relay.is_typed_at:
            relay.take_terminal()
        return relay.wait(monitor)
    finally:
        relay.give_terminal_back()


def end_as(status: int) -> NoReturn:
    """End this process as the command has ended, by the same signal if it was one."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # one core dump is enough
        with contextlib.suppress(OSError):
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    sys.exit(os.waitstatus_to_exitcode(status))


class _Relay:
    """The process that is the caller's job. It passes on what is typed, shown and signalled."""

    def __init__(self, channel: socket.socket, streams: list[int], master: int, slave: int) -> None:
        self._channel = channel
        self._master = master
        self._terminal = streams[0] if streams else -1
        self._shown = next((number for number in (1, 2, 0) if number in streams), -1)
        self._typed = b""  # and not passed on yet
        self._reads = False
        self._before: list[Any] | None = None
        self._is_whole = len(streams) == 3
        self.is_typed_at = self._is_whole and self._is_foreground  # whether what is typed is for the command
        if streams:
            os.set_blocking(master, False)
            attributes = termios.tcgetattr(self._terminal)
            if not self._is_whole:
                attributes[1] &= ~termios.OPOST  # the terminal goes on to do that, for the rest of a pipeline
            termios.tcsetattr(slave, termios.TCSANOW, attributes)
            self._pass_size_on()

    # The caller's terminal

    @property
    def _is_foreground(self) -> bool:
        """Whether the terminal is this job's to read from."""
        try:
            return os.tcgetpgrp(self._terminal) == os.getpgrp()
        except OSError:  # it is a terminal, and not that of this session
            return self._terminal >= 0

    def take_terminal(self) -> None:
        """Read from the terminal each key as it is typed."""
        self._before = self._before or termios.tcgetattr(self._terminal)
        tty.setraw(self._terminal, termios.TCSADRAIN)  # what was typed already stays
        if not self._is_whole:
            attributes = termios.tcgetattr(self._terminal)
            attributes[1] = self._before[1]
            termios.tcsetattr(self._terminal, termios.TCSANOW, attributes)
        self._reads = True

    def give_terminal_back(self, when: int = termios.TCSAFLUSH) -> None:
        """Leave the terminal as it was; by default without what it may have answered to the last output."""
        if self._before is not None and self._is_foreground:
            with contextlib.suppress(termios.error):  # it was closed
                termios.tcsetattr(self._terminal, when, self._before)
        self._before = None
        self._reads = False

    def _pass_size_on(self) -> None:
        if self._terminal < 0:
            return
        with contextlib.suppress(OSError):
            size = fcntl.ioctl(self._terminal, termios.TIOCGWINSZ, bytes(8))
            fcntl.ioctl(self._master, termios.TIOCSWINSZ, size)

    # What happens meanwhile

    def wait(self, monitor: int) -> int:
        """Pass everything on until the command ends; how it ended."""
        status = None
        wakeup = _signals((*_PASSED_ON, signal.SIGWINCH, signal.SIGTSTP, signal.SIGCONT))
        self._pass_size_on()  # it may have changed before that
        while status is None:
            readers = [self._channel.fileno(), wakeup]
            if self._master >= 0:
                readers.append(self._master)
            if self._reads and not self._typed:
                readers.append(self._terminal)
            ready, writable, _ = select.select(readers, [self._master] if self._typed else [], [])
            if self._master in ready:
                self._show()
            if self._terminal in ready:
                self._read()
            if writable:
                self._pass_typed_on()
            if wakeup in ready:
                for number in os.read(wakeup, 64):
                    self._handle(number)
            if self._channel.fileno() in ready:
                status = self._hear()
        os.waitpid(monitor, 0)
        end = time.monotonic() + _LONGEST_END
        while self._master >= 0 and time.monotonic() < end and select.select([self._master], [], [], _LAST_WORDS)[0]:
            self._show()
        return status

    def _show(self) -> None:
        try:
            text = os.read(self._master, _CHUNK)
        except BlockingIOError:
            return
        except OSError:  # nobody has the other side open any more
            text = b""
        if not text:
            os.close(self._master)
            self._master, self._typed, self._reads = -1, b"", False
        with contextlib.suppress(OSError):  # the terminal was closed
            while text:
                text = text[os.write(self._shown, text) :]

    def _read(self) -> None:
        try:
            self._typed = os.read(self._terminal, 4096)
        except OSError:
            self._typed = b""
        self._reads = bool(self._typed)

    def _pass_typed_on(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._typed = self._typed[os.write(self._master, self._typed) :]

    def _handle(self, number: int) -> None:
        if number == signal.SIGWINCH:
            self._pass_size_on()
        elif number == signal.SIGTSTP:
            self._say(f"signal {signal.SIGSTOP:d}")  # of the stop that follows the monitor tells
        elif number == signal.SIGCONT:
            self._go_on()
        else:
            self._say(f"signal {number}")

    def _hear(self) -> int | None:
        """What the monitor tells; the status of the command when it has ended."""
        try:
            what, _, number = self._channel.recv(64).decode().partition(" ")
        except OSError:
            what, number = "", ""
        if what == "ended":
            return int(number)
        if what != "stopped":
            return signal.SIGKILL  # the monitor was killed, and with it the session
        wants = int(number) in (signal.SIGTTIN, signal.SIGTTOU)
        self.is_typed_at = self.is_typed_at or wants
        if wants and self._is_foreground:
            self._go_on()
        else:
            self._stop()
        return None

    def _stop(self) -> None:
        """Stop the caller's job, as the command has stopped, and go on when that is continued."""
        self.give_terminal_back(termios.TCSADRAIN)
        handler = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.killpg(os.getpgrp(), signal.SIGTSTP)  # without a shell that could continue it, nothing happens
        signal.signal(signal.SIGTSTP, handler)
        self._go_on()

    def _go_on(self) -> None:
        if self.is_typed_at and self._is_foreground:
            self._pass_size_on()
            self.take_terminal()
            self._say("foreground")
        else:
            self._say("continue")

    def _say(self, text: str) -> None:
        with contextlib.suppress(OSError):  # it has ended
            self._channel.send(text.encode())


def _signals(numbers: Iterable[int]) -> int:
    """A descriptor from which the numbers of these signals can be read, those left out that the caller ignores."""
    reader, writer = os.pipe()
    for descriptor in (reader, writer):
        os.set_blocking(descriptor, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for number in numbers:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, lambda *_: None)
    return reader


# In the new session


def _become_monitor(
    start: Callable[[], NoReturn], channel: socket.socket, streams: list[int], slave: int, *, is_typed_at: bool
) -> NoReturn:
    """Lead the session of the command, and tell the relay when it stops or ends."""
    os.setsid()
    if streams:
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    command = os.fork()
    if command == 0:
        _become_command(start, streams, slave, is_typed_at=is_typed_at)
    with contextlib.suppress(OSError):  # it has done so itself
        os.setpgid(command, command)
    for number in (*_PASSED_ON, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU):
        signal.signal(number, signal.SIG_IGN)
    wakeup = _signals([signal.SIGCHLD])
    while True:
        found, status = os.waitpid(command, os.WNOHANG | os.WUNTRACED)
        if found and not os.WIFSTOPPED(status):
            with contextlib.suppress(OSError):  # the relay was killed
                channel.send(f"ended {status}".encode())
            os._exit(0)
        if found:
            if streams:
                os.tcsetpgrp(slave, os.getpgrp())  # so that it waits for its turn when it reads again
            channel.send(f"stopped {os.WSTOPSIG(status)}".encode())
        ready, _, _ = select.select([channel.fileno(), wakeup], [], [])
        if wakeup in ready:
            os.read(wakeup, 64)
        if channel.fileno() in ready:
            what, _, passed_on = channel.recv(64).decode().partition(" ")
            if what == "foreground" and streams:
                os.tcsetpgrp(slave, command)
            # Without a word: the relay was killed, and with it the command is.
            usual = signal.SIGCONT if what else signal.SIGKILL
            with contextlib.suppress(ProcessLookupError):
                os.killpg(command, int(passed_on or usual))


def _become_command(start: Callable[[], NoReturn], streams: list[int], slave: int, *, is_typed_at: bool) -> NoReturn:
    os.setpgid(0, 0)
    if is_typed_at:
        signal.signal(signal.SIGTTOU, signal.SIG_IGN)
        os.tcsetpgrp(slave, os.getpid())
        signal.signal(signal.SIGTTOU, signal.SIG_DFL)
    for number in streams:
        os.dup2(slave, number)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    try:
        start()
    except OSError as error:
        os.write(2, f"{error.filename}: {error.strerror}.\n".encode())
    finally:
        os._exit(_FAILED)
