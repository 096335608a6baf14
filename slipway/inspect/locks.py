"""What is installed: the lock file, the packages of it that the app needs, and the extras and groups that it wants."""

from __future__ import annotations

import re
from typing import Any

from slipway.base import repository
from slipway.base.repository import LOCKS
from slipway.inspect.facts import Facts
from slipway.inspect.proposal import Proposal
from slipway.inspect.tree import MAX_LOCK_BYTES, joined, parent

_PINS = {
    "requirements.txt": "uv pip compile {name} --universal --generate-hashes -o requirements.lock",
    "pyproject.toml": "uv lock",
}


def propose(facts: Facts, proposal: Proposal) -> None:
    """Find the lock, and propose its line where Slipway would find another one, or none."""
    name = _found(facts)
    other = "" if name else _elsewhere(facts)
    facts.lock = name or other
    if other:
        proposal.say("lock", _path(facts, other), f"{other} is what pins")
    base = facts.lock.rpartition("/")[2]
    project = _project(facts)
    if not facts.lock:
        unread = _unread(facts)
        if project:
            facts.dependencies = _declared(facts.tree.toml(project))
            proposal.say("allow_unpinned", True, f"{project} has no lock beside it")
            proposal.warn(unread or f"Nothing pins what is installed: `{_PINS['pyproject.toml']}` does it.")
        else:
            proposal.warn(
                unread
                or "No lock file, requirements.txt or pyproject.toml was found: Slipway cannot know what to install."
            )
        return
    _read(facts, base, project)
    if (base.endswith(".txt") or base == "requirements.lock") and not _hashed(facts):
        proposal.say("allow_unpinned", True, f"{facts.lock} has no hashes")
        proposal.warn(f"{facts.lock} pins no hashes: `{_PINS['requirements.txt'].format(name=base)}` does it.")
    _choices(facts, proposal)


def _unread(facts: Facts) -> str:
    path = _nearest(facts, tuple(repository.UNREAD))
    return repository.unread(path) if path else ""


def _found(facts: Facts) -> str:
    return _nearest(facts, LOCKS)


def _nearest(facts: Facts, names: tuple[str, ...]) -> str:
    folder = facts.app.directory
    while True:
        for name in names:
            path = joined(folder, name) or name
            if facts.tree.has(path):
                return path
        if not folder:
            return ""
        folder = parent(folder)


def _elsewhere(facts: Facts) -> str:
    """A file of requirements of another name or place: one for production rather than others."""
    names = [
        name
        for name in facts.tree.files
        if re.search(r"(^|/)(requirements[\w.-]*|requirements/[\w.-]+)\.(txt|lock)$", name)
    ]
    names = [name for name in names if not re.search(r"dev|test|lint|docs?\b|ci\b", name.rpartition("requirements")[2])]
    rank = ("prod", "base", "main", "requirements.txt", "common")
    return min(
        names,
        key=lambda name: (
            not facts.near(name),
            next((i for i, word in enumerate(rank) if word in name), 9),
            name.count("/"),
        ),
        default="",
    )


def _path(facts: Facts, name: str) -> str:
    inside = facts.here(name)
    return inside if inside is not None else "../" * len(facts.app.directory.split("/")) + name


def _project(facts: Facts) -> str:
    return _nearest(facts, (repository.PROJECT,))


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _requirement(text: str) -> tuple[str, str]:
    found = re.match(r"^\s*([A-Za-z0-9][\w.-]*)\s*(?:\[[^\]]*\])?\s*(?:===?\s*([\w.+!-]+))?", text)
    return (_normal(found[1]), found[2] or "") if found else ("", "")


def _declared(content: dict[str, Any]) -> dict[str, str]:
    project, poetry = content.get("project") or {}, (content.get("tool") or {}).get("poetry") or {}
    found = dict(_requirement(str(one)) for one in project.get("dependencies") or [])
    found.update({_normal(name): "" for name in poetry.get("dependencies") or {} if name != "python"})
    return {name: version for name, version in found.items() if name}


