"""Which ASGI application a release serves: the one that is set, or what is found in its source. Nothing of it is run.

It is looked for where the command `fastapi` looks: what pyproject.toml says, then the usual files, in them `app`,
`api` or another FastAPI object. Beyond that: below `src/`, functions that make the application, and files of other
names where only one of them has such an object.
"""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slipway.base import files
from slipway.base.errors import FailedError
from slipway.base.repository import MODULES
from slipway.base.settings import MODULE
from slipway.release import source
from slipway.release.work import Work
from slipway.slot import surroundings

_PREFERRED = ("app", "api")
FACTORIES = ("create_app", "get_app", "make_app")
_NOT_LOOKED_INTO = {"tests", "test", "docs", "examples", "example", "node_modules", "migrations", "alembic", "venv"}
_DEPTH = 4  # directories below the app's that files of any name are looked for in
_MOST_FILES, _MOST_BYTES = 2000, 2**20
_MAKES = re.compile(r"(create|make|build|get|init|new|setup|start).*|.*app.*", re.IGNORECASE)


@dataclass
class Names:
    """What a file binds at its top: for each name what it is, `made` with "?" where only a run would tell."""

    kinds: dict[str, str] = field(default_factory=dict)  # fastapi, factory, made, imported, module, other
    is_open: bool = False  # there may be more names than one can see

    def picked(self, *, surely: bool) -> str:
        """The name of the application; "" without one. `surely`: only what is one by all that can be seen."""
        wanted = ("fastapi", "imported", "likely") if surely else ("made",)
        for name in _PREFERRED:
            if self.kinds.get(name) in wanted:
                return name
        if not surely:
            return ""
        return next((name for name in sorted(self.kinds) if self.kinds[name] == "fastapi"), "")

    def factory(self) -> str:
        found = [name for name, kind in self.kinds.items() if kind == "factory"]
        return next((name for name in FACTORIES if name in found), next(iter(found), ""))


def settle(work: Work, release: Path) -> str:
    """What a release that is being built serves: what is set, or what is found; FailedError where that is not there."""
    commit = f"Commit {work.sha[:12]}"
    if not work.module:
        return find(release, work.directory, source.project(release, work.directory), commit, work.app)
    if problem := fault(release, work.directory, work.module, commit, f"apps.{work.app}.module"):
        raise FailedError(problem)
    return work.module


def find(release: Path, directory: str, declared: Mapping[str, Any], commit: str, app: str) -> str:
    """The application in the source of a release, as `module:name`; FailedError when there is none, or several.

    `directory` is the app's in the release, and `declared` what its pyproject.toml says.
    """
    workdir = release / directory
    entrypoint = _entrypoint(declared)
    if entrypoint:
        if problem := fault(release, directory, entrypoint, commit, "entrypoint of [tool.fastapi] in pyproject.toml"):
            raise FailedError(problem)
        return entrypoint
    there = [(path, names) for path in _usual(workdir) if (names := read(workdir / path, release)) is not None]
    for surely in (True, False):
        for path, names in there:
            if name := names.picked(surely=surely):
                return f"{dotted(workdir, path, release)}:{name}"
    others = _others(workdir, release)
    if len(others) == 1:
        return others[0]
    made = [f"{dotted(workdir, path, release)}:{name}" for path, names in there if (name := names.factory())]
    made = made or ([] if others else _factories(workdir, release))
    if made and not others and (there or len(made) == 1):
        return made[0]
    if others:
        raise FailedError(
            f"{commit} has several applications ({', '.join(others[:8])}). Set apps.{app}.module to the one that is "
            "served."
        )
    raise FailedError(
        f"{commit} has no FastAPI application that is found in {_place(directory)}: there is none in "
        f"{', '.join(MODULES)}, and none elsewhere. Set apps.{app}.module, such as package.module:app, "
        f"or apps.{app}.directory."
    )


