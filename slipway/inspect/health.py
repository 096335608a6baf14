"""The path that tells whether the app can take traffic: a route of its own, or what FastAPI always has."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass

from slipway.inspect.code import Module, argument, dotted, keyword, parse, text_of
from slipway.inspect.facts import Facts
from slipway.inspect.proposal import Proposal

_WORDS = (
    "ready",
    "readiness",
    "readyz",
    "health",
    "healthz",
    "healthcheck",
    "health-check",
    "health_check",
    "liveness",
    "livez",
    "live",
    "heartbeat",
    "ping",
    "alive",
    "status",
)
_GUARD = re.compile(r"user|auth|token|permission|admin|login|verify|api_key|jwt|security|credential", re.IGNORECASE)
_HARMLESS = re.compile(
    r"Session|Request|Response|Depends|BackgroundTasks|Redis|Connection|Settings|Engine|Annotated|Logger|Service"
)


@dataclass(frozen=True)
class Route:
    path: str
    file: str
    guarded: bool
    simple: bool  # without parameters that must be given
    hidden: bool = False


def propose(facts: Facts, proposal: Proposal) -> None:
    path, origin = facts.platforms.health
    if path:
        proposal.say("health", path, f"healthCheckPath of {origin}")
        return
    routes = list(_routes(facts))
    known = {one.path.rstrip("/"): one.path for one in routes}
    checks = [(one.health, one.origin) for one in facts.platforms.services if one.builds]
    for text, where in [*checks, *((one.health, one.name) for one in facts.images)]:
        found = re.search(r"https?://(?:localhost|127\.0\.0\.1|0\.0\.0\.0)(?::[\d${}\w]+)?(/[\w/.-]+)", text)
        if found and (found[1].rstrip("/") in known or not routes):
            # With the slash at the end that the route has: without it the answer is a redirect.
            proposal.say("health", known.get(found[1].rstrip("/"), found[1]), f"healthcheck of {where}")
            return
    usable = [one for one in routes if not one.guarded and one.simple]
    for word in _WORDS:
        for route in sorted(usable, key=lambda one: len(one.path)):
            last = route.path.rstrip("/").rpartition("/")[2].lower()
            if last == word or (len(word) > 4 and word in last):
                proposal.say("health", route.path, f"a route in {route.file}")
                return
    openapi = _openapi(facts)
    if openapi:
        proposal.say("health", openapi, "no route for health; FastAPI's own answers 200")
        return
    root = next((one for one in usable if one.path == "/"), None)
    if root is not None:
        proposal.say(
            "health", root.path, f"no route for health, and no openapi.json in production; a route in {root.file}"
        )
        return
    proposal.say(
        "health", {"path": "/", "status": [200, 404]}, "no route for health, and no openapi.json: any answer counts"
    )
    proposal.warn("No route that tells of health was found: a release counts as ready when it answers at all.")


def _openapi(facts: Facts) -> str:
    """The path of the app's description; empty where it has none in production."""
    for module in facts.web_modules:
        for call, name in module.calls():
            if name.rpartition(".")[2] != "FastAPI":
                continue
            given = keyword(call, "openapi_url")
            unpacked = any(word.arg is None for word in call.keywords)  # **options, which may leave it out
            if unpacked and any(_nones(other) for other in facts.web_modules):
                return ""
            if given is None:
                return "/openapi.json"
            text = _text(facts, given)
            return text if text and text.startswith("/") else ""
    return "/openapi.json"


def _nones(module: Module) -> bool:
    """Whether a module sets openapi_url to None, in any way of giving options on."""
    for node in module.nodes:
        pairs: list[tuple[str | None, ast.expr | None]] = []
        if isinstance(node, ast.Dict):
            pairs = [(text_of(key), value) for key, value in zip(node.keys, node.values, strict=True)]
        elif isinstance(node, ast.Call):
            pairs = [(word.arg, word.value) for word in node.keywords]
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Subscript):
            pairs = [(text_of(node.targets[0].slice), node.value)]
        if any(key == "openapi_url" and isinstance(value, ast.Constant) and not value.value for key, value in pairs):
            return True
    return False


