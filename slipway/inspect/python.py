"""Which Python: what the repository says, held against what the lock's wheels are for."""

from __future__ import annotations

import re

from slipway.base import supported
from slipway.inspect.facts import Facts
from slipway.inspect.proposal import Proposal
from slipway.inspect.tree import git, joined, parent

KNOWN = tuple((3, minor) for minor in range(8, 15))
HOST = (3, 13)  # Debian 13; 12 has 3.11
# The newest Python that most packages had wheels for in a year: for locks that do not name their files.
_OF_YEAR = {2018: 8, 2019: 8, 2020: 8, 2021: 9, 2022: 10, 2023: 11, 2024: 12, 2025: 13}
# The year in which FastAPI had a version of these minor numbers: packages that are pinned beside one are of that time.
_FASTAPI = ((45, 2019), (63, 2020), (70, 2021), (88, 2022), (108, 2023))

Version = tuple[int, int]


def propose(facts: Facts, proposal: Proposal) -> None:
    limits = _limits(facts)
    fitting = [one for one in KNOWN if all(allows(text, one) for text, _ in limits)]
    wheels = {one: blocker for one in KNOWN if (blocker := without_wheel(facts.locked, one))}
    said, origin = _said(facts)
    usable = [one for one in fitting if one not in wheels]
    if said is not None:
        chosen, reason = said, origin
        modern = [one for one in usable if one >= supported.PYTHON]
        if said in wheels and modern:
            chosen = _nearest(said, modern)
            reason = f"{origin} says {_name(said)}, for which {wheels[said]} has no wheel in {facts.lock}"
        elif said not in fitting and fitting:
            chosen = _nearest(said, modern or fitting)
            reason = f"{origin} says {_name(said)}, which {limits[0][1]} does not allow"
        elif said in wheels:
            proposal.say("packages", ["gcc", "python3-dev"], f"{wheels[said]} has no wheel for {_name(said)}")
        if chosen < supported.PYTHON and supported.PYTHON in fitting:
            chosen, reason = (
                supported.PYTHON,
                f"{origin} says {_name(said)}, which is older than what Slipway serves with",
            )
    else:
        year = min(_year(facts), _changed(facts) or facts.year or 9999)
        bound = (3, _OF_YEAR.get(year, HOST[1])) if not facts.locked else HOST
        below = [one for one in usable or fitting or KNOWN if one <= max(bound, supported.PYTHON)]
        chosen = max(below) if below else min(usable or fitting or (HOST,))
        if chosen == HOST:
            return
        reason = (
            f"{wheels[HOST]} has no wheel for {_name(HOST)} in {facts.lock}" if HOST in wheels
            else f"{limits[0][1]}: {limits[0][0]}" if limits and HOST not in fitting
            else f"nothing says which; the packages are of {year}"
        )  # fmt: skip
    exact = next((found[1] for text, _ in limits if (found := re.fullmatch(r"\s*={0,3}\s*(3\.\d+\.\d+)\s*", text))), "")
    name = exact if _version(exact) == chosen else _name(chosen)
    proposal.say("python", name, reason if name != exact else f"{limits[0][1]} allows no other")
    if HOST in usable and facts.locked and limits:
        proposal.optional.add("python")  # the lock has wheels for the host's as well
    if chosen < supported.PYTHON:
        proposal.warn(
            f"Python {_name(chosen)} is older than what Slipway's server runs on "
            f"({supported.text(supported.PYTHON)}): try a newer one."
        )


def _year(facts: Facts) -> int:
    """The year of the FastAPI that is pinned; a late one where none is."""
    found = re.match(r"0\.(\d+)", facts.dependencies.get("fastapi", ""))
    return next((year for last, year in _FASTAPI if found and int(found[1]) <= last), 9999)


def _changed(facts: Facts) -> int:
    """The year in which the file of requirements was last changed, as nothing later is installed; 0 if unknown."""
    log = ("-c", "safe.directory=*", "log", "-1", "--format=%cd", "--date=format:%Y")
    date = (git(facts.tree.root, *log, "--", facts.lock) or "") if facts.lock else ""
    return int(date) if date.strip().isdigit() else 0


def _name(version: Version) -> str:
    return f"{version[0]}.{version[1]}"


