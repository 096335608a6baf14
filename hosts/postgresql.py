"""PostgreSQL's programs, for tests that start their own server. `products` installs them."""

from __future__ import annotations

from pathlib import Path


def programs() -> Path | None:
    """The directory with the programs of the newest installed server (Debian's layout); None if there is none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found else None