def _routes(facts: Facts) -> Iterator[Route]:
    """The GET routes of the app, with the prefixes of the routers that they stand behind."""
    graph = _Graph(facts)
    seen: set[tuple[str, str, str]] = set()

    def walk(file: str, name: str, prefix: str, guarded: bool, depth: int) -> Iterator[Route]:
        if depth > 10 or (file, name, prefix) in seen:
            return
        seen.add((file, name, prefix))
        own = prefix + graph.prefixes.get((file, name), "")
        closed = guarded or graph.guards.get((file, name), False)
        for route in graph.routes.get((file, name), []):
            yield Route(re.sub(r"/{2,}", "/", own + route.path) or "/", file, closed or route.guarded, route.simple)
        for inner_file, inner, more, guard in graph.edges.get((file, name), []):
            yield from walk(inner_file, inner, own + more, closed or guard, depth + 1)

    for file, name in graph.apps:
        yield from walk(file, name, "", False, 0)


class _Graph:
    """Routers by file and name: their prefixes, routes, and the routers that they include."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self.prefixes: dict[tuple[str, str], str] = {}
        self.guards: dict[tuple[str, str], bool] = {}
        self.routes: dict[tuple[str, str], list[Route]] = {}
        self.edges: dict[tuple[str, str], list[tuple[str, str, str, bool]]] = {}
        self.apps: list[tuple[str, str]] = []
        self.imports = {
            module.name: {
                local: (file, inner) for local, file, inner in facts.code.imports(module.name, facts.app.root)
            }
            for module in facts.web_modules
        }
        for module in facts.web_modules:
            for node in module.nodes:
                if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Call):
                    target = node.targets[0] if isinstance(node, ast.Assign) else node.target
                    if isinstance(target, ast.Name):
                        self._made(module.name, target.id, node.value)
                elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    self._function(module.name, node)
                    for one in node.args.args:
                        if one.annotation is not None and dotted(one.annotation).rpartition(".")[2] == "FastAPI":
                            self.apps.append((module.name, one.arg))
            for call, name in module.calls():
                self._call(module.name, call, name)

    def _made(self, file: str, name: str, call: ast.Call) -> None:
        kind = dotted(call.func).rpartition(".")[2]
        if kind == "FastAPI" or (file == self.facts.app.file and name == self.facts.app.variable):
            self.apps.append((file, name))
        elif kind.endswith("Router"):
            prefix = argument(call, 99, "prefix")
            self.prefixes[file, name] = (_text(self.facts, prefix) if prefix is not None else "") or ""
            given = keyword(call, "dependencies")
            self.guards[file, name] = given is not None and bool(_GUARD.search(ast.unparse(given)))

    def _function(self, file: str, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        for decorator in node.decorator_list:
            if not isinstance(decorator, ast.Call):
                continue
            router, _, method = dotted(decorator.func).rpartition(".")
            is_get = method == "get" or (method in ("api_route", "route") and "GET" in ast.unparse(decorator))
            path = _text(self.facts, argument(decorator, 0, "path"))
            if not is_get or path is None or not router:
                continue
            guarded = bool(
                _GUARD.search(
                    " ".join(ast.unparse(word.value) for word in decorator.keywords if word.arg == "dependencies")
                )
            )
            guarded = guarded or any(_GUARD.search(ast.unparse(one)) for one in _arguments(node))
            self.routes.setdefault((file, router), []).append(
                Route(path, file, guarded, "{" not in path and _callable(node))
            )

    def _call(self, file: str, call: ast.Call, name: str) -> None:
        owner, _, method = name.rpartition(".")
        if method == "include_router" and (call.args or keyword(call, "router")):
            inner = self._resolve(file, call.args[0] if call.args else keyword(call, "router"))
            prefix = argument(call, 1, "prefix") if len(call.args) < 2 else call.args[1]
            text = "" if prefix is None else _text(self.facts, prefix)
            given = keyword(call, "dependencies")
            if inner and text is not None:
                guard = given is not None and bool(_GUARD.search(ast.unparse(given)))
                self.edges.setdefault((file, owner), []).append((*inner, text, guard))
        elif method == "mount" and len(call.args) > 1:
            inner, text = self._resolve(file, call.args[1]), _text(self.facts, call.args[0])
            if inner and text:
                self.edges.setdefault((file, owner), []).append((*inner, text.rstrip("/"), False))
        elif method in ("add_api_route", "add_route") and call.args:
            path = _text(self.facts, call.args[0])
            if path and "{" not in path and "POST" not in ast.unparse(call):
                self.routes.setdefault((file, owner), []).append(Route(path, file, False, simple=False))

    def _resolve(self, file: str, node: ast.expr | None) -> tuple[str, str] | None:
        """The file and name of a router that is given to include_router."""
        name = dotted(node) if node is not None else ""
        if not name:
            return None
        first, _, rest = name.partition(".")
        known = self.imports.get(file, {})
        for local in (name.rpartition(".")[0], first):
            if local in known and "." in name:
                source, inner = known[local]
                if not inner:
                    return self._followed(source, name[len(local) + 1 :])
        if first in known and not rest:
            source, inner = known[first]
            return self._followed(source, inner) if inner else None
        return (file, name)

    def _followed(self, file: str, name: str) -> tuple[str, str]:
        """Where a name really stands that a package only passes on."""
        for _ in range(5):
            known = self.imports.get(file, {}).get(name)
            if known is None or not known[1]:
                break
            file, name = known
        return file, name


def _arguments(node: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[ast.AST]:
    for one in [*node.args.args, *node.args.kwonlyargs]:
        if one.annotation is not None:
            yield one.annotation
    yield from node.args.defaults
    yield from (one for one in node.args.kw_defaults if one is not None)


def _callable(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether a request without anything is enough."""
    without = len(node.args.args) - len(node.args.defaults)
    missing = node.args.args[:without] + [
        one for one, default in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True) if default is None
    ]
    return all((one.annotation is not None and _HARMLESS.search(ast.unparse(one.annotation) + "")) or
               (one.annotation is not None and re.search(r"Dep\b|Deps?\w*$|DBSession|DB$", ast.unparse(one.annotation)))
               for one in missing)  # fmt: skip


