"""What uv.lock may make a build install: files with their hashes, from places that nobody on the way can change.

Of a package from an index only wheels are installed: building one runs its code, and code that it requires, which is
looked up at that moment. The projects in the repository itself are built. Any other package that has to be built is
named by the operator (`build_packages`), and then all that builds need has to be pinned, with hashes.

A dependency from git is pinned by the hash of its commit, which covers all of its content. So it is taken over https
and ssh without a hash of its own. As it is built, it has to be named as well.
"""

from __future__ import annotations

import posixpath
import tomllib
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from slipway.base import files
from slipway.base.errors import FailedError
from slipway.release import locks, markers
from slipway.release.markers import normal
from slipway.release.pins import COMMIT, HASH, Pin, Plan, is_inside, is_safe

NAME = "uv.lock"
BUILD_REQUIREMENTS = "build-constraint-dependencies"  # where pyproject.toml pins what builds need

_LOCAL = ("virtual", "editable", "directory")

Package = Mapping[str, Any]


def options(
    release: Path,
    build_packages: Collection[str],
    directory: str = "",
    chosen: Collection[str] = (),
    *,
    unpinned_builds: bool = False,
) -> list[str]:
    """The options of `uv sync` for the app in a directory of a release, whose lock file is checked first.

    `chosen` are extras and groups. `unpinned_builds`: what builds need may have no hashes where the project has none.
    FailedError, in a sentence, when it cannot be read or has something that is not to be installed.
    """
    try:
        lock, packages, project = _read(release, directory)
        return _options(lock, packages, project, build_packages, chosen, unpinned_builds=unpinned_builds)
    except (OSError, ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
        known = isinstance(error, tomllib.TOMLDecodeError | OSError)
        why = (getattr(error, "strerror", None) or str(error)) if known else "it is not what uv writes"
        raise FailedError(f"{NAME} cannot be read ({why}). Type `uv lock`, and commit it.") from None


def listing(release: Path, directory: str, chosen: Collection[str]) -> Callable[[Mapping[str, str]], Plan]:
    """What the lock file, which `options` has checked, would install for a Python, to be compared with it."""
    lock, packages, project = _read(release, directory)

    def read(environment: Mapping[str, str]) -> Plan:
        found = [item for item in _installed(packages, project, chosen, environment) if not _is_local(item)]
        pins = [
            Pin(str(item["name"]), str(item.get("version", "")), files=tuple(_names(item)))
            for item in found
            if "git" not in item.get("source", {})
        ]
        return Plan(pins=pins, python=str(lock.get("requires-python", "")))

    return read


def _names(package: Package) -> Iterator[str]:
    """The names of the archives of a package."""
    for file in _files(package):
        yield (
            str(file.get("filename") or file.get("url") or file.get("path") or "").partition("#")[0].rpartition("/")[2]
        )


def _read(release: Path, directory: str) -> tuple[Mapping[str, Any], list[Package], str]:
    """The lock file, its packages, and the directory of the project that is installed."""
    found, project = (find(directory, lambda path: (release / path).is_file()) for find in (locks.find, locks.project))
    lock = tomllib.loads(files.read_text(release / (found or NAME), inside=release))
    packages = [_from_top(package, posixpath.dirname(found)) for package in lock.get("package", [])]
    return lock, packages, posixpath.dirname(project) or "."


def _from_top(package: Package, place: str) -> Package:
    """A package of the lock file in the directory `place`, with its paths as they are from the top of the release."""

    def moved(values: Mapping[str, Any], keys: Collection[str]) -> dict[str, Any]:
        local = {key: str(values[key]) for key in keys if key in values and "://" not in str(values[key])}
        return {**values, **{key: posixpath.normpath(posixpath.join(place, path)) for key, path in local.items()}}

    own = {"source": moved(package.get("source", {}), (*_LOCAL, "path", "registry"))}
    return {**package, **own}


def _options(
    lock: Mapping[str, Any],
    packages: list[Package],
    project: str,
    build_packages: Collection[str],
    chosen: Collection[str],
    *,
    unpinned_builds: bool,
) -> list[str]:
    for package in _installed(packages, project, chosen):
        if problem := _problem(package):
            raise FailedError(f"{NAME} is refused: {problem}")
    allowed = {normal(name) for name in build_packages}
    # A project that has hashes for what its builds need is to have them for all of it.
    pinned = any(item.get("hashes") for item in lock.get("manifest", {}).get("build-constraints", []))
    has_to_be = pinned or (allowed and not unpinned_builds)
    hashes = ["--preview-features=build-dependency-hashes", "--require-build-hashes"] if has_to_be else []
    # One by one, as uv's --no-build is also for directories of the repository that are not of its workspace.
    names = {normal(package["name"]) for package in packages if not _is_local(package)}
    return [*(f"--no-build-package={name}" for name in sorted(names - allowed)), *hashes]


def _is_local(package: Package) -> bool:
    return any(kind in package.get("source", {}) for kind in _LOCAL)


def _installed(
    packages: list[Package],
    project: str,
    chosen: Collection[str] = (),
    environment: Mapping[str, str] | None = None,
) -> list[Package]:
    """The packages that the project in the directory `project` needs to run, with the `chosen` extras and groups.

    They are those for the Python that says `environment`, or for whatever system. Without such a project in the lock
    file it is all of them. What only its developers need is not installed, and so it is of no interest where that comes
    from.
    """
    roots = [package for package in packages if _is_local(package) and project in package["source"].values()]
    if not roots:
        return packages
    by_name: dict[str, list[Package]] = {}
    for package in packages:
        by_name.setdefault(package.get("name", ""), []).append(package)
    waiting = [(part, package) for package in roots for part in ("", *map(normal, chosen))]
    seen: dict[int, Package] = {}
    extras: set[tuple[str, int]] = set()
    while waiting:
        extra, package = waiting.pop()
        if (extra, id(package)) in extras:
            continue
        extras.add((extra, id(package)))
        seen[id(package)] = package
        for item in _needed(package, extra, with_groups=package in roots):
            if environment is not None and not markers.holds(str(item.get("marker", "")), environment, chosen):
                continue
            for found in by_name.get(item["name"], []):
                if item.get("version", found.get("version")) == found.get("version"):
                    waiting += [(name, found) for name in ("", *item.get("extra", []))]
    return list(seen.values())


def _needed(package: Package, extra: str, *, with_groups: bool) -> Iterator[Mapping[str, Any]]:
    """What a package needs; with the name of an extra, or of a group of the project: what that adds."""
    if not extra:
        yield from package.get("dependencies", [])
        return
    yield from package.get("optional-dependencies", {}).get(extra, [])
    if with_groups:
        yield from package.get("dev-dependencies", {}).get(extra, [])


# One package


def _problem(package: Package) -> str:
    """Why a package is not to be installed, as a sentence; "" when it is."""
    name, source = str(package.get("name")), package.get("source", {})
    if _is_local(package):
        place = str(next(source[kind] for kind in _LOCAL if kind in source))
        return "" if is_inside(place) else f"{name} is in {place}, which is outside of the repository. Move it inside."
    if "git" in source:
        return _git_problem(name, str(source["git"]))
    if not {"registry", "url", "path"} & set(source):
        return f"{name} is from a source that Slipway does not know. Depend on it from an index, a URL or git."
    return _place_problem(name, source) or next(
        filter(None, (_file_problem(name, item) for item in _files(package))), ""
    )


def _place_problem(name: str, source: Mapping[str, Any]) -> str:
    place = str(source.get("registry") or source.get("url") or source.get("path"))
    if "path" in source or "://" not in place:
        return "" if is_inside(place) else f"{name} is in {place}, which is outside of the repository. Move it inside."
    return _url_problem(name, place)


def _url_problem(name: str, url: str) -> str:
    if is_safe(url):
        return ""
    parts = urlsplit(url)
    host = parts.hostname or "this host"
    return (
        f"{name} comes from {host} over {parts.scheme}, where others can change what is sent. Use https in "
        f"pyproject.toml, type `uv lock`, and commit {NAME}."
    )


def _git_problem(name: str, url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("https", "ssh"):
        return (
            f"{name} comes from git over {parts.scheme or 'a path'}, where others can change what is sent. "
            f"Use https or ssh in pyproject.toml, type `uv lock`, and commit {NAME}."
        )
    if not COMMIT.fullmatch(parts.fragment):
        return f"{name} comes from git without the hash of its commit. Type `uv lock`, and commit {NAME}."
    return ""


def _files(package: Package) -> Iterator[Mapping[str, Any]]:
    """The archives that a package may be installed from."""
    found = [*package.get("wheels", []), *([package["sdist"]] if "sdist" in package else [])]
    yield from found or [{}]  # without any there is no hash


def _file_problem(name: str, file: Mapping[str, Any]) -> str:
    if not HASH.fullmatch(str(file.get("hash", ""))):
        return (
            f"{name} has no SHA-256 hash, so anything could be installed in its place. "
            f"Type `uv lock` with an index that gives hashes, and commit {NAME}."
        )
    url = str(file.get("url", ""))
    if "://" in url:
        return _url_problem(name, url)
    place = url or str(file.get("path", ""))
    return "" if is_inside(place) else f"{name} is in {place}, which is outside of the repository. Move it inside."
