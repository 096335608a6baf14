"""The engine as one file: an executable zip of this package. The same source always gives the same bytes."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from pathlib import Path

# Without the host's own packages (-S), as it uses none: that starts a little sooner.
# Isolated from variables and packages of the caller, and with UTF-8 whatever the locale is.
SHEBANG = b"#!/usr/bin/python3 -ISXutf8\n"

# Python caches the bytecode of files, but not of modules in a zip: compiling them again would cost each command a tenth
# of a second. So root unpacks the zip below /run (in memory) on hosts. Elsewhere it runs from the zip.
_MAIN = """\
import os, pathlib, sys
unpacked = pathlib.Path("/run/slipway/program/{digest}")
if os.geteuid() == 0 and unpacked.parents[1].is_dir() and not unpacked.is_dir():
    import shutil, zipfile

    os.umask(0o022)

    partial = unpacked.with_suffix(f".{{os.getpid()}}")
    try:
        zipfile.ZipFile(sys.path[0]).extractall(partial)
        partial.rename(unpacked)
    except OSError:  # no space, or another run has unpacked it meanwhile
        shutil.rmtree(partial, ignore_errors=True)
if os.path.isdir(unpacked):  # who is not root cannot look there
    sys.path.insert(0, str(unpacked))
from slipway.cli.parser import program
program()
"""
_ELSEWHERE = {"inspect"}  # rooms that only the controller has
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest date that zip allows; the time of the build must not change the bytes


def build(package: Path) -> bytes:
    """The content of the executable file, from the directory of the package."""
    buffer = io.BytesIO()
    files = [path for path in sorted(package.rglob("*.py")) if path.relative_to(package).parts[0] not in _ELSEWHERE]
    sources = {str(path.relative_to(package.parent)): path.read_text() for path in files}
    digest = hashlib.sha256(json.dumps(sources).encode()).hexdigest()[:16]
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in {"__main__.py": _MAIN.format(digest=digest), **sources}.items():
            _add(archive, name, content)
    return SHEBANG + buffer.getvalue()


def _add(archive: zipfile.ZipFile, name: str, content: str) -> None:
    entry = zipfile.ZipInfo(name, _EPOCH)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = 0o644 << 16
    archive.writestr(entry, content)


def write(output: Path) -> bool:
    """Write the file; False when it already existed with this content."""
    content = build(Path(__file__).parents[1])
    if output.exists() and output.read_bytes() == content:
        return False
    output.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    output.write_bytes(content)
    output.chmod(0o755)
    return True
