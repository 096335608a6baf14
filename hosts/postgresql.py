"""PostgreSQL's programs, for tests that start a server of their own: finds them, or installs them."""

from __future__ import annotations

import sys
from pathlib import Path

from hosts.container_runtime import HostError, install


def programs() -> Path | None:
    """The directory of the newest installed server's programs, as Debian lays them out; None when there is none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found else None


if __name__ == "__main__":
    try:
        if programs() is None:
            install("postgresql")
    except HostError as error:
        sys.exit(str(error))