def _text(facts: Facts, node: ast.expr | None, depth: int = 0) -> str | None:
    """The text of an expression of constants and of attributes of settings; None if that cannot be said."""
    if node is None or depth > 8:
        return None
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if isinstance(node, ast.JoinedStr):
        parts = [
            _text(facts, part.value if isinstance(part, ast.FormattedValue) else part, depth + 1)
            for part in node.values
        ]
        return None if None in parts else "".join(part or "" for part in parts)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = _text(facts, node.left, depth + 1), _text(facts, node.right, depth + 1)
        return None if left is None or right is None else left + right
    if isinstance(node, ast.Name | ast.Attribute):
        return _constant(facts, node.id if isinstance(node, ast.Name) else node.attr, depth + 1)
    return None


def _expression(source: str) -> ast.expr | None:
    parsed = parse(source)
    first = parsed.body[0] if parsed is not None and parsed.body else None
    return first.value if isinstance(first, ast.Expr) else None


def _constant(facts: Facts, name: str, depth: int) -> str | None:
    """The value that a name of a settings class, or of a module, has by default."""
    for known, variable in facts.variables.items():
        if known.upper() == name.upper():
            value = facts.platforms.env.get(known, ("", ""))[0] or variable.default
            if isinstance(value, str) and "…" in value:  # made of others, such as f"/api/{VERSION}"
                return _text(facts, _expression(variable.source), depth + 1)
            return value if isinstance(value, str) else None
    for module in facts.web_modules:
        for node in module.nodes:
            value = node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None
            target = (
                node.targets[0]
                if isinstance(node, ast.Assign)
                else node.target
                if isinstance(node, ast.AnnAssign)
                else None
            )
            if (
                isinstance(target, ast.Name)
                and target.id == name
                and (text := _text(facts, value, depth + 1)) is not None
            ):
                return text
    return None
