"""The alembic history of a release, read from its files: to start alembic for it takes a quarter of a second.

It is read only where the files alone say for sure what alembic would say. Whatever is unusual (a computed value, a
second directory of versions, labels, several heads, an import of something that is not there) is left to alembic.
"""

from __future__ import annotations

import ast
import configparser
import graphlib
import hashlib
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from slipway.base import files
from slipway.records import manifest
from slipway.records.manifest import Revision

# What a migration's file declares. The first two have to be there; alembic itself reads all but the last one.
_DECLARED = ("revision", "down_revision", "branch_labels", "depends_on", "oldest_compatible")
# Options of alembic.ini that change which files are migrations.
_OPTIONS_OF_LAYOUT = ("version_locations", "recursive_version_locations", "sourceless")
_REVISION = re.compile(r"[A-Za-z0-9_]+")
_SYMBOLIC = ("head", "heads", "base")
# With one of these a file can give a name another value than the one that it shows.
_INDIRECT = {"globals", "locals", "vars", "exec", "eval", "setattr", "delattr", "__dict__", "__import__"}


class _UnusualError(Exception):
    """Only alembic can tell."""


@dataclass(frozen=True)
class Seen:
    """What the files of a release alone say of its migrations.

    `setup`: the SHA-256 digest, in hex, of the files that set alembic up; "" if only alembic can tell which they are.
    `revisions` as `read` has them.
    """

    setup: str = ""
    revisions: list[Revision] | None = None


def look(release: Path, python: str, directory: str = "") -> Seen:
    """What the files of a release say. They are read in the unit of its build, as they could break a parser.

    `directory` is the app's, in the release.
    """
    return Seen(_setup(release, release / directory), read(release, python, directory))


def read(release: Path, python: str, directory: str = "") -> list[Revision] | None:
    """The revisions of a release with one head, oldest first, as alembic lists them; None if only it can tell.

    `python` is the version of the release's Python, which has to understand the files as this one does.
    """
    minor = "{}.{}".format(*sys.version_info)
    if not python.startswith(f"{minor}."):
        return None
    app = release / directory
    places = (app, release / f".venv/lib/python{minor}/site-packages")
    try:
        paths = _files(_directory(release, app))
        found = [_read_script(files.read_bytes(path, inside=release), places) for path in paths]
        scripts = {script.revision: script for script in found}
        if len(scripts) != len(found):
            return None  # two files of one revision
        return [scripts[name] for name in _in_order(scripts)]
    except (_UnusualError, OSError, ValueError, SyntaxError, RecursionError, MemoryError, configparser.Error):
        return None


def _setup(release: Path, app: Path) -> str:
    try:
        places = (app / "alembic.ini", _directory(release, app).parent / "env.py")
        contents = [files.read_bytes(path, inside=release) for path in places]
    except (_UnusualError, OSError, ValueError, configparser.Error):
        return ""
    return hashlib.sha256(b"".join(len(content).to_bytes(8) + content for content in contents)).hexdigest()


def _directory(release: Path, app: Path) -> Path:
    """Where alembic.ini says that the migrations are."""
    project = app / "pyproject.toml"
    if project.exists() and "tool.alembic" in files.read_text(project, inside=release):
        raise _UnusualError  # alembic reads both
    config = configparser.ConfigParser({"here": app.as_posix()})
    written = files.read_bytes(app / "alembic.ini", inside=release)
    config.read_string(written.decode("ascii"))  # of other encodings alembic asks the locale
    if any(config.has_option("alembic", name) for name in _OPTIONS_OF_LAYOUT):
        raise _UnusualError
    location = config.get("alembic", "script_location", fallback="")
    if not location or (":" in location and not location.startswith("/")):  # none, or a place in a package
        raise _UnusualError
    found = (app / location / "versions").resolve()
    if not found.is_relative_to(release.resolve()):
        raise _UnusualError
    return found


def _files(directory: Path) -> Iterator[Path]:
    """The files of a directory that alembic takes for migrations, in its order."""
    for path in sorted(directory.iterdir()):
        if path.is_dir() or path.name.startswith((".#", "__init__")) or not path.name.endswith(".py"):
            continue
        if path.is_symlink():
            raise _UnusualError
        yield path


