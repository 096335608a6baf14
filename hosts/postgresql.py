"""PostgreSQL's programs, for tests that start a server of their own. `products` installs them."""

from __future__ import annotations

from pathlib import Path


def programs() -> Path | None:
    """The directory of the newest installed server's programs, as Debian lays them out; None when there is none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found else None
