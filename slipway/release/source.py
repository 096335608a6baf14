"""The source of a release: what `git archive` gives of a commit, and whether anything is missing there.

An archive has no files of submodules, pointers in the place of files that are in Git LFS, and nothing that
`.gitattributes` marks with export-ignore. Where the app needs such a file, that is said here, and not by its crash.
"""

from __future__ import annotations

import ast
import fnmatch
import posixpath
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from slipway.base import files, process
from slipway.base.errors import FailedError
from slipway.base.repository import MODULES
from slipway.release import locks
from slipway.release.git import Entry, Repository

PROJECT, LOCK = locks.PROJECT, locks.UV
ATTRIBUTES = ".gitattributes"

_ENVIRONMENT = re.compile(r"\.env(rc)?(?!\.(?:example|sample|template|tpl|dist)\b)(\.[\w.-]+)?", re.IGNORECASE)

_POINTER = b"version https://git-lfs.github.com/spec/v1\n"
_LONGEST_POINTER = 1024  # bytes, by the specification of Git LFS
# Directories that the lock file has projects in, beside the one that is deployed.
_LOCAL_SOURCE = re.compile(r'source = \{ (?:editable|directory|virtual) = "([^"]+)" \}')


def unpack(
    repository: Repository, sha: str, target: Path, user: str, module: str, directory: str = "", lock: str = ""
) -> None:
    """Write the source of a commit to `target`, as `user`.

    FailedError, in one sentence, when it lacks something that a release cannot do without. `module` is the ASGI
    application that Gunicorn serves, from `directory` of the repository.
    """
    archive = target / ".source.tar"
    repository.git("archive", "--format=tar", f"--output={archive}", sha)
    result = process.run(["tar", "--extract", f"--file={archive}"], user=user, directory=target)
    if result.returncode != 0:
        raise FailedError("The source could not be unpacked.", process.tail(result.stderr))
    archive.unlink()
    for path in environment_files(repository.tree(sha)):
        if not (target / path).parent.is_symlink():
            (target / path).unlink(missing_ok=True)
    check(target, repository.tree(sha), f"Commit {sha[:12]}", module, directory, lock)


def environment_files(tree: Sequence[Entry]) -> list[str]:
    """The files of a commit with variables, which are left out of its release: `.env` and others of that kind.

    They are somebody's own, of development as a rule, and an app that reads them would take them for those of its
    environment. Examples have no values that count, and stay.
    """
    return [item.path for item in tree if item.kind == "blob" and _ENVIRONMENT.fullmatch(PurePosixPath(item.path).name)]


def check(release: Path, tree: Sequence[Entry], commit: str, module: str, directory: str = "", lock: str = "") -> None:
    """FailedError when the unpacked source of a commit, which has the files of `tree`, is not complete."""
    for problem in (
        _left_out(release, tree, commit, module, directory),
        _no_directory(release, commit, directory),
        _absent(release, commit, directory, lock),
        _submodule(release, tree, commit, directory),
        _pointers(release, tree, commit),
    ):
        if problem:
            raise FailedError(problem)


def project(release: Path, directory: str = "") -> Mapping[str, Any]:
    """What the pyproject.toml of the app in a directory says; empty when it cannot be read, which uv says better."""
    try:
        found = locks.project(directory, lambda path: _exists(release / path)) or PROJECT
        return tomllib.loads(files.read_text(release / found, inside=release))
    except (OSError, ValueError, RecursionError):
        return {}


# What has to be there


def _no_directory(release: Path, commit: str, directory: str) -> str:
    if (release / directory).resolve().is_relative_to(release.resolve()) and (release / directory).is_dir():
        return ""
    return f"{commit} has no directory {directory}, which is the app's 'directory'. Name one that it has."


