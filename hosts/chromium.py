"""Chromium, for tests that look at the app's page as people see it. `products` installs it."""

from __future__ import annotations

import shutil
from pathlib import Path


def program() -> Path | None:
    """The browser's program; None when there is none."""
    found = shutil.which("chromium")
    return Path(found) if found else None
