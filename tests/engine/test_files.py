import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from roles.release.module_utils import engine_call
from slipway.base import files
from slipway.base import settings as config
from slipway.base.errors import FailedError, RefusedError
from slipway.cli import status
from slipway.deployment import lock
from slipway.observers import hook_settings
from slipway.records import deployment, journal, manifest
from slipway.release import source
from slipway.slot import health, slots, systemd

from .fakes import V1, Host, deployed

# A process that is killed before it renames its temporary file.
KILLED = """
import os, signal, sys
from pathlib import Path
from slipway.base import files
die = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
os.fsync = Path.replace = die
"""
WRITES = KILLED + "files.write_atomically(Path(sys.argv[1]), 'new')"
LINKS = KILLED + "files.link_atomically(Path(sys.argv[1]), 'slots/green')"


def test_link_atomically_never_leaves_the_link_missing(tmp_path: Path) -> None:
    """The link is read while it is changed 500 times. With unlink and symlink this would fail."""
    link = tmp_path / "live"
    files.link_atomically(link, "slots/blue")
    stop = threading.Event()
    problems: list[BaseException] = []

    def read() -> None:
        while not stop.is_set():
            try:
                assert link.readlink().name in slots.NAMES
            except (OSError, AssertionError) as error:
                problems.append(error)
                return

    reader = threading.Thread(target=read)
    reader.start()
    for turn in range(500):
        files.link_atomically(link, f"slots/{slots.NAMES[turn % 2]}")
    stop.set()
    reader.join()
    assert problems == []


def test_a_write_that_fails_leaves_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "env"
    files.write_atomically(path, "old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        files.write_atomically(path, "new")
    assert path.read_text() == "old"
    assert [item.name for item in tmp_path.iterdir()] == ["env"]


@pytest.mark.parametrize("program", [WRITES, LINKS])
def test_sweep_removes_only_files_of_killed_writers(tmp_path: Path, program: str) -> None:
    others = {".env", ".inputs", "env", "env.new"}
    for name in others:
        (tmp_path / name).touch()
    (tmp_path / ".directory.new").mkdir()
    killed = subprocess.run([sys.executable, "-c", program, tmp_path / "live"], check=False)
    assert killed.returncode == -9
    others.add(".directory.new")
    (left,) = {path.name for path in tmp_path.iterdir()} - others
    assert left.startswith(".live.")
    files.sweep(tmp_path, age=60)
    assert (tmp_path / left).is_symlink() or (tmp_path / left).exists(), "it may be at work"
    os.utime(tmp_path / left, (0, 0), follow_symlinks=False)
    files.sweep(tmp_path, age=60)
    assert {path.name for path in tmp_path.iterdir()} == others


def test_sweep_accepts_a_missing_directory(tmp_path: Path) -> None:
    files.sweep(tmp_path / "backups")


# Reading what others may have put there


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _link_to_fifo(path: Path) -> None:
    os.mkfifo(path.with_name("fifo"))
    path.symlink_to("fifo")


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(2**40)


UNFIT: dict[str, tuple[Callable[[Path], object], str]] = {
    "a FIFO": (_fifo, "it is a FIFO"),
    "a link to a FIFO": (_link_to_fifo, "it is a (FIFO|symbolic link)"),
    "a link to a device": (lambda path: path.symlink_to("/dev/zero"), "it is a (device|symbolic link)"),
    "a link to a file": (lambda path: path.symlink_to("/etc/passwd"), "it is a (link that leads out|symbolic link)"),
    "a link to itself": (lambda path: path.symlink_to(path.name), "symbolic link"),
    "a link to a process": (lambda path: path.symlink_to("/proc/self/environ"), "it is a (link|symbolic link)"),
    "a socket": (_socket, "it is a socket"),
    "a directory": (Path.mkdir, "it is a directory"),
    "a file of a terabyte": (_sparse, "it has more than 1000 bytes"),
    "a file that is a little too long": (lambda path: path.write_bytes(bytes(1001)), "it has more than 1000 bytes"),
}


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize(("put", "said"), UNFIT.values(), ids=UNFIT)
def test_what_is_no_file_of_a_sensible_size_is_a_sentence_at_once(
    tmp_path: Path, put: Callable[[Path], object], said: str, inside: bool
) -> None:
    path = tmp_path / "file"
    put(path)
    started = time.monotonic()
    with pytest.raises(OSError, match=said) as error:
        files.read_bytes(path, limit=1000, inside=tmp_path if inside else None)
    assert time.monotonic() - started < 1
    assert error.value.filename == str(path)
    assert "/proc/self/fd" not in str(error.value)


@pytest.mark.parametrize("put", [put for put, _ in UNFIT.values()], ids=UNFIT)
def test_such_a_thing_holds_no_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, put: Callable[..., object]
) -> None:
    path = tmp_path / "file"
    put(path)
    monkeypatch.setattr(files, "LIMIT", 1000)
    with contextlib.suppress(OSError):  # of a link to itself the kernel says so
        assert files.read_json(path) is None