def _read(facts: Facts, base: str, project: str) -> None:
    tree, name = facts.tree, facts.lock
    if base == "Pipfile.lock":
        default = tree.json(name, MAX_LOCK_BYTES).get("default")
        packages = default if isinstance(default, dict) else {}
        facts.dependencies = {
            _normal(one): str((item or {}).get("version", "")).lstrip("=") for one, item in packages.items()
        }
    elif base in ("uv.lock", "poetry.lock", "pylock.toml"):
        content = tree.toml(name, MAX_LOCK_BYTES)
        items = [
            one
            for one in content.get("package", content.get("packages", []))
            if isinstance(one, dict) and "name" in one
        ]
        files = (content.get("metadata") or {}).get("files") or {}
        known = {_normal(str(one["name"])): one for one in items if one.get("category", "main") == "main"}
        roots = _declared(tree.toml(project)) if project else {}
        wanted = _closure(known, list(roots)) if roots else set(known)
        for key in wanted & set(known):
            item = known[key]
            facts.dependencies[key] = str(item.get("version", ""))
            listed = item.get("wheels", []) + (item.get("files") or files.get(item["name"]) or [])
            listed += [item["sdist"]] if "sdist" in item else []
            names = [
                str(one.get("file") or one.get("name") or one.get("url", "")) for one in listed if isinstance(one, dict)
            ]
            facts.locked[key] = [one.rpartition("/")[2] for one in names]
    else:
        facts.dependencies = _requirements(facts, name)


def _requirements(facts: Facts, name: str, depth: int = 0) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in facts.tree.text(name, MAX_LOCK_BYTES).splitlines():
        included = re.match(r"^\s*(?:-r|--requirement)[ =]*(\S+)", line)
        if included and depth < 4:
            inner = joined(parent(name), included[1])
            found.update(_requirements(facts, inner, depth + 1) if inner else {})
        elif not line.lstrip().startswith(("#", "-")):
            key, version = _requirement(line)
            if key:
                found[key] = version
    return found


def _hashed(facts: Facts) -> bool:
    text = facts.tree.text(facts.lock, MAX_LOCK_BYTES)
    return "--hash=" in text and text.count("--hash=") >= len(facts.dependencies)


def _closure(known: dict[str, Any], roots: list[str]) -> set[str]:
    seen: set[str] = set()
    waiting = list(roots)
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        item = known.get(name) or {}
        needed = item.get("dependencies") or []
        names = (
            list(needed)
            if isinstance(needed, dict)
            else [str(one.get("name", "")) for one in needed if isinstance(one, dict)]
        )
        optional = item.get("optional-dependencies") or {}  # those of packages that are asked for are not told apart
        for extra in optional.values() if isinstance(optional, dict) else ():
            names += [str(one.get("name", "")) for one in extra if isinstance(one, dict)]
        waiting += [_normal(one) for one in names if one]
    return seen


def _choices(facts: Facts, proposal: Proposal) -> None:
    """Extras and groups, from the line of the image that installs."""
    for image in facts.images:
        for run in image.runs:
            installs = re.search(r"(uv sync|uv export|poetry install|poetry export|pip install)[^&;|]*", run)
            if not installs:
                continue
            words = installs[0].replace("=", " ").split()
            for index, word in enumerate(words[:-1]):
                values = [
                    one for one in re.split(r"[,\s]", words[index + 1].strip("\"'")) if re.fullmatch(r"[\w-]+", one)
                ]
                values = [one for one in values if not re.search(r"dev|test|lint|docs", one)]
                if values and word in ("--extra", "--extras", "-E"):
                    proposal.say("extras", values, f"{image.name} installs them")
                elif values and word in ("--group", "--with", "--only-group") and word != "--only-group":
                    proposal.say("groups", values, f"{image.name} installs them")
            extra = re.search(r"\.\[([\w,\s-]+)\]", installs[0])
            if extra:
                proposal.say("extras", [one.strip() for one in extra[1].split(",")], f"{image.name} installs them")
