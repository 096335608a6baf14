"""What the app writes to below its own directory, and what of it Nginx can serve."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from slipway.inspect.code import Module, argument, dotted, text_of
from slipway.inspect.facts import Facts
from slipway.inspect.proposal import Proposal
from slipway.inspect.tree import joined, parent

_TOP = "\0"  # before a path from the top of the repository; others are from the app's directory
_HANDLERS = (
    "FileHandler",
    "RotatingFileHandler",
    "TimedRotatingFileHandler",
    "WatchedFileHandler",
    "ConcurrentRotatingFileHandler",
)


def propose(facts: Facts, proposal: Proposal) -> None:
    found: dict[str, str] = {}
    for module in facts.modules:
        for path, what in _written(facts, module):
            if not module.name.endswith("/env.py"):
                found.setdefault(path, f"{module.name}: {what}")
    for path, reason in _volumes(facts):
        found.setdefault(path, reason)
    for command in facts.commands:
        log = command.option("--logfile", "-f", "--log-file")
        if command.kind == "worker" and "/" in log and not log.startswith("/"):
            found.setdefault(log, f"{command.origin}: --logfile")
    kept = list(proposal.lines.get("data", []))
    for path, reason in sorted(found.items()):
        kept_as = place(facts, path)
        if kept_as is None:
            proposal.warn(
                f"{reason} writes to {path or 'its own directory'}, outside of it or among code: that is refused."
            )
        elif not any(kept_as == one or kept_as.startswith(one.rstrip("/") + "/") for one in kept):
            kept.append(kept_as)
            proposal.say("data", [kept_as], reason)
    _static(facts, proposal, kept)


def place(facts: Facts, path: str) -> str | None:
    """The entry for a written path: the uppermost folder that has no code in it, or the file alone."""
    if path.startswith(_TOP):
        name = joined(path[1:]) or ""
        inside = facts.here(name) if name else None
        if inside is None:
            return None
    else:
        inside = joined(path)
    if not inside:
        return None
    parts = inside.split("/")
    for count in range(1, len(parts) + 1):
        folder = "/".join(parts[:count])
        in_tree = facts.at(folder) or folder
        is_last = count == len(parts)
        if facts.tree.has_folder(in_tree):
            held = facts.tree.within(in_tree)
            if any(name.endswith(".py") for name in held):
                continue
            return folder + "/"
        if is_last:
            return folder if re.search(r"\.\w{2,7}$", folder) else folder + "/"
        return folder + "/"
    return None


def _written(facts: Facts, module: Module) -> Iterator[tuple[str, str]]:
    for call, name in module.calls():
        last = name.rpartition(".")[2]
        place: ast.expr | None = None
        if last == "open" or name == "aiofiles.open":
            mode = (
                argument(call, 1, "mode") if name in ("open", "aiofiles.open", "io.open") else argument(call, 0, "mode")
            )
            if (text_of(mode) or "r")[0] in "wax" or "+" in (text_of(mode) or ""):
                place = call.args[0] if name in ("open", "aiofiles.open", "io.open") and call.args else _owner(call)
        elif last in ("makedirs", "mkdir") and (name.startswith("os.") or name in ("makedirs", "mkdir")):
            place = call.args[0] if call.args else None
        elif last in ("mkdir", "write_text", "write_bytes", "touch"):
            place = _owner(call)
        elif last in _HANDLERS:
            place = argument(call, 0, "filename")
        elif name in ("logger.add", "loguru.logger.add") and call.args:
            place = call.args[0] if text_of(call.args[0]) or not isinstance(call.args[0], ast.Attribute) else None
            place = place or call.args[0]
        if place is None:
            continue
        path = path_of(facts, module, place)
        if path is not None and not path.startswith("/") and path.strip("./" + _TOP):
            yield (
                (path if last not in ("makedirs", "mkdir") else path.rstrip("/") + ""),
                f"{last}({ast.unparse(place)[:40]})",
            )


def _owner(call: ast.Call) -> ast.expr | None:
    return call.func.value if isinstance(call.func, ast.Attribute) else None


def path_of(facts: Facts, module: Module, node: ast.expr | None, depth: int = 0) -> str | None:
    """What a path is, as far as constants and __file__ tell; with what they do not tell it ends."""
    if node is None or depth > 12:
        return None
    again = depth + 1
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if isinstance(node, ast.Name):
        return _TOP + module.name if node.id == "__file__" else _named(facts, module, node.id, again)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div | ast.Add):
        left = path_of(facts, module, node.left, again)
        return _under(left, path_of(facts, module, node.right, again), "/" if isinstance(node.op, ast.Div) else "")
    if isinstance(node, ast.JoinedStr):
        path: str | None = ""
        for part in node.values:
            inner = part.value if isinstance(part, ast.FormattedValue) else part
            more = path_of(facts, module, inner, again)
            if more is None:  # the name of a file that is made up: what stands before is what is written to
                return path.rpartition("/")[0] or None if path else None
            path = _under(path, more, "")
        return path
    if isinstance(node, ast.Subscript) and dotted(node.value).endswith("parents"):
        value = path_of(facts, module, node.value.value if isinstance(node.value, ast.Attribute) else None, again)
        steps = node.slice.value if isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, int) else None
        return _above(value, steps + 1) if steps is not None else None
    if isinstance(node, ast.Attribute):
        if dotted(node) in ("os.pardir", "os.path.pardir"):
            return ".."
        if node.attr in ("parent", "absolute", "resolve"):
            return _above(path_of(facts, module, node.value, again), 1) if node.attr == "parent" else None
        return _named(facts, module, node.attr, again)
    if isinstance(node, ast.Call):
        return _called(facts, module, node, again)
    return None


def _called(facts: Facts, module: Module, node: ast.Call, depth: int) -> str | None:
    name = dotted(node.func)
    last = name.rpartition(".")[2]
    if last in ("Path", "PurePath", "str", "abspath", "realpath", "fspath", "normpath", "StrPath"):
        paths = [path_of(facts, module, one, depth) for one in node.args] or ["."]
        return _chain(paths)
    if last in ("resolve", "absolute", "expanduser", "as_posix") and isinstance(node.func, ast.Attribute):
        return path_of(facts, module, node.func.value, depth)
    if last == "dirname" and node.args:
        return _above(path_of(facts, module, node.args[0], depth), 1)
    if name in ("os.path.join", "path.join") and node.args:
        return _chain([path_of(facts, module, one, depth) for one in node.args])
    if last == "joinpath" and isinstance(node.func, ast.Attribute):
        return _chain(
            [path_of(facts, module, node.func.value, depth), *(path_of(facts, module, one, depth) for one in node.args)]
        )
    if name in ("os.getcwd", "Path.cwd"):
        return "."
    if name in ("os.getenv", "os.environ.get", "config", "Field", "env", "env.str") and node.args:
        return path_of(facts, module, argument(node, 0 if last == "Field" else 1, "default"), depth)
    return None


def _chain(paths: list[str | None]) -> str | None:
    found = paths[0]
    for more in paths[1:]:
        if more is None:
            return found
        found = _under(found, more, "/")
    return found


def _under(left: str | None, right: str | None, between: str) -> str | None:
    if left is None or right is None:
        return left if right is None else None
    if right.startswith(("/", _TOP)) and between:
        return right
    if left.startswith(_TOP):
        put = joined(left[1:], right) if between else left[1:] + right
        return None if put is None else _TOP + put
    return f"{left.rstrip('/')}{between}{right}" if left not in ("", ".") else right


def _above(path: str | None, steps: int) -> str | None:
    if path is None or path.startswith("/"):
        return None
    for _ in range(steps):
        if path == _TOP or not path:
            return None
        path = _TOP + parent(path[1:]) if path.startswith(_TOP) else parent(path)
    return path


def _named(facts: Facts, module: Module, name: str, depth: int) -> str | None:
    """The path that a name stands for: in this module, or in another where it is made."""
    others = [
        facts.code.modules[file] for _, file, inner in facts.code.imports(module.name, facts.app.root) if inner == name
    ]
    everywhere = facts.modules if name.isupper() or "dir" in name.lower() or "path" in name.lower() else []
    for one in [module, *others, *everywhere]:
        for node in one.nodes:
            target = (
                node.targets[0]
                if isinstance(node, ast.Assign)
                else node.target
                if isinstance(node, ast.AnnAssign)
                else None
            )
            if (
                isinstance(node, ast.Assign | ast.AnnAssign)
                and isinstance(target, ast.Name | ast.Attribute)
                and node.value is not None
            ):
                title = target.id if isinstance(target, ast.Name) else target.attr
                if title == name and (found := path_of(facts, one, node.value, depth)) is not None:
                    return found
    return None


def _volumes(facts: Facts) -> Iterator[tuple[str, str]]:
    """Volumes of the app's own services that hold neither its code nor another product's files."""
    for service in facts.platforms.services:
        if not service.builds:
            continue
        workdir = next((one.workdir for one in facts.images if one.name == service.dockerfile), "").rstrip("/")
        for source, target in service.volumes:
            if not workdir or not target.startswith(f"{workdir}/"):
                continue
            inside = target[len(workdir) + 1 :].rstrip("/")
            held = facts.tree.within(facts.at(inside) or inside)
            base = inside.rpartition("/")[2]
            if (
                inside
                and not base.startswith(".")
                and base != "node_modules"
                and not any(name.endswith(".py") for name in held)
                and not facts.tree.has(facts.at(inside) or "")
            ):
                yield inside, f"{service.origin}: the volume {source}"


def _static(facts: Facts, proposal: Proposal, kept: list[str]) -> None:
    for module in facts.web_modules:
        for call, name in module.calls():
            if not name.endswith(".mount") or len(call.args) < 2 or not isinstance(call.args[1], ast.Call):
                continue
            made = call.args[1]
            url, folder = text_of(call.args[0]), argument(made, 0, "directory")
            if not dotted(made.func).endswith("StaticFiles") or not url or folder is None:
                continue
            path = path_of(facts, module, folder)
            if path is None:
                continue
            place = facts.here(path[1:]) if path.startswith(_TOP) else joined(path)
            in_tree = path[1:] if path.startswith(_TOP) else facts.at(path)
            html = any(word.arg == "html" for word in made.keywords)
            if place is None or in_tree is None:
                continue
            if any(one.rstrip("/") == place or place.startswith(one.rstrip("/") + "/") for one in kept):
                continue
            if not facts.tree.has_folder(in_tree):
                proposal.warn(
                    f"{module.name} serves {place}/, which git does not have: name it in data, or have a build make it."
                )
            elif url != "/" and not html:
                proposal.say("static", {url.rstrip("/") + "/": place}, f"StaticFiles in {module.name}")
