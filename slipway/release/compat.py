"""Whether what a lock file pins can be installed for a Python: before anything is built, and which one would do."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from functools import cache

from slipway.release import markers, specifiers
from slipway.release.markers import normal
from slipway.release.pins import Pin, Plan

# Newest first: the first one that everything has a wheel for is named.
_CANDIDATES = ("3.14", "3.13", "3.12", "3.11", "3.10", "3.9", "3.8")
_WHEEL = re.compile(r"[^/]+?-[^-/]+(?:-\d[^-/]*)?-([^-/]+)-([^-/]+)-([^-/]+)\.whl")
_TAG = re.compile(r"(cp|py)(\d)(\d*)")

Listing = Callable[[Mapping[str, str]], Plan]


def problem(app: str, lock: str, listing: Listing, environment: Mapping[str, str], allowed: Collection[str]) -> str:
    """Why the packages of a lock file are not for the Python that says `environment`, and which would do; "" if none.

    `listing` is what would be installed for a Python. `allowed` are names of packages that may be built from source.
    """
    reason = _reason(lock, listing(environment), environment, allowed)
    if not reason:
        return ""
    for minor in _CANDIDATES:
        other = markers.of_version(environment, minor)
        if not _reason(lock, listing(other), other, allowed):
            return f'{reason}; set apps.{app}.python to "{minor}".'
    return f"{reason}, and none that all of it supports is known. Depend on a version that has wheels for one Python."


def _reason(lock: str, plan: Plan, environment: Mapping[str, str], allowed: Collection[str]) -> str:
    minor, full = environment["python_version"], environment["python_full_version"]
    # A version that may come out for a candidate later than its .0 is enough for what excludes early ones.
    fulls = (full, f"{minor}.99") if full.endswith(".0") else (full,)
    if plan.python and not any(specifiers.allows(plan.python, version) for version in fulls):
        return f"{lock} is for Python {plan.python}, and not for {minor}"
    names = {normal(name) for name in allowed}
    for pin in plan.pins:
        if normal(pin.name) not in names and not _has_wheel(pin, minor, environment["platform_machine"]):
            return f"{pin.name} {pin.version} has no wheel for Python {minor}"
    return ""


def _has_wheel(pin: Pin, minor: str, machine: str) -> bool:
    """Whether a package has a wheel for a Python, or no wheel at all: then another Python is no help."""
    wheels = [name for name in pin.files if name.endswith(".whl")]
    for_here = [name for name in wheels if any(_is_for(name, other, machine) for other in _CANDIDATES)]
    return not for_here or any(_is_for(name, minor, machine) for name in for_here)


@cache
def _is_for(wheel: str, minor: str, machine: str) -> bool:
    """Whether a wheel can be installed for a version of CPython on Linux."""
    match = _WHEEL.fullmatch(wheel.rpartition("/")[2])
    if not match:
        return True  # uv knows better
    pythons, abis, platforms = (part.split(".") for part in match.groups())
    if not any(
        item == "any" or ("linux" in item and "musl" not in item and item.endswith(machine)) for item in platforms
    ):
        return False
    number = int(minor.split(".")[1])
    return any(_runs(python, abis, number) for python in pythons)


def _runs(tag: str, abis: Collection[str], number: int) -> bool:
    match = _TAG.fullmatch(tag)
    if not match or match[2] != "3":
        return False
    least = int(match[3] or 0)
    if match[1] == "py" or "abi3" in abis:
        return least <= number
    if "none" in abis:
        return least <= number
    return least == number and f"cp3{number}" in abis
