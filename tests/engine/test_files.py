import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from slipway.base import files
from slipway.slot import slots

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