def fault(release: Path, directory: str, module: str, commit: str, setting: str) -> str:
    """Why an application that is set is none of the source of a release or of its packages; "" when it is one."""
    file, _, called = module.partition(":")
    name = called.partition("(")[0]
    path = _file(release, directory, file)
    if path is None:
        names = _suggestions(release, directory)
        there = f" There is {', '.join(names)}." if names else ""
        return f"{setting} is {module}, but {commit} has no {file.replace('.', '/')}.py in {_place(directory)}.{there}"
    found = read(path, release) if path.suffix == ".py" else None
    if found is None or found.is_open or name in found.kinds:
        return ""
    likely = [other for other, kind in found.kinds.items() if kind in ("fastapi", "factory", "likely", "made")]
    there = f" It has {', '.join(likely[:8])}." if likely else ""
    return f"{setting} is {module}, but {file} of {commit} has no {name}.{there}"


def _place(directory: str) -> str:
    return directory or "its top directory"


def _entrypoint(declared: Mapping[str, Any]) -> str:
    tool = declared.get("tool")
    fastapi = tool.get("fastapi") if isinstance(tool, dict) else None
    entrypoint = fastapi.get("entrypoint") if isinstance(fastapi, dict) else None
    return entrypoint if isinstance(entrypoint, str) and MODULE.fullmatch(entrypoint) else ""


def _usual(workdir: Path) -> list[str]:
    """The usual files that are there, in the order in which they count."""
    below = [f"{surroundings.SRC}/{path}" for path in MODULES]
    return [path for path in (*MODULES, *below) if (workdir / path).is_file()]


def _others(workdir: Path, release: Path) -> list[str]:
    """The FastAPI objects in files of other names."""
    found = []
    for path in _python_files(workdir):
        names = read(workdir / path, release)
        if names is not None and "fastapi" in names.kinds.values():
            found.append(f"{dotted(workdir, path, release)}:{names.picked(surely=True)}")
    return found


def _factories(workdir: Path, release: Path) -> list[str]:
    """The functions that make an application, in files of other names, by the names that they usually have."""
    found = []
    for path in _python_files(workdir):
        names = read(workdir / path, release)
        if names is not None and (name := names.factory()) in FACTORIES:
            found.append(f"{dotted(workdir, path, release)}:{name}")
    return found


def _suggestions(release: Path, directory: str) -> list[str]:
    workdir = release / directory
    there = [(path, names) for path in _usual(workdir) if (names := read(workdir / path, release)) is not None]
    usual = [f"{dotted(workdir, path, release)}:{name}" for path, names in there if (name := names.picked(surely=True))]
    return list(dict.fromkeys([*usual, *_others(workdir, release)]))[:8]


def _python_files(workdir: Path) -> Iterator[str]:
    count = 0
    for place, directories, names in os.walk(workdir):
        here = Path(place).relative_to(workdir)
        hidden = {name for name in directories if name.startswith((".", "_"))}
        kept = sorted(set(directories) - hidden - _NOT_LOOKED_INTO) if len(here.parts) < _DEPTH else []
        directories[:] = kept
        for name in sorted(names):
            if name.endswith(".py") and not name.startswith(("test_", "conftest")):
                count += 1
                if count > _MOST_FILES:
                    return
                yield (here / name).as_posix()


def _file(release: Path, directory: str, module: str) -> Path | None:
    """The file of a module: in the app's directory, in the packages, or wherever a member of a workspace has it."""
    tail = module.replace(".", "/")
    places = [release / directory, *(release / directory / name for name in surroundings.PLACES)]
    for place in (*places, *surroundings.packages(release)):
        for found in (place / f"{tail}.py", place / tail / "__init__.py", place / tail):
            if found.exists():
                return found
    for path in _python_files(release):
        if f"/{path}".endswith((f"/{tail}.py", f"/{tail}/__init__.py")):
            return release / path
    return None


def dotted(workdir: Path, path: str, release: Path) -> str:
    """The name under which a file is imported, with the directories that surroundings.py puts among its places.

    In `src/` and `app/` without an `__init__.py`, it is told by what the file itself imports.
    """
    parts = list(Path(path).with_suffix("").parts)
    if parts[-1] == "__init__":
        parts.pop()
    if len(parts) > 1 and parts[0] in surroundings.PLACES and not (workdir / parts[0] / "__init__.py").is_file():
        imported = {name.partition(".")[0] for name in _imported(workdir / path, release)}
        siblings = {item.stem for item in (workdir / parts[0]).iterdir()} if (workdir / parts[0]).is_dir() else set()
        beside = {name for name in imported & siblings if not surroundings.has(workdir, name)}
        if parts[0] not in imported and (beside or parts[0] == surroundings.SRC):
            parts = parts[1:]
    return ".".join(parts)


