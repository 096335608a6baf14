"""Running other programs: as another user, with a given environment, and with their output captured."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import selectors
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NoReturn

from slipway.base.errors import FailedError

_FAILURE = re.compile(r"Traceback|ERROR|CRITICAL")
_CHAINED = ("During handling of the above exception", "The above exception was the direct cause")
# Below this, pydantic names the fields in lines that do not begin with a blank, and says why each is wrong.
_PYDANTIC = re.compile(r"\d+ validation errors? for ")
# The value that a field was given, or all of them: perhaps secret, and cut, so that no known value would match it.
_INPUT = re.compile(r", input_value=.*?, input_type=\w+\]")
_MISSING = re.compile(r"^([A-Za-z_][\w.]*)\n\s+Field required", re.MULTILINE)
_NOT_IN_ENVIRON = re.compile(r"<frozen os>[^\n]*\n(?:[^\S\n]+[^\n]*\n)*KeyError: '(\w+)'")
_MOST_OUTPUT = 64 * 2**20  # bytes of each output of a program: what it prints may come from whoever means harm
_BEFORE = 8  # lines to show before an error: the app may have logged the reason there

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# Of the variables of whoever calls the engine: who that is, and what is the engine's own.
_CALLER = ("HOME", "LOGNAME", "SUDO_USER", "TERM", "USER")
_OWN = "SLIPWAY_"


def forget_caller() -> None:
    """Let what this process creates and starts be the same whoever has called it, over which login.

    A umask would close releases to the app, a locale would change what programs answer, and variables for Python, git,
    PostgreSQL or systemd what they do.
    """
    os.umask(0o022)
    kept = {name: value for name, value in os.environ.items() if name in _CALLER or name.startswith(_OWN)}
    os.environ.clear()
    os.environ.update({"PATH": PATH, "LANG": "C.UTF-8", **kept})


def run(
    command: Sequence[str | Path],
    *,
    user: str | None = None,
    environment: Mapping[str, str] | None = None,
    directory: Path | None = None,
    timeout: float | None = None,
    given: str = "",
    inherited: Sequence[int] = (),
    source: IO[bytes] | None = None,
    output: IO[bytes] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run `command` and wait until it ends, with any exit code. Both output streams are captured and decoded.

    With `user` it runs as that user, with the user's groups and a umask of 022. Its environment is then `environment`
    plus PATH, HOME and LANG, so that no variable of root is passed on. It is killed when this process ends: otherwise
    it could still be writing when the next run starts. It has a session of its own, without a terminal: it could type
    into that of root (see `terminal`). `timeout` is in seconds. FailedError when it is exceeded, when the program
    prints more than 64 MB, or when it does not exist. `given` is its standard input; `inherited` are file descriptors
    to pass on to it. A file that is its `source` or `output` takes the place of its standard input or output.
    """
    arguments = [str(part) for part in command]
    # Checked first: with `user` a missing program would only show as an error of setpriv.
    if "/" not in arguments[0] and shutil.which(arguments[0], path=None if user is None else PATH) is None:
        raise FailedError(f"{arguments[0]} is not installed. Run site.yml.")
    env: dict[str, str] | None = None
    if user is not None:
        env = environment_of(user, environment or {})
    elif environment is not None:
        env = {"PATH": PATH, "LANG": "C.UTF-8", **environment}  # with a PATH of its own if that is given
    as_user = _as_user(user) if user is not None and os.geteuid() == 0 else {}
    if as_user:
        arguments = ["setpriv", "--pdeathsig", "KILL", "--", *arguments]
    try:
        with subprocess.Popen(
            arguments,
            env=env,
            cwd=directory,
            stdin=source or subprocess.PIPE,
            stdout=output or subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=inherited,
            start_new_session=bool(as_user),
            **as_user,
        ) as child:
            try:
                said, errors = _talk(child, Path(command[0]).name, given.encode(), timeout)
            except BaseException:
                _kill(child, with_its_session=bool(as_user))
                raise
            return subprocess.CompletedProcess(arguments, child.returncode, _text(said), _text(errors))
    except FileNotFoundError as error:
        raise FailedError(f"{error.filename} is missing. Run site.yml, or deploy another version.") from error


