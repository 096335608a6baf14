"""A list of packages, each of them pinned: what every kind of lock file but uv's own becomes before uv installs it.

The rules are those of `lockfile`, which is for uv's own: an archive has a hash, and comes over a connection on which
nobody can change it; what comes from git is named by the hash of a commit; what is in the repository is in the release.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from slipway.base.errors import FailedError
from slipway.release.markers import normal

HASH = re.compile(r"sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128}")
COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9.!+_-]*")
_BREAK = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]")
ARCHIVES = (".whl", ".tar.gz", ".zip")  # ends of the names of files that are packages
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Pin:
    """One package: of a version from an index, at a `url` (of an archive, or git's with a commit), or at a `path`.

    `path` is from the top of the release. `files` are the names of its archives, where the lock file has them.
    """

    name: str
    version: str = ""
    hashes: tuple[str, ...] = ()
    url: str = ""
    commit: str = ""
    subdirectory: str = ""
    path: str = ""
    marker: str = ""
    files: tuple[str, ...] = ()

    @property
    def is_git(self) -> bool:
        return bool(self.commit) or self.url.startswith("git+")


@dataclass(frozen=True)
class Plan:
    """What a release installs: its packages, the indexes that they are from, and what the lock says of Python.

    `indexes` have a name ("" where the lock file has none) and an address; the first is asked in the place of PyPI if
    `instead`. `loose` is the first thing that is not pinned; "" if all is.
    """

    pins: Sequence[Pin] = ()
    indexes: Sequence[tuple[str, str]] = ()
    instead: bool = False
    python: str = ""  # versions of Python that the lock allows
    loose: str = ""
    files: Sequence[str] = field(default=())  # that were read, from the top of the release


def check(plan: Plan, lock: str, cure: str) -> None:
    """FailedError, in a sentence, for the first pin that is not to be installed; `cure` is what makes the lock anew."""
    for pin in plan.pins:
        if problem := _problem(pin, cure):
            raise FailedError(f"{lock} is refused: {problem}")
    for _, url in plan.indexes:
        if not is_safe(url):
            raise FailedError(
                f"{lock} is refused: its index {urlsplit(url).hostname or 'of this host'} is asked over "
                f"{urlsplit(url).scheme or 'a path'}, where others can change what is sent. Use https."
            )


def _problem(pin: Pin, cure: str) -> str:
    if _BREAK.search("".join((pin.name, pin.version, pin.url, pin.subdirectory, pin.path, pin.marker))):
        # In the list for uv it would begin a line of its own, perhaps one with another index.
        return (
            f"what it says of {pin.name.split()[0] if pin.name.split() else 'a package'} has a line break in it. {cure}"
        )
    if pin.name and not _NAME.fullmatch(pin.name):
        return "it names a package in a way that no index knows."
    if pin.path:
        return "" if is_inside(pin.path) else f"{pin.name or pin.path} is outside of the repository. Move it inside."
    if pin.is_git:
        scheme = urlsplit(pin.url.removeprefix("git+")).scheme
        if scheme not in ("https", "ssh"):
            return f"{pin.name} comes from git over {scheme or 'a path'}, where others can change what is sent."
        if not COMMIT.fullmatch(pin.commit):
            return f"{pin.name} comes from git without the hash of its commit. {cure}"
        return ""
    if pin.url and not is_safe(pin.url):
        return f"{pin.name} comes over {urlsplit(pin.url).scheme}, where others can change what is sent. Use https."
    if not pin.url and not _VERSION.fullmatch(pin.version):
        return f"{pin.name} has no version. {cure}"
    if not pin.hashes or not all(HASH.fullmatch(item) for item in pin.hashes):
        return f"{pin.name} has no SHA-256 hash, so anything could be installed in its place. {cure}"
    return ""


def is_safe(url: str) -> bool:
    """Whether nobody on the way can change what comes from there."""
    parts = urlsplit(url)
    return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK)


def is_inside(place: str) -> bool:
    """Whether a path leads to something in the repository."""
    path = posixpath.normpath(place)
    return not path.startswith(("/", "../")) and path != ".."


def render(plan: Plan, release: Path) -> str:
    """The pins as uv reads them: a file of requirements, in which each one stands for itself."""
    return "".join(f"{_line(pin, release)}\n" for pin in plan.pins)


def _line(pin: Pin, release: Path) -> str:
    marker = f" ; {pin.marker}" if pin.marker else ""
    hashes = "".join(f" --hash={item}" for item in pin.hashes)
    if pin.path:
        place = (release / pin.path).as_uri()
        # A directory says itself what its project is called; Pipenv calls it by a part of a digest.
        return f"{place}{marker}" if _is_directory(pin) or not pin.name else f"{pin.name} @ {place}{marker}{hashes}"
    if pin.commit:
        folder = f"#subdirectory={pin.subdirectory}" if pin.subdirectory else ""
        return f"{pin.name} @ git+{pin.url.removeprefix('git+')}@{pin.commit}{folder}{marker}"
    if pin.url:
        return f"{pin.name} @ {pin.url}{marker}{hashes}"
    return f"{pin.name}=={pin.version}{marker}{hashes}"


def not_to_build(plan: Plan, allowed: Collection[str]) -> list[str]:
    """The names of packages that are installed from wheels alone: all but `allowed`, and those in the repository."""
    names = {normal(pin.name) for pin in plan.pins if pin.name and not _is_directory(pin)}
    return sorted(names - {normal(name) for name in allowed})


def _is_directory(pin: Pin) -> bool:
    return bool(pin.path) and not pin.path.endswith(ARCHIVES)
