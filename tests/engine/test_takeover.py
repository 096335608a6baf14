"""What a build has left becomes root's, or is refused: whatever it has put there."""

from __future__ import annotations

import mmap
import os
import shutil
import socket
import stat
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from slipway.base.errors import FailedError
from slipway.release import takeover

BUILDER = 65534 if os.geteuid() == 0 else os.geteuid()
PYTHON = Path(sys.executable)

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to another user")


@pytest.fixture
def release() -> Iterator[Path]:
    """A release that the builder has made, in a directory that they can reach."""
    parent = Path(tempfile.mkdtemp())
    parent.chmod(0o755)
    path = parent / "v1"
    for name in ("app/main.py", ".venv/bin/gunicorn", "uv.lock"):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text("x")
    (path / ".venv/bin/gunicorn").chmod(0o755)
    (path / ".venv/bin/python").symlink_to(PYTHON)
    (path / ".venv/lib64").symlink_to("lib")
    given(path)
    yield path
    shutil.rmtree(parent)


def given(path: Path) -> None:
    """Everything below `path` is the builder's."""
    for place in (path, *path.rglob("*")):
        os.chown(place, BUILDER, BUILDER, follow_symlinks=False)


def as_builder(release: Path, program: str) -> int:
    """The exit code of a program of Python that runs in the release as its builder."""
    python = shutil.which("python3", path="/usr/bin") or sys.executable
    who = ["setpriv", f"--reuid={BUILDER}", f"--regid={BUILDER}", "--clear-groups"]
    return subprocess.run([*who, python, "-c", program], cwd=release, check=False).returncode


def take(release: Path) -> None:
    takeover.take(release, BUILDER, PYTHON)


def everything(release: Path) -> Iterator[os.stat_result]:
    for place in (release, *release.rglob("*")):
        yield place.lstat()


@pytest.mark.parametrize("umask", [0o000, 0o027, 0o077])
def test_all_of_it_becomes_the_engines_readable_and_not_writable(release: Path, umask: int) -> None:
    for place in release.rglob("*"):
        if not place.is_symlink():
            place.chmod((0o777 if place.stat().st_mode & 0o100 else 0o666) & ~umask | 0o7000)
    take(release)
    assert {found.st_uid for found in everything(release)} == {os.geteuid()}
    modes = {oct(found.st_mode & 0o7777) for found in everything(release) if not stat.S_ISLNK(found.st_mode)}
    assert modes == {"0o755", "0o644"}
    assert (release / ".venv/bin/gunicorn").stat().st_mode & 0o777 == 0o755


def fifo(release: Path) -> None:
    os.mkfifo(release / "app/pipe")


def unix_socket(release: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(release / "app/socket"))


def deep(release: Path) -> None:
    (release / "/".join("d" * 120)).mkdir(parents=True)


def link(target: str, name: str = "app/link") -> Callable[[Path], None]:
    return lambda release: (release / name).symlink_to(target)


def through_a_link(release: Path) -> None:
    """By its text this link stays inside: the ".." after the first link is not where it seems to be."""
    (release / "app/up").symlink_to("..")
    (release / "app/link").symlink_to("up/../outside")


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (fifo, "has app/pipe, which is neither a file, a directory nor a link"),
        (unix_socket, "has app/socket, which is neither"),
        (deep, "has directories more than 100 deep"),
        (link("/etc/shadow"), r"a link that leads out of it \(app/link -> /etc/shadow\)"),
        (link("../../../etc"), "a link that leads out of it"),
        (link("/etc/shadow", "uv.lock.new"), "a link that leads out of it"),
        (link("/proc/self/root/usr/bin/env"), ""),
        (through_a_link, "a link that leads out of it"),
        (link("/srv/other/releases/v1\n\x1b[2J"), r"other/releases/v1\\n\\x1b"),
    ],
)
def test_what_a_release_cannot_have_is_named(release: Path, made: Callable[[Path], None], reason: str) -> None:
    made(release)
    given(release)
    if not reason:
        take(release)
        return
    with pytest.raises(FailedError, match=reason):
        take(release)