def test_a_file_of_the_longest_size_and_a_link_that_stays_inside_are_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 1000)
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "directory").symlink_to(tmp_path)
    assert files.read_bytes(tmp_path / "file", limit=1000) == b"x" * 1000
    assert files.read_bytes(tmp_path / "link", limit=1000, inside=tmp_path) == b"x" * 1000
    assert files.read_bytes(tmp_path / "directory/link", inside=tmp_path / "directory") == b"x" * 1000


def test_a_file_that_another_process_has_a_lease_on_is_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("{}")
    with path.open("r+") as file:
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        previous = signal.signal(signal.SIGIO, signal.SIG_IGN)
        try:
            started = time.monotonic()
            with pytest.raises(files.UnfitError, match="another process keeps it"):
                files.read_bytes(path)
            assert files.read_json(path) is None
            assert time.monotonic() - started < 1, "the kernel would have broken it after 45 s"
        finally:
            signal.signal(signal.SIGIO, previous)


def test_a_file_that_is_swapped_while_it_is_read_is_one_of_both_or_refused(tmp_path: Path) -> None:
    """2000 reads while another process exchanges the file for a FIFO and for a link as fast as it can."""
    swap = """
import ctypes, os, sys
exchange = lambda a, b: ctypes.CDLL(None).renameat2(-100, a.encode(), -100, b.encode(), 2)
while os.path.exists("going"):
    exchange("file", "fifo"); exchange("file", "link")
"""
    (tmp_path / "file").write_text("ours")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to("/etc/passwd")
    (tmp_path / "going").touch()
    found = {"read": 0, "refused": 0}
    with subprocess.Popen([sys.executable, "-c", swap], cwd=tmp_path) as other:
        try:
            for _ in range(2000):
                try:
                    assert files.read_bytes(tmp_path / "file") == b"ours"
                    found["read"] += 1
                except files.UnfitError:
                    found["refused"] += 1
        finally:
            (tmp_path / "going").unlink()
            other.wait()
    assert found["read"], found
    assert found["refused"], found


DEEP = {"lists": "[" * 200_000, "objects": '{"a":' * 200_000, "closed lists": "[" * 100_000 + "]" * 100_000}


@pytest.mark.parametrize("text", DEEP.values(), ids=DEEP)
def test_json_that_is_nested_too_deeply_is_damaged_wherever_it_is_read(tmp_path: Path, text: str) -> None:
    path = tmp_path / "file.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"nested|Expecting"):
        files.decode_json(text)
    assert files.read_json(path) is None
    with pytest.raises(FailedError, match="cannot be read"):
        deployment.load(path)
    assert journal.read(path) == []
    assert lock.read(path) is None
    assert hook_settings.load(path)[0] == []
    assert health.read_answer(503, text.encode()).status == 503
    assert systemd.readable('{"message": ' + text) != ""
    assert engine_call.read_events('{"event": ' + text) == []
    (tmp_path / manifest.COMPLETE).touch()
    (tmp_path / manifest.NAME).write_text(text)
    assert manifest.read(tmp_path) is None


TOML = {"lists": "a = " + "[" * 100_000, "tables": "a = " + "{a=" * 100_000}


@pytest.mark.parametrize("text", TOML.values(), ids=TOML)
def test_toml_that_is_nested_too_deeply_is_a_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "logbook.toml").write_text(text)
    with pytest.raises(RefusedError, match="is not TOML"):
        config.load("logbook", tmp_path)
    (tmp_path / "pyproject.toml").write_text(text)
    assert source.project(tmp_path) == {}


def test_a_release_with_a_fifo_in_the_place_of_its_manifest_is_passed_over(host: Host) -> None:
    """Row M3: `releases` and `prune` waited for a writer."""
    deployed(host, V1)
    other = host.settings.release("v0-000000000000")
    other.mkdir()
    (other / manifest.COMPLETE).touch()
    os.mkfifo(other / manifest.NAME)
    assert [item["tag"] for item in status.list_releases(host.settings)] == ["v1"]
    host.engine.prune()


MANIFEST = {"release": "v1-1", "tag": "v1", "sha": "1", "subject": "", "python": "", "lock_sha256": "", "built_at": ""}
DAMAGED: dict[str, dict[str, object]] = {
    "revisions that are texts": {"revisions": ["0001"]},
    "revisions that are a number": {"revisions": 7},
    "a revision that is a number": {"revisions": [{"revision": 1, "message": ""}]},
    "a name that leads elsewhere": {"release": "../../etc"},
    "a name that is a list": {"release": ["v1-1"]},
    "heads that are a number": {"heads": 7},
    "heads that are lists": {"heads": [[]]},
    "a tag that is an object": {"tag": {}},
}


@pytest.mark.parametrize("changes", DAMAGED.values(), ids=DAMAGED)
def test_a_manifest_whose_parts_are_of_other_types_is_damaged(tmp_path: Path, changes: dict[str, object]) -> None:
    (tmp_path / manifest.COMPLETE).touch()
    (tmp_path / manifest.NAME).write_text(json.dumps(MANIFEST))
    assert manifest.read(tmp_path) is not None
    (tmp_path / manifest.NAME).write_text(json.dumps({**MANIFEST, **changes}))
    assert manifest.read(tmp_path) is None
