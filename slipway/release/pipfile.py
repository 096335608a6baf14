"""Pipfile.lock as a list of pins: its packages, with the categories that were chosen beside the default."""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Mapping
from string import Template
from typing import Any

from slipway.release import specifiers
from slipway.release.pins import Pin, Plan

Table = Mapping[str, Any]


def read(lock: Table, place: str, groups: Collection[str] = (), variables: Mapping[str, str] | None = None) -> Plan:
    """What Pipenv would install of a lock file in the directory `place`.

    `variables` are those that addresses of indexes may name. TypeError, KeyError or AttributeError of another file.
    """
    chosen = ["default", *({"dev": "develop"}.get(group, group) for group in groups)]
    pins = [_pin(name, item, place) for part in chosen for name, item in lock.get(part, {}).items()]
    unique = {pin.name: pin for pin in pins}
    sources = [
        (str(source.get("name", "")), Template(str(source["url"])).safe_substitute(variables or {}))
        for source in lock.get("_meta", {}).get("sources", [])
    ]
    requires = lock.get("_meta", {}).get("requires", {})
    python = str(requires.get("python_full_version") or requires.get("python_version") or "")
    return Plan(
        pins=sorted(unique.values(), key=lambda pin: pin.name),
        indexes=sources,
        instead=True,
        python=f"=={'.'.join(python.split('.')[:2])}.*" if specifiers.key(python) else "",
    )


def _pin(name: str, item: Table, place: str) -> Pin:
    marker, hashes = str(item.get("markers", "")), tuple(map(str, item.get("hashes", ())))
    if "git" in item:
        folder = str(item.get("subdirectory", ""))
        return Pin(name, url=str(item["git"]), commit=str(item.get("ref", "")), subdirectory=folder, marker=marker)
    if "path" in item or ("file" in item and "://" not in str(item["file"])):
        path = posixpath.normpath(posixpath.join(place, str(item.get("path") or item["file"])))
        return Pin(name, path=path, hashes=hashes, marker=marker)
    if "file" in item:
        return Pin(name, url=str(item["file"]), hashes=hashes, marker=marker)
    version = str(item.get("version", "")).removeprefix("==")
    return Pin(name, version, hashes, marker=marker)
