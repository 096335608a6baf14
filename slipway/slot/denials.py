"""What the sandbox denied an app, as the app's log shows it, and the sentence with the way out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from slipway.base import sandbox
from slipway.base.settings import Settings


@dataclass(frozen=True)
class Denial:
    """Something that an app was not allowed to do: the error, and the sentence with the way out."""

    error: str
    remedy: str


# An error that says no more than that something is forbidden: the traceback before it shows what.
_ANY_ERROR = r"Operation not permitted|Address family not supported|MemoryError|\[Errno 13\] Permission denied$"
_FORBIDDEN = r"\[Errno 1\]|\[Errno 97\] Address family"  # errors that usually come from the sandbox
_READ_ONLY = r"Read-only file system(?:: '(?P<path>[^']*))?"
_IN_RELEASE = r"Permission denied: '(?P<path>(?!/)[^']+|/srv/[^']+)'|attempt to write a readonly database"
_SQLITE = r"unable to open database file"
_NO_DIRECTORY = r"Failed to set up mount namespacing: (?P<path>/\S+): No such file"
_LINE = 2000  # characters of a line of a log that are looked at: an app may write lines of any length
_TRACEBACK = 60  # lines before an error in which its call is looked for


def find(log: Sequence[str], settings: Settings) -> list[Denial]:
    """What the sandbox denied an app, as the lines of its log show, each thing once.

    What the app's `needs` allow already is not taken for a denial of the sandbox.
    """
    found: dict[str, Denial] = {}
    if "unconfined" in settings.needs:
        return []
    log = [line[:_LINE] for line in log]
    for number, line in enumerate(log):
        remedy = _remedy(log, number, settings)
        if remedy:
            found.setdefault(remedy, Denial(line.strip()[:160], remedy))
    return list(found.values())


def _remedy(log: Sequence[str], number: int, settings: Settings) -> str:
    app, data, line = settings.app, settings.data_directory, log[number]
    if match := re.search(_NO_DIRECTORY, line):
        return f"Run site.yml, which creates {match['path']}, or take it out of apps.{app}.writable_paths."
    if match := re.search(_READ_ONLY, line) or re.search(_IN_RELEASE, line) or re.search(_SQLITE, line):
        path = match.groupdict().get("path") or ""
        if path.startswith("/") and not path.startswith(("/srv/", "/home/", "/root/")):
            return (
                f"Only {data} is writable. Write there (variable STATE_DIRECTORY), or add the directory to "
                f"apps.{app}.writable_paths, run site.yml and deploy again."
            )
        if not path.startswith(("/home/", "/root/")):
            kept = _kept(path, settings) or ("app.db" if "database" in line else "uploads/")
            return (
                f"A release is never written to. Set apps.{app}.data: [{kept}], run site.yml and deploy again; or "
                f"write to the app's data directory {data}: it is in the variables STATE_DIRECTORY and HOME."
            )
    word = _word(log, number)
    if word == "network":
        outbound = settings.network == "outbound"
        return (
            ""
            if outbound
            else f"The sandbox denies it. Set apps.{app}.network: outbound, run site.yml and deploy again."
        )
    if word in settings.needs or (word == "network_interfaces" and "psutil" in settings.needs):
        return ""
    if word:
        return f"The sandbox denies it. Add {word} to apps.{app}.needs, run site.yml and deploy again."
    if re.search(_FORBIDDEN, line):
        return (
            f"Perhaps the sandbox denies it. If so, add what it needs to apps.{app}.needs: the words are in "
            "docs/settings.md."
        )
    return ""


def _kept(path: str, settings: Settings) -> str:
    """What `data` would have for a path that could not be written to: its directory, or the file at the top.

    "" if the path is not said.
    """
    in_release = re.sub(r"^/srv/[^/]+/(?:(?:live|slots/[^/]+)/release|releases/[^/]+)/", "", path)
    place = PurePosixPath(in_release.removeprefix(f"{settings.directory}/").removeprefix("./"))
    if place.is_absolute() or ".." in place.parts or not place.name:
        return ""
    if not place.suffix:
        return f"{place}/"
    return f"{place.parent}/" if place.parent.name else str(place)


def _word(log: Sequence[str], number: int) -> str:
    """The word that would have allowed what the error in a line of the log is about; "" if none is known."""
    known = {"network": sandbox.OUTBOUND, **sandbox.NEEDS}
    by_error = next((word for word, need in known.items() if re.search(need.errors, log[number])), "")
    if by_error or not re.search(_ANY_ERROR, log[number]):
        return by_error
    for line in reversed(log[max(0, number - _TRACEBACK) : number]):
        if line.startswith("Traceback"):
            break
        # The more particular words come later in the table, as `psutil` has functions of several kinds.
        if words := [word for word, need in known.items() if re.search(need.calls, line)]:
            return words[-1]
    return ""