def _absent(release: Path, commit: str, directory: str, lock: str) -> str:
    def has(path: str) -> bool:
        return _exists(release / path)

    found, project = locks.find(directory, has, lock), locks.project(directory, has)
    wanted = (found, project) if locks.kind(found) in (locks.UV, locks.POETRY) else (found,)
    for name in wanted:
        if name and (release / name).is_symlink() and not (release / name).is_file():
            return (
                f"{commit} has {name} as a link to {(release / name).readlink()}, which is not in a release. "
                "Commit the file itself."
            )
    where = f" in {directory} or a directory above it" if directory else ""
    if not found:
        if lock:
            return f"{commit} has no {lock}{where}, which is the app's 'lock_file'. Name one that it has."
        said = locks.unread(directory, has) or (
            f"Commit a {PROJECT} that names its packages, and the {LOCK} that `uv lock` makes of it."
        )
        return f"{commit} has no {LOCK}, nor another file that says what it needs{where}. {said}"
    if not all(wanted):
        return f"{commit} has no {PROJECT}{where}, which says what of {found} is installed. Commit it."
    return ""


def _left_out(release: Path, tree: Sequence[Entry], commit: str, module: str, directory: str) -> str:
    """Which file that the app needs is in the commit, and not in its archive."""
    left_out = [item.path for item in tree if item.kind == "blob" and not _exists(release / item.path)]
    for path in _needed(release, left_out, module, directory):
        rule = _rule(release, tree, path)
        where = f"{rule[0]} leaves it out of what is deployed ('{rule[1]}')" if rule else (
            f"an export-ignore in {ATTRIBUTES} leaves it out of what is deployed"
        )  # fmt: skip
        return f"{commit} has {path}, but {where}. Remove that line and commit."
    return ""


def _exists(path: Path) -> bool:
    return path.exists() or path.is_symlink()


def _needed(release: Path, left_out: Sequence[str], module: str, directory: str) -> Iterator[str]:
    """Those of the paths that a release cannot be built, migrated or started without."""
    file = module.partition(":")[0].replace(".", "/")
    served = [f"{root}{file}{end}" for root in ("", "src/") for end in (".py", "/__init__.py")] if file else []
    if not file and not any(_exists(release / directory / path) for path in MODULES):
        served = list(MODULES)
    named = {str(PurePosixPath(directory, name)) for name in ("alembic.ini", *served)}
    named |= {str(place / name) for place in locks.upwards(directory) for name in (PROJECT, LOCK)}
    if left_out and LOCK not in left_out:
        named |= {f"{place}/{PROJECT}" for place in _local_projects(release, directory)}
        named |= _read_by_the_build(project(release, directory))
    for path in left_out:
        if path in named or (fnmatch.fnmatchcase(path, "*versions/*.py") and "tests" not in path.split("/")):
            yield path


def _read_by_the_build(declared: Mapping[str, Any]) -> set[str]:
    """Files that the package of the project is built from, as pyproject.toml names them."""
    if "build-system" not in declared or declared.get("tool", {}).get("uv", {}).get("package") is False:
        return set()
    named = [declared.get("project", {}).get(key) for key in ("readme", "license")]
    files = [item.get("file") if isinstance(item, dict) else item for item in named]
    return {item for item in files if isinstance(item, str)}


def _local_projects(release: Path, directory: str) -> set[str]:
    """Directories of the repository with projects that are installed, too, such as members of a workspace."""
    lock = locks.find(directory, lambda path: (release / path).is_file())
    try:
        found = _LOCAL_SOURCE.findall(files.read_text(release / lock, inside=release))
    except (OSError, ValueError):
        return set()
    return {posixpath.normpath(posixpath.join(posixpath.dirname(lock), path)) for path in found} - {"."}


# Rules of .gitattributes


def _rule(release: Path, tree: Sequence[Entry], path: str) -> tuple[str, str] | None:
    """The file and the line that leave a path out; None when it cannot be told."""
    kept = {item.path for item in tree}
    for parent in PurePosixPath(path).parents:  # a file nearer to the path has more to say
        name = (parent / ATTRIBUTES).as_posix()
        if name not in kept or not (release / name).is_file():
            continue
        lines = files.read_text(release / name, inside=release, errors="replace").splitlines()
        inside = PurePosixPath(path).relative_to(parent).as_posix()
        for number, line in reversed(list(enumerate(lines, start=1))):
            pattern, *attributes = line.split() or [""]
            if "export-ignore" in attributes and matches(pattern, inside):
                return f"{name}, line {number},", line.strip()
    return None