def _read_script(source: bytes, places: tuple[Path, ...]) -> Revision:
    """What a migration declares by plain assignments; nothing else in its file may have a say in that."""
    tree = ast.parse(source)
    values: dict[str, object] = {}
    for statement in tree.body:
        _check_statement(statement, places)
        values |= _assigned(statement)
    bound = [name for node in ast.walk(tree) for name in _bound(node)]
    if any(bound.count(name) != (name in values) for name in (*_DECLARED, "__doc__")):
        raise _UnusualError  # assigned twice, or elsewhere as well
    revision, down, oldest = values.get("revision"), values.get("down_revision", ""), values.get("oldest_compatible")
    follows = (down,) if isinstance(down, str) else () if down is None else down
    if values.get("branch_labels") or values.get("depends_on"):
        raise _UnusualError
    if not _is_revision(revision) or not isinstance(follows, tuple | list) or not all(map(_is_revision, follows)):
        raise _UnusualError
    if (down is not None and not follows) or len(set(follows)) != len(follows):
        raise _UnusualError
    if oldest is not None and not isinstance(oldest, str):
        raise _UnusualError
    return Revision(str(revision), _message(tree), oldest, tuple(map(str, follows)))


def _is_revision(value: object) -> bool:
    return isinstance(value, str) and bool(_REVISION.fullmatch(value)) and value not in _SYMBOLIC


def _message(tree: ast.Module) -> str:
    """The first paragraph of a file's docstring. Of several lines of it, Python's version decides about the indent."""
    paragraph = (ast.get_docstring(tree, clean=False) or "").strip().split("\n\n")[0].strip()
    if "\n" in paragraph:
        raise _UnusualError
    return paragraph


def _check_statement(statement: ast.stmt, places: tuple[Path, ...]) -> None:
    """Only what cannot change what the file declares may stand at the top of a migration."""
    match statement:
        case ast.Expr(value=ast.Constant()) | ast.FunctionDef() | ast.Assign() | ast.AnnAssign() | ast.Pass():
            return
        case ast.Import(names=names):
            modules = [item.name for item in names]
        case ast.ImportFrom(module=str(module), level=0, names=names) if all(item.name != "*" for item in names):
            modules = [module]
        case _:
            raise _UnusualError
    if not all(_is_there(name, places) for name in modules):
        raise _UnusualError


def _is_there(module: str, places: tuple[Path, ...]) -> bool:
    """Whether Python has a module, or finds it in the release or its packages."""
    if module.partition(".")[0] in sys.stdlib_module_names:
        return True
    paths = [place / module.replace(".", "/") for place in places]
    return any(path.is_dir() or path.with_name(f"{path.name}.py").is_file() for path in paths)


def _assigned(statement: ast.stmt) -> dict[str, object]:
    """The declared name that a statement gives a literal value, and that value."""
    match statement:
        case ast.Assign(targets=[ast.Name(id=name)], value=value) if name in _DECLARED:
            return {name: ast.literal_eval(value)}
        case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value) if name in _DECLARED:
            return {name: ast.literal_eval(value)}
    return {}


def _bound(node: ast.AST) -> list[str]:
    """The names that a node of the tree binds or removes, wherever it stands."""
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name) if name in _INDIRECT:
            raise _UnusualError
        case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
            return [name]
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            return [name]
        case ast.alias(name=name, asname=alias):
            return [alias or name.partition(".")[0]]
        case ast.Global(names=names) | ast.Nonlocal(names=names):
            return names
        case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
            return [name]
        case ast.MatchMapping(rest=str(name)):
            return [name]
    return []


def _in_order(scripts: Mapping[str, Revision]) -> list[str]:
    """All revisions, each after those that it follows on, in the order in which alembic goes through them.

    It walks down from the head. At a merge it goes down each side in turn, in the order that the merge names them, and
    stops where another side still leads to the revision that would come next.
    """
    followed = {name for script in scripts.values() for name in script.follows or ()}
    heads = [name for name in scripts if name not in followed]
    if len(heads) != 1 or not followed <= set(scripts):
        raise _UnusualError
    graphlib.TopologicalSorter({name: script.follows or () for name, script in scripts.items()}).prepare()  # no circles
    down: list[str] = []
    done: set[str] = set()
    current = 0
    while heads:
        name = heads[current]
        if len(heads) > 1 and (below := _above(scripts, heads, current)) is not None:
            current = below
            continue
        down.append(name)
        done.add(name)
        following = [item for item in scripts[name].follows or () if item not in done and item not in heads]
        if following:
            heads[current : current + 1] = following[:1]
            heads.extend(following[1:])
        else:
            del heads[current]
            current = max(current - 1, 0)
    return down[::-1]


def _above(scripts: Mapping[str, Revision], heads: list[str], current: int) -> int | None:
    """The place of the first of the other `heads` that follows on the current one; None when none does."""
    follows = {name: script.follows or () for name, script in scripts.items()}
    for place, name in enumerate(heads):
        if place != current and heads[current] in manifest.ancestors(follows, [name]):
            return place
    return None
