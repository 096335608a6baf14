"""Where alembic is configured in a release: the directory in which it has to run."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from slipway.base import files
from slipway.base.errors import FailedError
from slipway.base.settings import Settings

FILE = "alembic.ini"
PROJECT = "pyproject.toml"
_TABLE = re.compile(r"^\s*\[\s*tool\s*\.\s*alembic\s*\]", re.MULTILINE)
_SKIPPED = ("node_modules", "site-packages", "__pycache__", "templates", "tests")  # what is there is somebody else's


def place(settings: Settings, release: Path, environment: Mapping[str, str]) -> Path:
    """The directory: the app's, or the only one below it that has a configuration where the app's has none.

    FailedError when several have one.
    """
    top = settings.workdir(release)
    if environment.get("ALEMBIC_CONFIG") or _is_configured(release, top):
        return top
    found = sorted(_below(release, top))
    if len(found) > 1:
        names = [str(path.relative_to(top)) for path in found]
        raise FailedError(
            f"The release has configurations of alembic in {' and in '.join(names)}. Say which one is the app's with "
            f"ALEMBIC_CONFIG: {names[0]}/{FILE} in apps.{settings.app}.env, or set migrate: false."
        )
    return found[0] if found else top


def _below(release: Path, top: Path) -> list[Path]:
    found = []
    for directory, names, _ in os.walk(top):
        names[:] = [name for name in names if not name.startswith(".") and name not in _SKIPPED]
        found += [path for name in names if _is_configured(release, path := Path(directory, name))]
    return found


def _is_configured(release: Path, directory: Path) -> bool:
    if (directory / FILE).is_file():
        return True
    try:
        text = files.read_text(directory / PROJECT, inside=release, errors="replace")
    except OSError:
        return False
    return _TABLE.search(text) is not None