def _version(text: str) -> Version | None:
    found = re.search(r"(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found and found[1] == "3" else None


def _nearest(version: Version, choices: list[Version]) -> Version:
    return min(choices, key=lambda one: (abs(one[1] - version[1]), -one[1]))


def _said(facts: Facts) -> tuple[Version | None, str]:
    """The one version that a file names: of the image, then of tools and platforms."""
    own = {one.dockerfile for one in facts.platforms.services if one.builds}
    images = sorted(facts.images, key=lambda one: (not facts.near(one.name), one.name not in own, one.name.count("/")))
    for image in images:
        if image.python and (found := _version(image.python)):
            return found, f"FROM python:{image.python} in {image.name}"
    text, origin = facts.platforms.python
    if found := _version(text):
        return found, f"PYTHON_VERSION in {origin}"
    for base in (".python-version", "runtime.txt", ".tool-versions"):
        folder = facts.app.directory
        while True:
            name = joined(folder, base) or base
            text = facts.tree.text(name)
            text = (re.search(r"^python (.*)$", text, re.MULTILINE) or [""])[0] if base == ".tool-versions" else text
            if found := _version(text):
                return found, name
            if not folder:
                break
            folder = parent(folder)
    for name in facts.tree.named("Pipfile"):
        requires = facts.tree.toml(name).get("requires") or {}
        if found := _version(str(requires.get("python_version") or requires.get("python_full_version") or "")):
            return found, name
    return None, ""


def _limits(facts: Facts) -> list[tuple[str, str]]:
    """What requires-python and its likes say, and where."""
    found = []
    folder = facts.app.directory
    while True:
        name = joined(folder, "pyproject.toml") or "pyproject.toml"
        content = facts.tree.toml(name)
        if text := (content.get("project") or {}).get("requires-python"):
            found.append((str(text), f"requires-python of {name}"))
        poetry = ((content.get("tool") or {}).get("poetry") or {}).get("dependencies") or {}
        if text := poetry.get("python"):
            found.append((str(text), f"python of {name}"))
        if not folder or found:
            return found
        folder = parent(folder)


def allows(text: str, version: Version) -> bool:
    """Whether a constraint, as pip or poetry write them, lets a minor version be."""
    return any(
        all(_allows(part.strip(), version) for part in one.split(",") if part.strip()) for one in text.split("||")
    )


def _allows(part: str, version: Version) -> bool:
    found = re.match(r"^(\^|~=|~|>=|<=|==|!=|<|>|=)?\s*v?(\d+)(?:\.(\d+|\*))?(\.\d+|\.\*)?", part)
    if not found or found[3] == "*":
        return True
    sign, minor = found[1] or "==", int(found[3] or 0)
    bound = (int(found[2]), minor)
    match sign:
        case "^":
            return bound <= version < (bound[0] + 1, 0)
        case ">=":
            return version >= bound
        case ">":
            return version > bound or (version == bound and bool(found[4]))
        case "<":
            return version < bound or (version == bound and bool(found[4]) and found[4] not in (".0", ".*"))
        case "<=":
            return version <= bound
        case "!=":
            return version != bound or bool(found[4] and found[4] != ".*")
        case "~=":
            return version == bound if found[4] else version >= bound
        case _:
            return version == bound or (found[3] is None and version[0] == bound[0])


def without_wheel(locked: dict[str, list[str]], version: Version) -> str:
    """A package that has wheels for other versions of Python on Linux and none for this one; empty if none."""
    for name, files in sorted(locked.items()):
        wheels = [one for one in files if one.endswith(".whl")]
        linux = [one for one in wheels if "linux" in one or one.endswith("-any.whl")]
        if linux and not any(_fits(one, version) for one in linux):
            return name
    return ""


def has_wheel(files: list[str], version: Version) -> bool:
    linux = [one for one in files if one.endswith(".whl") and ("linux" in one or one.endswith("-any.whl"))]
    return any(_fits(one, version) for one in linux)


def _fits(wheel: str, version: Version) -> bool:
    parts = wheel.removesuffix(".whl").split("-")
    if len(parts) < 5 or ("musllinux" in parts[-1] and "manylinux" not in parts[-1]):
        return False
    tags, abi = parts[-3].split("."), parts[-2]
    if any(re.fullmatch(r"py3|py3\d+", tag) and (tag == "py3" or int(tag[3:]) <= version[1]) for tag in tags):
        return True
    if "abi3" in abi.split("."):
        return any(tag.startswith("cp3") and int(tag[3:] or 0) <= version[1] for tag in tags)
    return f"cp3{version[1]}" in tags and not abi.endswith("t")
