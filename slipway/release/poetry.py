"""poetry.lock as a list of pins: the packages that the project needs, with the groups and extras that were chosen.

Versions of the file before 2.1 do not say what a package is for, so that is found by what depends on what, for all.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from slipway.release import markers, specifiers
from slipway.release.markers import normal
from slipway.release.pins import Pin, Plan

_REQUIREMENT = re.compile(
    r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[([^\]]*)\])?\s*([^;@]*)(?:@\s*([^;]*))?(?:;(.*))?", re.DOTALL
)

_SCP = re.compile(r"^([\w.-]+@[\w.-]+):(?!//)")  # as git writes an address of ssh

Table = Mapping[str, Any]


@dataclass(frozen=True)
class Need:
    """That something depends on a package, of these versions, with these extras, where the marker holds."""

    name: str
    extras: tuple[str, ...] = ()
    constraint: str = "*"
    marker: str = ""
    python: str = "*"
    direct: str = ""  # where it is to be taken from, as a URL; "" is an index


def read(
    lock: Table,
    project: Table,
    place: str,
    environment: Mapping[str, str],
    extras: Collection[str] = (),
    groups: Collection[str] = (),
) -> Plan:
    """What Poetry would install of a lock file in the directory `place` for a Python that says `environment`.

    KeyError, TypeError, AttributeError or ValueError of a file that is not Poetry's.
    """
    packages: dict[str, list[Table]] = {}
    for package in lock.get("package", []):
        packages.setdefault(normal(package["name"]), []).append(package)
    metadata = lock.get("metadata", {})
    found: dict[int, Table] = {}
    done: set[tuple[int, str]] = set()
    waiting = list(_roots(project, extras, groups))
    while waiting:
        need = waiting.pop()
        if not _applies(need, environment, extras):
            continue
        for package in _chosen(packages.get(normal(need.name), []), need, environment):
            for extra in ("", *map(normal, need.extras)):
                if (id(package), extra) in done:
                    continue
                done.add((id(package), extra))
                found[id(package)] = package
                waiting += _needs_of(package, extra)
    pins = [_pin(package, metadata.get("files", {}), place) for package in found.values()]
    indexes = {str(source.get("reference", "")): str(source["url"]) for source in _sources(found.values(), "legacy")}
    return Plan(
        pins=sorted(pins, key=lambda pin: (pin.name, pin.version)),
        indexes=sorted(indexes.items()),
        python=str(metadata.get("python-versions", "")),
    )


def _sources(packages: Iterable[Table], kind: str) -> Iterator[Table]:
    for package in packages:
        if package.get("source", {}).get("type") == kind:
            yield package["source"]


def is_package(project: Table) -> bool:
    """Whether a project says of itself that it is a package, which Poetry would install."""
    tool = project.get("tool", {}).get("poetry", {})
    return "build-system" in project and tool.get("package-mode", True) is not False


# What the project needs


def _roots(project: Table, extras: Collection[str], groups: Collection[str]) -> Iterator[Need]:
    tool, declared = project.get("tool", {}).get("poetry", {}), project.get("project", {})
    wanted = {normal(extra) for extra in extras}
    for_extras = {
        normal(name) for extra, names in tool.get("extras", {}).items() if normal(extra) in wanted for name in names
    }
    for text in declared.get("dependencies", []):
        yield requirement(text)
    for extra, texts in declared.get("optional-dependencies", {}).items():
        if normal(extra) in wanted:
            yield from map(requirement, texts)
    for name, value in tool.get("dependencies", {}).items():
        yield from _needs(name, value, for_extras)
    for group in groups:
        of_group = tool.get("group", {}).get(group, {}).get("dependencies", {})
        if group == "dev":
            of_group = {**tool.get("dev-dependencies", {}), **of_group}
        for name, value in of_group.items():
            yield from _needs(name, value, {normal(name)})
        yield from map(requirement, _of_group(project.get("dependency-groups", {}), group))


def _of_group(groups: Table, name: str, above: tuple[str, ...] = ()) -> Iterator[str]:
    """The requirements of a group of PEP 735, also of those that it includes; ValueError where that is endless."""
    if normal(name) in above:
        raise ValueError(name)
    for item in next((items for key, items in groups.items() if normal(key) == normal(name)), []):
        if isinstance(item, str):
            yield item
        else:
            yield from _of_group(groups, str(item["include-group"]), (*above, normal(name)))


def needs_of_pyproject(project: Table) -> str:
    """Where a project says what it needs: in tables of "poetry", in "static" ones, or only in its "build"."""
    declared, tool = project.get("project", {}), project.get("tool", {})
    if "dependencies" in tool.get("poetry", {}):
        return "poetry"
    local = any("path" in item or "workspace" in item for item in _sources_of_uv(tool))
    return "build" if local or "project" not in project or "dependencies" in declared.get("dynamic", ()) else "static"


def _sources_of_uv(tool: Table) -> Iterator[Table]:
    for value in tool.get("uv", {}).get("sources", {}).values():
        yield from value if isinstance(value, list) else [value]


def texts(
    project: Table, extras: Collection[str] = (), groups: Collection[str] = (), place: str = "file:///"
) -> list[str]:
    """What a project needs, without any lock file, as requirements of PEP 508; `place` is the URL of its directory.

    What is named by where it is (in git, at a URL, in the repository) is taken from there, and never by its name from
    an index, where somebody else may have put a package of that name.
    """
    found = []
    for need in _roots(project, extras, groups):
        wanted = f"[{','.join(need.extras)}]" if need.extras else ""
        direct = need.direct if "://" in need.direct or not need.direct else f"{place.removesuffix('/')}/{need.direct}"
        limits = f" @ {direct}" if direct else specifiers.standard(need.constraint)
        found.append(f"{need.name}{wanted}{limits}{f' ; {need.marker}' if need.marker else ''}")
    return found


def requirement(text: str) -> Need:
    """A requirement of PEP 508 as a need."""
    match = _REQUIREMENT.fullmatch(text)
    if not match:
        raise ValueError(text)
    extras = tuple(part.strip() for part in (match[2] or "").split(",") if part.strip())
    constraint, direct, marker = match[3].strip(" ()\n"), match[4] or "", match[5] or ""
    return Need(match[1], extras, constraint or "*", marker.strip(), direct=direct.strip())


def _needs(name: str, value: Any, for_extras: Collection[str]) -> Iterator[Need]:
    """What a line of Poetry's tables says: a constraint, a table, or a list of them."""
    if normal(name) == "python":
        return
    for item in value if isinstance(value, list) else [value]:
        table = item if isinstance(item, dict) else {"version": str(item)}
        if table.get("optional") and normal(name) not in for_extras:
            continue
        marker = " and ".join(
            f"({part})"
            for part in (
                str(table.get("markers", "")),
                f'sys_platform == "{table["platform"]}"' if table.get("platform") else "",
            )
            if part
        )
        yield Need(
            name,
            tuple(table.get("extras", ())),
            str(table.get("version", "*")),
            marker,
            str(table.get("python", "*")),
            _source(table),
        )


