"""The application: the file and the name that a server is given, and the directory that it is started in."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass

from slipway.base.repository import MODULES
from slipway.inspect.code import Code, dotted, keyword, text_of
from slipway.inspect.commands import Command
from slipway.inspect.tree import Tree, joined, parent

_TARGET = re.compile(r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*(\(.*\))?$")
_LOCKS = ("uv.lock", "poetry.lock", "pylock.toml", "Pipfile.lock", "pyproject.toml", "requirements.txt", "alembic.ini")


@dataclass
class App:
    file: str
    root: str  # the folder from which its imports are resolved
    module: str
    reason: str
    variable: str
    directory: str = ""
    why_directory: str = ""
    found_anyway: bool = False


def find(tree: Tree, code: Code, commands: list[Command]) -> App | None:
    app = (
        _declared(tree, code)
        or _commanded(code, [one for one in commands if one.kind == "web" or one.program == "python"])
        or _run(code)
        or _made(code)
    )
    if app is not None:
        _place(tree, app)
        local = app.file[len(app.directory) :].strip("/")
        app.found_anyway = app.reason.startswith("[tool.fastapi]") or (
            local in ("main.py", "app/main.py") and app.variable == "app"
        )
    return app


def _declared(tree: Tree, code: Code) -> App | None:
    for name in tree.named("pyproject.toml"):
        entry = tree.toml(name).get("tool", {})
        entry = entry.get("fastapi", {}) if isinstance(entry, dict) else {}
        target = str(entry.get("entrypoint", "")) if isinstance(entry, dict) else ""
        if _TARGET.match(target):
            app = _resolved(code, target, parent(name), f"[tool.fastapi] of {name}")
            if app is not None:
                return app
    return None


def _commanded(code: Code, commands: list[Command]) -> App | None:
    ranked = sorted(commands, key=lambda one: (one.role != "web", one.kind != "web"))
    for command in ranked:
        found = _of_command(code, command)
        if found is not None:
            return found
    return None


def _of_command(code: Code, command: Command) -> App | None:
    reason = f"{command.origin}: {command.program}"
    inside = command.option("--app-dir", "--chdir")
    hint = joined(command.folder, inside) if not inside.startswith("/") else command.folder
    hint = command.folder if hint is None else hint
    if command.program == "fastapi":
        files = [word for word in command.words[1:] if word.endswith(".py")]
        for name in files or MODULES:
            file = joined(hint, name)
            file = (
                file
                if file in code.modules
                else next((one for one in code.modules if one.endswith(f"/{name}")), "")
                if files
                else ""
            )
            if file and (variable := _variable(code, file)):
                return _app(code, file, variable, reason, hint)
        return None
    if command.kind == "web":
        for word in command.words[1:]:
            if _TARGET.match(word):
                target = f"{word}()" if "--factory" in command.words and not word.endswith(")") else word
                return _resolved(code, target, hint, reason)
        return None
    rest = list(command.words[1:])
    name = rest[1].replace(".", "/") + ".py" if rest[:1] == ["-m"] and len(rest) > 1 else (rest[0] if rest else "")
    choices = [joined(hint, name), joined(hint, name[:-3], "__main__.py")] if name.endswith(".py") else []
    choices += [one for one in code.modules if name and one.endswith(f"/{name.lstrip('./')}")]
    for file in choices:
        if file and file in code.modules:
            return _started_by(code, file, f"{command.origin}: {command.text}", hint)
    return None


def _started_by(code: Code, file: str, reason: str, hint: str) -> App | None:
    """What a module gives to uvicorn.run(…)."""
    for call, name in code.modules[file].calls():
        if name in ("uvicorn.run", "uvicorn.Config", "run") and (call.args or keyword(call, "app")):
            given = keyword(call, "app") or call.args[0]
            target = text_of(given)
            if target and _TARGET.match(target):
                factory = keyword(call, "factory")
                made = isinstance(factory, ast.Constant) and factory.value is True
                return _resolved(code, f"{target}()" if made else target, hint, f"uvicorn.run in {file}")
            if isinstance(given, ast.Name) and name != "run":
                root = _root(code, file, hint)
                for local, source, inner in code.imports(file, root):
                    if local == given.id and inner and _variable(code, source):
                        return _app(code, source, inner, f"uvicorn.run in {file}", root)
                return _app(code, file, given.id, f"uvicorn.run in {file}", hint)
    variable = _variable(code, file)
    return _app(code, file, variable, reason, hint) if variable else None


def _run(code: Code) -> App | None:
    for file in sorted(code.modules, key=lambda name: (name.count("/"), name)):
        if any(name == "uvicorn.run" for _, name in code.modules[file].calls()):
            found = _started_by(code, file, f"uvicorn.run in {file}", parent(file))
            if found is not None:
                return found
    return None


def _made(code: Code) -> App | None:
    makers = [(name, variable) for name in code.modules if (variable := _variable(code, name))]
    if not makers:
        return None
    usual = ("main.py", "app.py", "api.py", "server.py", "asgi.py", "application.py")

    def rank(found: tuple[str, str]) -> tuple[int, int, int, str]:
        base = found[0].rpartition("/")[2]
        return (found[1].endswith("()"), usual.index(base) if base in usual else 9, found[0].count("/"), found[0])

    file, variable = min(makers, key=rank)
    return _app(code, file, variable, f"= FastAPI( in {file}", "")


def _variable(code: Code, file: str) -> str:
    """The name under which a module has an application, with () for a function that makes one; empty if it has none."""
    tree = code.modules[file].tree
    makers = []
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            made = any(
                isinstance(one, ast.Call) and dotted(one.func).rpartition(".")[2] == "FastAPI" for one in ast.walk(node)
            )
            returns = node.returns is not None and dotted(node.returns).rpartition(".")[2] == "FastAPI"
            arguments = [one for one in node.args.args if one.arg != "self"]
            if (
                (made or returns)
                and len(arguments) <= len(node.args.defaults)
                and not isinstance(node, ast.AsyncFunctionDef)
            ):
                makers.append(node.name)
    for node in tree.body:
        value = node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        if isinstance(value, ast.Call) and targets and isinstance(targets[0], ast.Name):
            name = dotted(value.func).rpartition(".")[2]
            annotated = isinstance(node, ast.AnnAssign) and dotted(node.annotation).rpartition(".")[2] == "FastAPI"
            if (
                name == "FastAPI"
                or annotated
                or name in makers
                or name in ("create_app", "get_app", "get_application", "make_app")
            ):
                return targets[0].id
    return f"{makers[0]}()" if makers else ""


def _root(code: Code, file: str, hint: str) -> str:
    """The folder above a module from which most of its imports are found: ties go to the hint, then to the top."""
    folders, folder = [], parent(file)
    while True:
        folders.append(folder)
        if not folder:
            break
        folder = parent(folder)
    return max(folders, key=lambda one: (code.local_imports(file, one), one == hint, -one.count("/") - bool(one)))


def _project_of(tree: Tree, file: str) -> str:
    """The nearest folder above a file that is a project of its own; the top where there is none."""
    folder = parent(file)
    while folder and not any(tree.has(f"{folder}/{name}") for name in _LOCKS):
        folder = parent(folder)
    return folder


def _app(code: Code, file: str, variable: str, reason: str, hint: str) -> App:
    root = _root(code, file, hint)
    if not code.local_imports(file, root):
        root = hint if file.startswith(f"{hint}/" if hint else "") else parent(file)
        if not hint and not code.tree.has(f"{parent(file)}/__init__.py"):
            root = parent(file)
        elif not hint:
            root = _project_of(code.tree, file)
    inner = file[len(root) :].strip("/").removesuffix(".py").replace("/", ".").removesuffix(".__init__")
    return App(file, root, f"{inner}:{variable}", reason, variable)


def _resolved(code: Code, target: str, hint: str, reason: str) -> App | None:
    module, _, variable = target.partition(":")
    path = module.replace(".", "/")
    ends = (f"{path}.py", f"{path}/__init__.py")
    roots = [
        (name[: -len(end)].strip("/"), name)
        for name in code.modules
        for end in ends
        if name == end or name.endswith(f"/{end}")
    ]
    if not roots:
        return None
    root, file = min(
        roots,
        key=lambda one: (
            one[0] != hint,
            not one[0].startswith(hint),
            -code.local_imports(one[1], one[0]),
            one[0].count("/"),
        ),
    )
    better = _root(code, file, root)
    if code.local_imports(file, better) > code.local_imports(file, root):
        # It is started by its path, with another directory on Python's path.
        inner = file[len(better) :].strip("/").removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        return App(file, better, f"{inner}:{variable}", reason, variable.partition("(")[0])
    return App(file, root, target, reason, variable.partition("(")[0])


def _place(tree: Tree, app: App) -> None:
    """The directory: where the imports lead from, or the project above a src/ that has nothing else in it."""
    app.directory = app.root
    if app.root == "src" or app.root.endswith("/src"):
        above = parent(app.root)
        beside = [name for name in _LOCKS if tree.has(f"{app.root}/{name}")]
        if not beside and any(tree.has(joined(above, name) or "") for name in _LOCKS[:-1]):
            # A project of src layout; Slipway finds its modules there. Not so where commands are run inside.
            app.directory = above
    if not app.directory:
        return
    here = [name for name in _LOCKS if tree.has(f"{app.directory}/{name}")]
    if "alembic.ini" in here:
        app.why_directory = "alembic.ini is there"
    elif here:
        app.why_directory = f"{here[0]} is there"
    else:
        app.why_directory = f"{app.module.partition(':')[0]} is imported from there"
