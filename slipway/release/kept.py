"""What an app writes and keeps (`data`): each release has links to it, made when root has taken the release over.

What is kept is below a directory of the app's user, who can put any link there. So root only writes the links, in a
release that is its own, and all that is done in the data directory is done by the app's user (see `keep`).
"""

from __future__ import annotations

import json
import os
import pkgutil
import pwd
import shutil
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from slipway.base import confined, process
from slipway.base.errors import FailedError
from slipway.base.settings import Settings
from slipway.release import store

_PATIENCE = 600.0  # seconds to copy what a repository has


@dataclass(frozen=True)
class _Place:
    """One path: its name in the data directory, what it is there, and what of the release it begins with ("": none)."""

    name: str
    is_directory: bool
    source: str


def link(settings: Settings, release: Path) -> None:
    """Keep what a new release has at the paths of `data`, unless something is kept there, and link to that."""
    if not settings.data:
        return
    places = [_place(settings, release, path) for path in settings.data]
    _keep(settings, places)
    for place in places:
        here = _here(settings, release, place.name)
        if here.is_dir() and not here.is_symlink():
            shutil.rmtree(here)
        else:
            here.unlink(missing_ok=True)
        here.parent.mkdir(parents=True, exist_ok=True)
        here.symlink_to(settings.kept / place.name)


def restore(settings: Settings) -> None:
    """Make directories anew that somebody has removed: the releases that are here have links to them."""
    places = [
        _Place(path.rstrip("/"), is_directory=path.endswith("/") or not Path(path).suffix, source="")
        for path in settings.data
        if not os.path.lexists(settings.kept / path.rstrip("/"))
    ]
    if places:
        _keep(settings, places)


def misfit(settings: Settings, release: Path, linked: list[str]) -> str:
    """Why the links of a release are not those that the settings want; "" if they are. `linked`: as it was built."""
    names = [path.rstrip("/") for path in settings.data]
    if names != [path.rstrip("/") for path in linked]:
        return "it was built with other paths of `data`"
    for name in names:
        here = settings.workdir(release) / name
        if not here.is_symlink() or here.readlink() != settings.kept / name:
            return f"its {name} is no link to what is kept"
    return ""


def _place(settings: Settings, release: Path, path: str) -> _Place:
    name = path.rstrip("/")
    here = _here(settings, release, name)
    if here.exists():
        if path.endswith("/") and not here.is_dir():
            raise FailedError(
                f"apps.{settings.app}.data has '{path}', but the release has a file there. Write it without '/'."
            )
        if code := _code(here):
            raise FailedError(
                f"apps.{settings.app}.data has '{path}', but the release has code there ({code}). It would never be "
                "updated again, and the app could change what its migrations run. Name only what the app writes, such "
                "as uploads/."
            )
        return _Place(name, here.is_dir(), str(here))
    return _Place(name, path.endswith("/") or not here.suffix, "")


def _code(place: Path) -> str:
    """The first module of Python that is there, and is not empty; "" without one."""
    found = [place] if place.is_file() else sorted(place.rglob("*.py"))
    return next((path.name for path in found if path.suffix == ".py" and path.is_file() and path.stat().st_size), "")


def _here(settings: Settings, release: Path, name: str) -> Path:
    """The path in a release, whose directories may be links that lead to another place of it, and nowhere else."""
    wanted = settings.workdir(release) / name
    parent, top = Path(os.path.realpath(wanted.parent)), Path(os.path.realpath(release))
    if not parent.is_relative_to(top) or parent.is_relative_to(top / ".venv"):
        raise FailedError(
            f"apps.{settings.app}.data has '{name}', which is not below the source of the release: {wanted.parent} is "
            "a link. Take the path that it leads to."
        )
    return parent / wanted.name


def _keep(settings: Settings, places: list[_Place]) -> None:
    """Make and fill what is not there yet, as the app's user, who owns it."""
    shares = settings.migrates != "nothing" and settings.migration_user != settings.user
    request = {
        "top": str(settings.data_directory),
        "below": settings.kept.name,
        "owner": pwd.getpwnam(settings.user).pw_uid,
        "other": pwd.getpwnam(settings.migration_user).pw_uid if shares else None,
        "places": [asdict(place) for place in places],
    }
    unit = confined.Unit(
        f"slipway-{settings.app}_keep",
        f"Keeping the data of {settings.app}",
        settings.user,
        writable=(settings.data_directory,),
        # Without a namespace of users, in which the other user has no number that an access list could name.
        properties=(*store.alone(settings), "PrivateUsers=no"),
    )
    program = (pkgutil.get_data(__package__, "keep.py") or b"").decode()
    result = confined.run(
        unit,
        [sys.executable, "-ISXutf8", "-c", program],
        environment={},
        directory=Path("/"),
        given=json.dumps(request),
        timeout=_PATIENCE,
    )
    if result.returncode != 0:
        said = process.tail(result.printed)
        reason = said.splitlines()[-1] if said else "it ended without a word"
        raise FailedError(f"What apps.{settings.app}.data names cannot be kept: {reason}")