@pytest.mark.parametrize("target", ["main.py", "../uv.lock", "nowhere", "link", "/usr/bin/env", "."])
def test_links_that_stay_inside_or_lead_to_the_system_are_kept(release: Path, target: str) -> None:
    link(target)(release)
    given(release)
    take(release)
    assert str((release / "app/link").readlink()) == target
    assert (release / ".venv/bin/python").resolve() == PYTHON.resolve()


@as_root
def test_what_belongs_to_somebody_else_is_refused(release: Path) -> None:
    os.chown(release / "app/main.py", 12345, 12345)
    with pytest.raises(FailedError, match=r"has app/main.py, which does not belong to the user that builds it"):
        take(release)


@as_root
def test_a_secret_of_root_under_another_name_is_refused(release: Path) -> None:
    secret = release.parent / "secret"
    secret.write_text("s3cret")
    secret.chmod(0o600)
    (release / "app/secret").hardlink_to(secret)
    with pytest.raises(FailedError, match="does not belong to the user that builds it"):
        take(release)
    assert secret.stat().st_mode & 0o777 == 0o600


@as_root
def test_files_that_are_shared_with_another_release_stay_as_they_are(release: Path) -> None:
    other = release.parent / "other.py"
    other.write_text("shared")
    (release / "app/shared.py").hardlink_to(other)
    take(release)
    assert (release / "app/shared.py").samefile(other)


@as_root
def test_access_lists_of_the_builder_end(release: Path) -> None:
    for place in ("app", "app/main.py"):
        os.setxattr(release / place, "system.posix_acl_access", access_list())
    os.setxattr(release / "app", "system.posix_acl_default", access_list())
    may_write = "import os, sys; sys.exit(os.access('app/main.py', os.W_OK) or os.access('app', os.W_OK))"
    for place in ("app", "app/main.py"):
        os.chown(release / place, 0, 0)
    assert as_builder(release, may_write) == 1
    given(release)
    take(release)
    assert as_builder(release, may_write) == 0


def access_list() -> bytes:
    """One with which the builder may do everything, as the kernel has it: see acl(5)."""
    nobody = 2**32 - 1
    entries = [(1, 7, nobody), (2, 7, BUILDER), (4, 5, nobody), (16, 7, nobody), (32, 5, nobody)]
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


CHANGES = [
    "open('app/main.py', 'a')",
    "os.unlink('uv.lock')",
    "os.mkdir(f'x{os.getpid()}')",
    "os.chmod('app', 0o777)",
    "os.rename('app', 'other')",
    "os.symlink('/etc', 'app/etc')",
    "os.setxattr('uv.lock', 'user.x', b'')",
]


@as_root
@pytest.mark.parametrize("change", CHANGES)
def test_the_builder_can_change_nothing_afterwards(release: Path, change: str) -> None:
    program = f"import os, sys\ntry: {change}\nexcept PermissionError: sys.exit(7)"
    assert as_builder(release, program) == 0
    as_builder(release, "import os; os.path.exists('other') and os.rename('other', 'app'); open('uv.lock', 'a')")
    given(release)
    (release / "app/etc").unlink(missing_ok=True)
    take(release)
    assert as_builder(release, program) == 7


@as_root
@pytest.mark.parametrize("by_map", [False, True])
def test_a_file_that_somebody_still_writes_to_is_refused(release: Path, by_map: bool) -> None:
    """The build has given it to a process outside: a change of its owner would not close it there."""
    path = release / "app/main.py"
    with path.open("r+b") as file:
        given_away = mmap.mmap(file.fileno(), 0) if by_map else file
        if by_map:
            file.close()
        with pytest.raises(FailedError, match=r"app/main.py of the release is open for writing"):
            take(release)
        given_away.close()


@as_root
def test_a_link_whose_path_is_too_long_to_be_followed_is_refused(release: Path) -> None:
    deep = "d" * 200
    (release / "app/out").symlink_to("/".join([deep] * 19) + "/../" * 40 + "etc/shadow")
    os.lchown(release / "app/out", BUILDER, BUILDER)
    assert len(os.fsencode(release)) + 19 * 201 < 4096
    (release / "app/far").symlink_to("out/" + "x" * 250)
    os.lchown(release / "app/far", BUILDER, BUILDER)
    with pytest.raises(FailedError):
        take(release)
