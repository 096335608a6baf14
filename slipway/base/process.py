"""Running other programs: as another user, with an environment of our own, and with their output at hand."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from slipway.base.errors import FailedError

_FAILURE = re.compile(r"Traceback|ERROR|CRITICAL")
_CHAINED = ("During handling of the above exception", "The above exception was the direct cause")
_BEFORE = 8  # lines that lead to an error: an app may have said why in a sentence

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def run(
    command: Sequence[str | Path],
    *,
    user: str | None = None,
    environment: Mapping[str, str] | None = None,
    directory: Path | None = None,
    timeout: float | None = None,
    inherited: Sequence[int] = (),
) -> subprocess.CompletedProcess[str]:
    """Run `command` to its end, whatever its exit code; output is decoded and captured, both streams apart.

    With `user` it runs as that user, with its groups, a umask of 022 and an environment made of `environment`
    alone (plus PATH, HOME and LANG), so that nothing of root's leaks into it; and it ends when this process does,
    so that no orphan goes on writing where the next run begins. `timeout` is in seconds; FailedError when it is
    exceeded or when the program is not there. `inherited` are file descriptors that it has as well.
    """
    arguments = [str(part) for part in command]
    # Asked first: as another user it is setpriv that would not find it.
    if "/" not in arguments[0] and shutil.which(arguments[0], path=None if user is None else PATH) is None:
        raise FailedError(f"{arguments[0]} is not installed. Run site.yml.")
    env: dict[str, str] | None = None
    if environment is not None or user is not None:
        env = {"PATH": PATH, "LANG": "C.UTF-8", **(environment or {})}
    as_user = _as_user(user) if user is not None and os.geteuid() == 0 else {}
    if as_user:
        arguments = ["setpriv", "--pdeathsig", "KILL", "--", *arguments]
    if env is not None and user is not None:
        env = {"USER": user, "HOME": pwd.getpwnam(user).pw_dir, **env}
    try:
        return subprocess.run(
            arguments,
            env=env,
            cwd=directory,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            pass_fds=inherited,
            **as_user,
        )
    except subprocess.TimeoutExpired as error:
        raise FailedError(f"'{Path(command[0]).name}' did not end within {timeout:g} s.") from error
    except FileNotFoundError as error:
        raise FailedError(f"{error.filename} is missing. Run site.yml, or deploy another version.") from error


def become(command: Sequence[str], user: str, environment: Mapping[str, str], directory: Path) -> NoReturn:
    """Be `command` from now on: as `user` and with an environment as for `run`, its input and output those of ours.

    Nothing is left of root before anything is looked for or loaded: PATH and LD_PRELOAD may lead into the release.
    """
    account = pwd.getpwnam(user)
    env = {"LANG": "C.UTF-8", "USER": user, "HOME": account.pw_dir, "PATH": PATH, **environment}
    sys.stdout.flush()
    if os.geteuid() == 0:
        os.initgroups(user, account.pw_gid)
        os.setgid(account.pw_gid)
        os.setuid(account.pw_uid)
    os.umask(0o022)
    os.chdir(directory)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, and so would what comes after it
        signal.signal(number, signal.SIG_DFL)
    os.execvpe(command[0], list(command), env)  # noqa: S606  # no shell is wanted


def _as_user(name: str) -> dict[str, Any]:
    account = pwd.getpwnam(name)
    groups = os.getgrouplist(name, account.pw_gid)
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": groups, "umask": 0o022}


def tail(output: str, lines: int = 30) -> str:
    """The last `lines` non-empty lines of a program's output."""
    return "\n".join(_said(output)[-lines:])


def first_failure(output: str, lines: int = 60) -> str:
    """At most `lines` lines of a log: what leads to the first error in it, and to the end of its traceback.

    What comes last in the log of a service that has crashed is how its supervisor ended, not why.
    """
    said = _said(output)
    start = next((number for number, line in enumerate(said) if _FAILURE.search(line)), None)
    if start is None:
        return "\n".join(said[-lines:])
    window = said[max(0, start - _BEFORE) : _end_of_failure(said, start) + 1]
    if len(window) > lines:
        window = [*window[: 2 * _BEFORE], "  ...", *window[-(lines - 2 * _BEFORE - 1) :]]
    return "\n".join(window)


def _end_of_failure(said: Sequence[str], start: int) -> int:
    """The line that names the last exception of the chain that is shown near `start`; a few lines on where none is."""
    near = range(start, min(start + _BEFORE, len(said)))
    number = next((n for n in near if "Traceback" in said[n]), None)
    if number is None:
        return start + _BEFORE
    while True:
        number = next((n for n in range(number + 1, len(said)) if not said[n].startswith(" ")), len(said))
        if number + 2 >= len(said) or not said[number + 1].startswith(_CHAINED):
            return number
        number += 2  # over the sentence that joins them


def _said(output: str) -> list[str]:
    return [line.rstrip() for line in output.splitlines() if line.strip()]