def _parsed(path: Path, release: Path) -> ast.Module | None:
    try:
        return ast.parse(files.read_bytes(path, inside=release, limit=_MOST_BYTES))
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _imported(path: Path, release: Path) -> Iterator[str]:
    tree = _parsed(path, release)
    for node in ast.walk(tree) if tree is not None else ():
        if isinstance(node, ast.Import):
            yield from (item.name for item in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


def read(path: Path, release: Path) -> Names | None:
    """What a file binds at its top; None when it cannot be read."""
    tree = _parsed(path, release)
    if tree is None:
        return None
    names = Names()
    aliases = {"FastAPI"}
    for node in _statements(tree.body):
        _bind(node, names, aliases, path)
    return names


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements that are run when a module is imported, those below conditions, too."""
    for node in body:
        yield node
        if isinstance(node, ast.If | ast.Try | ast.With | ast.For | ast.While):
            for name in ("body", "orelse", "finalbody"):
                yield from _statements(getattr(node, name, []))
            for handler in getattr(node, "handlers", []):
                yield from _statements(handler.body)


def _bind(node: ast.stmt, names: Names, aliases: set[str], path: Path) -> None:
    match node:
        case ast.Assign(targets=targets, value=value):
            for target in targets:
                for item in ast.walk(target):
                    if isinstance(item, ast.Name):
                        names.kinds[item.id] = _kind(value, aliases, names)
        case ast.AnnAssign(target=ast.Name(id=name), value=value) if value is not None:
            names.kinds[name] = _kind(value, aliases, names)
        case ast.Import(names=items):
            names.kinds.update({item.asname or item.name.partition(".")[0]: "module" for item in items})
        case ast.ImportFrom(module=module, names=items):
            for item in items:
                names.is_open |= item.name == "*"
                if (module or "").startswith("fastapi") and item.name == "FastAPI":
                    aliases.add(item.asname or item.name)
                is_module = _is_module(path, module or "", node.level, item.name)
                names.kinds[item.asname or item.name] = "module" if is_module else "imported"
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
            names.is_open |= name == "__getattr__"
            names.kinds[name] = "factory" if _is_factory(node, aliases) else "other"
        case ast.ClassDef(name=name, bases=bases):
            names.kinds[name] = "other"
            if any(isinstance(base, ast.Name) and base.id in aliases for base in bases):
                aliases.add(name)


def _kind(value: ast.expr, aliases: set[str], known: Names | None = None) -> str:
    if not isinstance(value, ast.Call):
        return "other"
    called = value.func
    name = called.id if isinstance(called, ast.Name) else called.attr if isinstance(called, ast.Attribute) else ""
    if name in aliases or (known is not None and isinstance(called, ast.Name) and known.kinds.get(name) == "factory"):
        return "fastapi"
    return "likely" if _MAKES.fullmatch(name) else "made"


def _is_factory(node: ast.stmt, aliases: set[str]) -> bool:
    """Whether a function makes an application and needs to be told nothing for it."""
    if not isinstance(node, ast.FunctionDef):
        return False
    given = node.args
    required = len(given.posonlyargs) + len(given.args) - len(given.defaults)
    if required > 0 or any(default is None for default in given.kw_defaults):
        return False
    if isinstance(node.returns, ast.Name) and node.returns.id in aliases:
        return True
    makes = any(isinstance(item, ast.Call) and _kind(item, aliases) == "fastapi" for item in ast.walk(node))
    return makes and any(isinstance(item, ast.Return) and item.value is not None for item in ast.walk(node))


def _is_module(path: Path, module: str, level: int, name: str) -> bool:
    """Whether `from module import name` gets a module of the source."""
    tail = Path(*module.split("."), name) if module else Path(name)
    if level:
        return surroundings.has(path.parents[level - 1] / tail.parent, tail.name)
    return any(surroundings.has(parent / tail.parent, tail.name) for parent in list(path.parents)[: _DEPTH + 1])