def _talk(child: subprocess.Popen[bytes], name: str, given: bytes, timeout: float | None) -> tuple[bytes, bytes]:
    """Give a program its input, if that is a pipe, and wait for its end; what it has printed on its two outputs."""
    deadline = None if timeout is None else time.monotonic() + timeout
    said, errors = bytearray(), bytearray()
    late = FailedError(f"'{name}' did not finish within {timeout or 0:g} s.")
    with selectors.DefaultSelector() as selector:
        for stream, kept in ((child.stdout, said), (child.stderr, errors)):
            if stream is not None:
                selector.register(stream, selectors.EVENT_READ, kept)
        if child.stdin is not None:
            os.set_blocking(child.stdin.fileno(), False)
            selector.register(child.stdin, selectors.EVENT_WRITE)
        while selector.get_map():
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                raise late
            for key, _ in selector.select(left):
                if key.data is None:
                    given = _give(key.fd, given)
                    if not given:
                        selector.unregister(key.fileobj)
                        child.stdin.close()  # type: ignore[union-attr]  # it is the one that was registered
                    continue
                part = os.read(key.fd, 2**16)
                if not part:
                    selector.unregister(key.fileobj)
                key.data.extend(part)
                if len(key.data) > _MOST_OUTPUT:
                    raise FailedError(f"'{name}' printed more than {_MOST_OUTPUT // 2**20} MB.")
    try:
        child.wait(None if deadline is None else max(0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        raise late from None
    return bytes(said), bytes(errors)


def _give(descriptor: int, data: bytes) -> bytes:
    """Write a part of the data; what is left of it. A program that does not read all of it has its reasons."""
    try:
        return data[os.write(descriptor, data[: 2**16]) :] if data else b""
    except BrokenPipeError:
        return b""


def _text(output: bytes) -> str:
    return output.decode(errors="replace").replace("\r\n", "\n").replace("\r", "\n")


def environment_of(user: str, environment: Mapping[str, str]) -> dict[str, str]:
    """All variables of a program that runs as `user`: those given, and PATH, HOME, USER and LANG if they are not."""
    return {"PATH": PATH, "LANG": "C.UTF-8", "USER": user, "HOME": pwd.getpwnam(user).pw_dir, **environment}


def _kill(child: subprocess.Popen[str], *, with_its_session: bool) -> None:
    """Kill a program, and what it has started: that would not be told of Ctrl-C where it has no terminal."""
    with contextlib.suppress(ProcessLookupError):
        if with_its_session:
            os.killpg(child.pid, signal.SIGKILL)
        else:
            child.kill()


def become(command: Sequence[str], user: str, environment: Mapping[str, str], directory: Path) -> NoReturn:
    """Replace this process by `command`, as `user` and with an environment as for `run`; input and output stay.

    All rights of root are dropped before the program is searched or loaded, as PATH and LD_PRELOAD may point into the
    release.
    """
    account = pwd.getpwnam(user)
    env = environment_of(user, environment)
    sys.stdout.flush()
    if os.geteuid() == 0:
        os.initgroups(user, account.pw_gid)
        os.setgid(account.pw_gid)
        os.setuid(account.pw_uid)
    os.umask(0o022)
    os.chdir(directory)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, and the command would inherit that
        signal.signal(number, signal.SIG_DFL)
    os.execvpe(command[0], list(command), env)  # noqa: S606  # no shell is wanted


def _as_user(name: str) -> dict[str, Any]:
    account = pwd.getpwnam(name)
    groups = os.getgrouplist(name, account.pw_gid)
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": groups, "umask": 0o022}


def tail(output: str, lines: int = 30) -> str:
    """The last `lines` non-empty lines of a program's output."""
    return "\n".join(_non_empty(output)[-lines:])


def first_failure(output: str, lines: int = 60) -> str:
    """The first error of a log, with the lines before it and its whole traceback; at most `lines` lines.

    The last lines of the log of a crashed service only show how its supervisor ended. The cause is further up.
    """
    logged = [_INPUT.sub("]", line) for line in _non_empty(output)]
    start = next((number for number, line in enumerate(logged) if _FAILURE.search(line)), None)
    if start is None:
        return "\n".join(logged[-lines:])
    window = logged[max(0, start - _BEFORE) : _end_of_failure(logged, start) + 1]
    if len(window) > lines:
        window = [*window[: 2 * _BEFORE], "  ...", *window[-(lines - 2 * _BEFORE - 1) :]]
    return "\n".join(window)


def _end_of_failure(logged: Sequence[str], start: int) -> int:
    """The last line of the traceback near `start`, with chained exceptions; without one, a few lines after `start`."""
    near = range(start, min(start + _BEFORE, len(logged)))
    number = next((n for n in near if "Traceback" in logged[n]), None)
    if number is None:
        return start + _BEFORE
    while True:
        number = next((n for n in range(number + 1, len(logged)) if not logged[n].startswith(" ")), len(logged))
        if number < len(logged) and _PYDANTIC.search(logged[number]):
            number = _end_of_fields(logged, number)
        if number + 2 >= len(logged) or not logged[number + 1].startswith(_CHAINED):
            return number
        number += 2  # skip the sentence between two chained exceptions


def _end_of_fields(logged: Sequence[str], number: int) -> int:
    """The last line of what pydantic says of fields: the name of each, and below it, indented, what is wrong."""
    while number + 2 < len(logged) and not logged[number + 1].startswith((" ", "{")) and logged[number + 2][:1] == " ":
        number += 2
        while number + 1 < len(logged) and logged[number + 1].startswith(" "):
            number += 1
    return number


def missing_variables(output: str) -> list[str]:
    """The variables that an app asks for at its start and has not been given, as its log says, in its order.

    They are fields without a value of pydantic's settings, and names that `os.environ` does not have. A line of the log
    may be JSON, with the whole error in it.
    """
    text = output.replace("\\n", "\n").replace('\\"', '"')
    found = [*_MISSING.findall(text), *_NOT_IN_ENVIRON.findall(text)]
    return list(dict.fromkeys(name.upper() if name.islower() else name for name in found))


def _non_empty(output: str) -> list[str]:
    return [line.rstrip() for line in output.splitlines() if line.strip()]
