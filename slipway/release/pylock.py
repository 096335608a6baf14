"""pylock.toml (PEP 751) as a list of pins, with the extras and groups that were chosen."""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Mapping
from typing import Any

from slipway.release import markers
from slipway.release.pins import Pin, Plan

Table = Mapping[str, Any]


def read(
    lock: Table,
    place: str,
    environment: Mapping[str, str],
    extras: Collection[str] = (),
    groups: Collection[str] = (),
) -> Plan:
    """What the lock file in the directory `place` has for a Python that says `environment`.

    KeyError, TypeError, AttributeError or ValueError of a file that is none.
    """
    chosen = (*extras, *groups, *lock.get("default-groups", ()))
    wanted = [item for item in lock["packages"] if markers.holds(str(item.get("marker", "")), environment, chosen)]
    indexes = {str(item["index"]) for item in wanted if item.get("index")}
    pins = [_pin(item, place) for item in wanted]
    return Plan(pins=pins, indexes=[("", url) for url in sorted(indexes)], python=str(lock.get("requires-python", "")))


def _pin(item: Table, place: str) -> Pin:
    name = str(item["name"])
    if "vcs" in item:
        source = item["vcs"]
        kind, folder = str(source.get("type", "git")), str(source.get("subdirectory", ""))
        url = str(source.get("url", "")) if kind == "git" else f"{kind}:"
        return Pin(name, url=url, commit=str(source["commit-id"]), subdirectory=folder)
    if "directory" in item:
        return Pin(name, path=posixpath.normpath(posixpath.join(place, str(item["directory"]["path"]))))
    if "archive" in item:
        archive = item["archive"]
        if "url" in archive:
            return Pin(name, url=str(archive["url"]), hashes=_hashes(archive))
        return Pin(name, path=posixpath.normpath(posixpath.join(place, str(archive["path"]))), hashes=_hashes(archive))
    files = [*item.get("wheels", ()), *([item["sdist"]] if "sdist" in item else [])]
    names = tuple(str(file.get("name") or file.get("url") or file.get("path")).rpartition("/")[2] for file in files)
    hashes = tuple(sorted({one for file in files for one in _hashes(file)})) if all(map(_hashes, files)) else ()
    return Pin(name, str(item.get("version", "")), hashes, files=names)


def _hashes(file: Table) -> tuple[str, ...]:
    return tuple(f"{kind}:{value}" for kind, value in file.get("hashes", {}).items() if kind.startswith("sha"))
