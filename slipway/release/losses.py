"""What a migration would delete, as far as its file says: read on the controller, which must not run the app's code.

What cannot be told is said as well, as whoever asks has to decide then.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import PurePosixPath

from slipway.release import git, revisions
from slipway.release.git import Repository

# Functions of alembic's op, by what they delete.
_DROPS = {"drop_table": "table", "drop_column": "column"}
_SQL = re.compile(
    r"\b(DROP\s+(?:TABLE|COLUMN|SCHEMA|DATABASE|MATERIALIZED\s+VIEW|TYPE)|TRUNCATE|DELETE\s+FROM)\b"
    r"|\bALTER\s+TABLE\b[^;]*?\b(DROP)\s+(?!CONSTRAINT|DEFAULT|NOT|IDENTITY|EXPRESSION|INDEX)",
    re.IGNORECASE,
)
# Modules whose calls do what they are called.
_KNOWN = {"alembic", "sqlalchemy", "sqlmodel", "geoalchemy2", *sys.stdlib_module_names}


def goes_back(source: Repository, old: str, new: str) -> bool | None:
    """Whether `new` is a commit that came before `old`; None when the repository has not got `old`."""
    if not source.has(old):
        return None
    return old != new and source.holds(old, new)


def pending(source: Repository, sha: str, current: str | None) -> list[str]:
    """What the migrations that a database at `current` waits for would delete, a sentence each; also what is not known.

    `current` may be several revisions, joined by commas.
    """
    scripts = git.migrations(source, sha)
    heads: list[str | None] = [*current.split(",")] if current else [None]
    if unknown := [head for head in heads if head is not None and head not in scripts]:
        return [f"the database is at {unknown[0]}, which no file of the version names"]
    waiting = [{item.name for item in revisions.pending(scripts, head)} for head in heads]
    names = set.intersection(*waiting)
    texts = {PurePosixPath(path).name: text for path, text in source.texts(sha, git.MIGRATIONS)}
    return [f"{name} {said}" for name in sorted(names) for said in of(texts[name])]


def of(text: str) -> list[str]:
    """What the upgrade of a migration deletes, or may delete, in words that go on after its name; none if nothing."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        return ["cannot be read"]
    if not any(_is_function(node, "upgrade") for node in tree.body):
        return ["has no function upgrade() of its own, so what it does cannot be told"]
    foreign = _foreign(tree)
    kept = [node for node in tree.body if not _is_function(node, "downgrade")]
    found = [said for statement in kept for node in ast.walk(statement) for said in _of_node(node, foreign)]
    return list(dict.fromkeys(found))


def _is_function(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name


def _foreign(tree: ast.Module) -> dict[str, str]:
    """Names that come from modules which nobody has looked at, with the module of each."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            module = node.module or "."
            if node.level or module.split(".")[0] not in _KNOWN:
                found.update({item.asname or item.name: module for item in node.names})
        elif isinstance(node, ast.Import):
            for item in node.names:
                if item.name.split(".")[0] not in _KNOWN:
                    found[(item.asname or item.name).split(".")[0]] = item.name
    return found


def _of_node(node: ast.AST, foreign: dict[str, str]) -> Iterator[str]:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        if what := _DROPS.get(node.func.attr):
            yield f"drops the {what} {_names(node)}"
        elif node.func.attr in ("execute", "exec_driver_sql"):
            yield from _of_sql(node.args[0] if node.args else None)
        elif node.func.attr == "delete":
            yield "deletes rows"
    if isinstance(node, ast.Expr | ast.Assign) and isinstance(node.value, ast.Call):
        root: ast.AST = node.value.func
        while isinstance(root, ast.Attribute):
            root = root.value
        if isinstance(root, ast.Name) and root.id in foreign:
            yield f"calls {ast.unparse(node.value.func)} of {foreign[root.id]}, and what that does cannot be told"


def _of_sql(given: ast.expr | None) -> Iterator[str]:
    while isinstance(given, ast.Call) and given.args:  # sa.text("…"), also of .bindparams()
        given = given.args[0]
    if isinstance(given, ast.Constant) and isinstance(given.value, str):
        for match in _SQL.finditer(given.value):
            yield f"runs {' '.join((match[1] or 'ALTER TABLE … DROP').upper().split())}"
    else:
        yield "runs SQL that is put together when it runs, so what it does cannot be told"


def _names(call: ast.Call) -> str:
    texts = [item.value for item in call.args if isinstance(item, ast.Constant) and isinstance(item.value, str)]
    return ".".join(texts) or "of a name that is worked out when it runs"
