"""Chromium, for tests of the app's page in a browser. `products` installs it."""

from __future__ import annotations

import shutil
from pathlib import Path


def program() -> Path | None:
    """The path of the browser; None if it is not installed."""
    found = shutil.which("chromium")
    return Path(found) if found else None