def _source(table: Table) -> str:
    """Where a line of Poetry's tables takes a package from, as a URL, or as a path from the project's directory."""
    if "git" in table:
        point = next((f"@{table[key]}" for key in ("rev", "tag", "branch") if key in table), "")
        folder = f"#subdirectory={table['subdirectory']}" if "subdirectory" in table else ""
        address = _SCP.sub(r"ssh://\1/", str(table["git"]))
        return f"git+{address}{point}{folder}"
    return str(table.get("url") or table.get("path") or "")


# What a package needs


def _needs_of(package: Table, extra: str) -> Iterator[Need]:
    """What a package needs, or one of its extras adds: those are optional ones among its dependencies."""
    dependencies = package.get("dependencies", {})
    of_extra: set[str] = set()
    for name, texts in package.get("extras", {}).items():
        if extra and normal(name) == extra:
            for text in texts:
                # The form is `name (constraint) ; marker`, and older `name[extra] (constraint)`.
                need = requirement(re.sub(r"\(([^)]*)\)", r"\1", str(text).partition(";")[0]))
                of_extra.add(normal(need.name))
                if normal(need.name) not in {normal(key) for key in dependencies}:
                    yield need
    for name, value in dependencies.items():
        for item in value if isinstance(value, list) else [value]:
            table = item if isinstance(item, dict) else {"version": str(item)}
            optional = bool(table.get("optional"))
            if optional == bool(extra) and (not optional or normal(name) in of_extra):
                for need in _needs(name, {**table, "optional": False}, ()):
                    yield Need(need.name, need.extras, need.constraint, _without_extra(need.marker), need.python)


def _without_extra(marker: str) -> str:
    """A marker whose part about an extra is taken as held: that the extra is wanted is known otherwise."""
    return re.sub(r"extra\s*==\s*(\"[^\"]*\"|'[^']*')", 'os_name != ""', marker)


def _applies(need: Need, environment: Mapping[str, str], extras: Collection[str]) -> bool:
    python = environment["python_full_version"]
    return specifiers.allows(need.python, python) and markers.holds(need.marker, environment, extras)


def _chosen(packages: list[Table], need: Need, environment: Mapping[str, str]) -> list[Table]:
    """Those of the packages of a name that the lock file has for this Python, and for this need."""
    python = environment["python_full_version"]
    found = [item for item in packages if _is_for(item, environment)]
    if len(found) > 1:
        fitting = [item for item in found if specifiers.allows(str(item.get("python-versions", "*")), python)]
        found = fitting or found
    if len(found) > 1:
        found = [item for item in found if specifiers.allows(need.constraint, str(item["version"]))] or found
    return found[:1]


def _is_for(package: Table, environment: Mapping[str, str]) -> bool:
    said = package.get("markers", "")
    if isinstance(said, dict):  # by group
        said = said.get("main", "")
    return markers.holds(_without_extra(str(said)), environment)


# One package


def _pin(package: Table, files: Mapping[str, Any], place: str) -> Pin:
    name, source = str(package["name"]), package.get("source", {})
    listed = package.get("files") or files.get(name) or []
    hashes = tuple(sorted({str(item["hash"]) for item in listed}))
    names = tuple(str(item["file"]) for item in listed)
    kind, url = source.get("type", ""), str(source.get("url", ""))
    if kind == "git":
        commit = str(source.get("resolved_reference", ""))
        return Pin(name, url=url, commit=commit, subdirectory=str(source.get("subdirectory", "")))
    if kind in ("directory", "file"):
        path = posixpath.normpath(posixpath.join(place, url))
        return Pin(name, path=path, hashes=hashes if kind == "file" else ())
    if kind == "url":
        return Pin(name, url=url, hashes=hashes)
    return Pin(name, str(package["version"]), hashes, files=names)