def matches(pattern: str, path: str) -> bool:
    """Whether a pattern of .gitattributes is for a path or for a directory above it."""
    places = [path, *(parent.as_posix() for parent in PurePosixPath(path).parents if parent.name)]
    if "/" not in pattern.rstrip("/"):
        return any(fnmatch.fnmatchcase(PurePosixPath(place).name, pattern.rstrip("/")) for place in places)
    anchored = pattern.strip("/")
    shapes = (anchored, anchored.replace("**/", ""))
    return any(fnmatch.fnmatchcase(place, shape) for place in places for shape in shapes)


# Submodules and Git LFS


def _submodule(release: Path, tree: Sequence[Entry], commit: str, directory: str) -> str:
    """Which submodule the app uses. Others, such as the theme of its documentation, are no harm."""
    submodules = [item.path for item in tree if item.kind == "commit"]
    if not submodules:
        return ""
    local = _local_projects(release, directory)
    imported = set(_imports(release))
    for path in submodules:
        if any(PurePosixPath(place).is_relative_to(path) for place in local) or _is_imported(release, path, imported):
            return (
                f"{commit} has the submodule {path}, which the app uses, and a release gets no files of submodules. "
                "Add it as a dependency (`uv add git+URL`), or commit its files (`git subtree add`)."
            )
    return ""


def _is_imported(release: Path, path: str, imported: Iterable[str]) -> bool:
    """Whether a module is imported that has to be in the directory `path`."""
    parts = PurePosixPath(path).parts
    for start in range(len(parts)):
        name = ".".join(parts[start:])
        # The last part alone could be the name of a package as well.
        if len(parts) > 1 and start == len(parts) - 1 and _is_installed(release, parts[-1]):
            continue
        if any(item == name or item.startswith(f"{name}.") for item in imported):
            return True
    return False


def _is_installed(release: Path, name: str) -> bool:
    try:
        lock = files.read_text(release / LOCK, inside=release)
    except (OSError, ValueError):
        return False
    locked = f'name = "{name.replace("_", "-").lower()}"\n' in lock
    return locked or _exists(release / name) or _exists(release / f"{name}.py")


def _imports(release: Path) -> Iterator[str]:
    """The names of all modules that the source imports, relative ones by where they are."""
    for file in sorted(release.rglob("*.py")):
        try:
            tree = ast.parse(files.read_bytes(file, inside=release))
        except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
            continue
        package = file.relative_to(release).parent.parts
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                yield from (item.name for item in node.names)
            elif isinstance(node, ast.ImportFrom):
                above = package[: len(package) - node.level + 1] if node.level else ()
                base = ".".join((*above, *([node.module] if node.module else [])))
                yield base
                yield from (f"{base}.{item.name}" for item in node.names)


def _pointers(release: Path, tree: Sequence[Entry], commit: str) -> str:
    """Which files have a pointer of Git LFS in their place."""
    found = [item.path for item in tree if item.kind == "blob" and _is_pointer(release / item.path)]
    if not found:
        return ""
    more = f" and {len(found) - 1} more" if found[1:] else ""
    return (
        f"{commit} has {found[0]}{more} in Git LFS, and a release gets only a pointer of such a file. Commit the file "
        f"itself (`git lfs migrate export`), or, if the app does not need it, write `/{found[0]} export-ignore` in "
        f"{ATTRIBUTES}."
    )


def _is_pointer(path: Path) -> bool:
    if path.is_symlink() or not path.is_file() or path.stat().st_size > _LONGEST_POINTER:
        return False
    with path.open("rb") as file:
        return file.read(len(_POINTER)) == _POINTER
