"""Bytecode of a release's own modules, made by a real Python."""

from __future__ import annotations

import getpass
import importlib.util
import os
import sys
from pathlib import Path

import pytest

from slipway.release import bytecode

VERSION = sys.version.split()[0]


def release(path: Path, files: dict[str, str], at: int) -> Path:
    """A release with modules that were all written at one time, and a virtualenv without bytecode."""
    for name, content in {**files, ".venv/lib/package.py": "x = 1\n"}.items():
        module = path / name
        module.parent.mkdir(parents=True, exist_ok=True)
        module.write_text(content)
        os.utime(module, (at, at))
    (path / ".venv/bin").mkdir(parents=True)
    (path / ".venv/bin/python").symlink_to(sys.executable)
    return path


def make(path: Path, donor: Path | None) -> str:
    return bytecode.make(path, donor, getpass.getuser())


def compiled(path: Path, module: str) -> Path:
    return Path(importlib.util.cache_from_source(path / module))


def is_valid(path: Path, module: str) -> bool:
    """Whether Python would take the bytecode for that of the module: the header has the module's time and size."""
    header = compiled(path, module).read_bytes()[:16]
    stat = (path / module).stat()
    numbers = [int.from_bytes(header[place : place + 4], "little") for place in (4, 8, 12)]
    return header[:4] == importlib.util.MAGIC_NUMBER and numbers == [0, int(stat.st_mtime), stat.st_size]


def test_what_another_release_has_as_well_is_taken_over_and_the_rest_is_compiled(tmp_path: Path) -> None:
    files = {"app/same.py": "a = 1\n", "app/changed.py": "b = 1\n"}
    donor = release(tmp_path / "v1", files, at=1_000_000)
    assert make(donor, None) == VERSION
    new = release(tmp_path / "v2", {**files, "app/changed.py": "b = 2\n", "app/new.py": "c = 1\n"}, at=2_000_000)
    assert make(new, donor) == VERSION
    assert all(is_valid(new, f"app/{name}.py") for name in ("same", "changed", "new"))
    assert (new / "app/same.py").stat().st_mtime == 1_000_000  # so that bytecode of the other release fits it
    assert (new / "app/changed.py").stat().st_mtime == 2_000_000
    assert not compiled(new, "app/same.py").samefile(compiled(donor, "app/same.py"))
    assert is_valid(donor, "app/same.py")
    assert is_valid(donor, "app/changed.py")
    assert not compiled(new, ".venv/lib/package.py").exists()


@pytest.mark.parametrize("damage", ["stale", "torn", "gone"])
def test_bytecode_of_another_release_that_does_not_fit_is_made_anew(tmp_path: Path, damage: str) -> None:
    donor = release(tmp_path / "v1", {"a.py": "a = 1\n"}, at=1_000_000)
    make(donor, None)
    theirs = compiled(donor, "a.py")
    if damage == "stale":
        os.utime(donor / "a.py", (1_500_000, 1_500_000))
    elif damage == "torn":
        theirs.write_bytes(theirs.read_bytes()[:7])
    else:
        theirs.unlink()
    content = theirs.read_bytes() if theirs.exists() else None
    new = release(tmp_path / "v2", {"a.py": "a = 1\n"}, at=2_000_000)
    assert make(new, donor) == VERSION
    assert is_valid(new, "a.py")
    assert (theirs.read_bytes() if theirs.exists() else None) == content  # the other release is only read


def test_a_module_that_cannot_be_compiled_does_not_stop_the_others(tmp_path: Path) -> None:
    new = release(tmp_path / "v1", {"a.py": "a = (\n", "b.py": "b = 1\n"}, at=1_000_000)
    assert make(new, None) == VERSION
    assert is_valid(new, "b.py")
    assert not compiled(new, "a.py").exists()


def test_a_link_is_compiled_and_what_it_leads_to_stays_as_it_is(tmp_path: Path) -> None:
    donor = release(tmp_path / "v1", {"a.py": "a = 1\n"}, at=1_000_000)
    make(donor, None)
    elsewhere = tmp_path / "elsewhere.py"
    elsewhere.write_text("a = 1\n")
    os.utime(elsewhere, (3_000_000, 3_000_000))
    new = release(tmp_path / "v2", {}, at=2_000_000)
    (new / "a.py").symlink_to(elsewhere)
    make(new, donor)
    assert elsewhere.stat().st_mtime == 3_000_000


def test_a_python_that_does_not_run_has_no_version(tmp_path: Path) -> None:
    new = release(tmp_path / "v1", {}, at=1_000_000)
    (new / ".venv/bin/python").unlink()
    (new / ".venv/bin/python").symlink_to("/bin/false")
    assert make(new, None) == ""
