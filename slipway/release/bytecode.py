"""The bytecode of a release's own modules: taken from another release where that has the same file, else compiled."""

from __future__ import annotations

from pathlib import Path

from slipway.base import process

# Runs in the release's directory, by its own Python and as the user who builds it; prints the version of that Python.
# Its argument is the other release, or "". Python takes bytecode for that of a file of the same size and time.
PROGRAM = r"""
import compileall, importlib.util, os, pathlib, re, shutil, sys

def take_over(path, other):
    try:
        if path.is_symlink() or path.read_bytes() != other.read_bytes():
            return
        compiled = pathlib.Path(importlib.util.cache_from_source(path))
        theirs = pathlib.Path(importlib.util.cache_from_source(other))
        if theirs.is_file():
            compiled.parent.mkdir(exist_ok=True)
            shutil.copyfile(theirs, compiled)  # its own: the other release is root's
            os.utime(path, ns=(path.stat().st_atime_ns, other.stat().st_mtime_ns))
    except OSError:
        pass  # it is compiled then

if sys.argv[1]:
    for directory, names, files in os.walk("."):
        if directory == ".":
            names[:] = [name for name in names if name != ".venv"]
        for name in files:
            if name.endswith(".py"):
                path = pathlib.Path(directory, name)
                take_over(path, sys.argv[1] / path)
compileall.compile_dir(".", quiet=1, rx=re.compile(r"/\.venv/"))
print(sys.version.split()[0])
"""


def make(release: Path, donor: Path | None, user: str) -> str:
    """Give a release the bytecode that its service cannot write itself; the version of its Python, "" without one.

    `donor` is another release whose bytecode may be taken over. What cannot be compiled is passed over.
    """
    command = [".venv/bin/python", "-c", PROGRAM, str(donor or "")]
    done = process.run(command, user=user, directory=release)
    return done.stdout.split()[-1] if done.returncode == 0 else ""
