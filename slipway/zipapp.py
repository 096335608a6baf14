"""The engine as one file: a zip of this package that Python runs. The same source gives the same bytes."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

SHEBANG = b"#!/usr/bin/python3 -I\n"

_MAIN = "import sys\nfrom slipway.cli import main\nsys.exit(main(sys.argv[1:]))\n"
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest that zip knows; a build's time must not change its bytes


def build(package: Path) -> bytes:
    """The executable file's content, from the directory of the package."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        _add(archive, "__main__.py", _MAIN)
        for source in sorted(package.glob("*.py")):
            _add(archive, f"{package.name}/{source.name}", source.read_text())
    return SHEBANG + buffer.getvalue()


def _add(archive: zipfile.ZipFile, name: str, content: str) -> None:
    entry = zipfile.ZipInfo(name, _EPOCH)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = 0o644 << 16
    archive.writestr(entry, content)


def write(output: Path) -> bool:
    """Write the file; False when it was there with these bytes already."""
    content = build(Path(__file__).parent)
    if output.exists() and output.read_bytes() == content:
        return False
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_bytes(content)
    output.chmod(0o755)
    return True
