"""Chromium, for tests that look at the app's page as people see it: finds Debian's, or installs it."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from hosts.container_runtime import HostError, install


def program() -> Path | None:
    """The browser's program; None when there is none."""
    found = shutil.which("chromium")
    return Path(found) if found else None


if __name__ == "__main__":
    try:
        if program() is None:
            install("chromium", "fonts-inter")  # the font that the page asks for first
    except HostError as error:
        sys.exit(str(error))
