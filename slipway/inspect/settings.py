"""Which variables an app reads, by its settings classes, os.environ, and the libraries that people use for it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from slipway.inspect.code import Module, argument, dotted, keyword, text_of

_READERS = {
    "config",
    "env",
    "env.str",
    "env.int",
    "env.bool",
    "env.list",
    "env.url",
    "env.float",
    "decouple.config",
    "_config",
}


_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass
class Variable:
    name: str
    required: bool
    default: Any  # a constant, or None
    annotation: str
    origin: str  # the file
    source: str = ""  # the default as it is written


@dataclass
class _Settings:
    node: ast.ClassDef
    module: Module
    prefix: str = ""
    delimiter: str = ""
    sensitive: bool = False
    names: dict[str, list[str]] = field(default_factory=dict)  # of fields whose variables pydantic 1 names in Config


@dataclass
class _Collector:
    modules: list[Module]
    classes: dict[str, tuple[ast.ClassDef, Module]] = field(default_factory=dict)
    found: dict[str, Variable] = field(default_factory=dict)
    old: bool = False  # whether the settings are those of pydantic 1

    def add(self, name: str, *, required: bool, default: Any, annotation: str, origin: str, source: str = "") -> None:
        if not _NAME.fullmatch(name):
            return  # no variable can be called so
        old = self.found.get(name)
        if old is None or (required and not old.required and old.default is None):
            self.found[name] = Variable(name, required, default, annotation, origin, source)

    def is_settings(self, node: ast.ClassDef, depth: int = 0) -> bool:
        for base in node.bases:
            name = dotted(base).rpartition(".")[2]
            if name == "BaseSettings":
                return True
            if (
                depth < 8
                and name in self.classes
                and name != node.name
                and self.is_settings(self.classes[name][0], depth + 1)
            ):
                return True
        return False

    def config(self, node: ast.ClassDef, module: Module, depth: int = 0) -> _Settings:
        """Its options, those of the classes that it is made from included."""
        result = _Settings(node, module)
        for base in node.bases:
            name = dotted(base).rpartition(".")[2]
            if depth < 8 and name in self.classes and name != node.name:
                above = self.config(*self.classes[name], depth + 1)
                result.prefix, result.delimiter, result.sensitive = above.prefix, above.delimiter, above.sensitive
        for keys in _options(node):
            result.prefix = text_of(keys.get("env_prefix")) or result.prefix
            result.delimiter = text_of(keys.get("env_nested_delimiter")) or result.delimiter
            named = _constant(keys.get("fields"))
            if isinstance(named, dict):
                pairs = {key: item.get("env") for key, item in named.items() if isinstance(item, dict)}
                result.names = {str(key): [item] for key, item in pairs.items() if isinstance(item, str)}
            case = keys.get("case_sensitive")
            result.sensitive = case.value is True if isinstance(case, ast.Constant) else result.sensitive
        return result


def collect(modules: Iterable[Module]) -> dict[str, Variable]:
    """Name -> variable."""
    collector = _Collector(list(modules))
    for module in collector.modules:
        for node in module.nodes:
            if isinstance(node, ast.ImportFrom) and node.module == "pydantic":
                collector.old |= any(alias.name == "BaseSettings" for alias in node.names)
            if isinstance(node, ast.ClassDef):
                collector.classes.setdefault(node.name, (node, module))
    for name, (node, module) in collector.classes.items():
        if collector.is_settings(node) and not name.startswith("Test") and not name.endswith("TestSettings"):
            _fields(collector, node, collector.config(node, module), "")
    for module in collector.modules:
        _reads(collector, module)
    return collector.found


def _options(node: ast.ClassDef) -> list[dict[str, ast.expr]]:
    found: list[dict[str, ast.expr]] = []
    for one in node.body:
        value = one.value if isinstance(one, ast.Assign | ast.AnnAssign) else None
        target = (
            one.targets[0] if isinstance(one, ast.Assign) else one.target if isinstance(one, ast.AnnAssign) else None
        )
        if isinstance(target, ast.Name) and target.id == "model_config":
            if isinstance(value, ast.Call):
                found.append({word.arg: word.value for word in value.keywords if word.arg})
            elif isinstance(value, ast.Dict):
                pairs = zip(value.keys, value.values, strict=True)
                found.append({key: inner for name, inner in pairs if (key := text_of(name))})
        if isinstance(one, ast.ClassDef) and one.name == "Config":
            assigned = [inner for inner in one.body if isinstance(inner, ast.Assign)]
            found.append(
                {inner.targets[0].id: inner.value for inner in assigned if isinstance(inner.targets[0], ast.Name)}
            )
    return found


def _fields(
    collector: _Collector, node: ast.ClassDef, config: _Settings, above: str, *, optional: bool = False, depth: int = 0
) -> None:
    """Add the fields of a settings class, or of a model that is nested in one below the name `above`."""
    if depth > 4:
        return
    if depth:
        for base in node.bases:
            name = dotted(base).rpartition(".")[2]
            if name in collector.classes and name != node.name:
                _fields(collector, collector.classes[name][0], config, above, optional=optional, depth=depth + 1)
    for one in node.body:
        if not isinstance(one, ast.AnnAssign) or not isinstance(one.target, ast.Name):
            continue
        name, annotation = one.target.id, ast.unparse(one.annotation)
        if (
            (name.startswith("_") and name not in config.names)
            or name == "model_config"
            or annotation.startswith("ClassVar")
        ):
            continue
        required, default, aliases = _given(one.value)
        if one.value is None and collector.old and annotation.startswith("Optional["):
            required = False  # pydantic 1 takes it for None
        inner = annotation.partition("|")[0].strip().removeprefix("Optional[").rstrip("]")
        nested = collector.classes.get(inner.rpartition(".")[2])
        prefix = above or config.prefix
        if nested is not None and not _is_enum(nested[0]):
            made = one.value is not None and not required
            if config.delimiter and not collector.is_settings(nested[0]):
                _fields(
                    collector,
                    nested[0],
                    config,
                    f"{prefix}{name}{config.delimiter}",
                    optional=optional or made,
                    depth=depth + 1,
                )
            continue  # a settings class that is nested reads its own variables
        names = aliases or config.names.get(name) or [f"{prefix}{name}"]
        title = names[0] if config.sensitive or aliases else names[0].upper()
        if isinstance(one.value, ast.Call) and dotted(one.value.func) in _READERS:
            continue  # read below, under the name that it has there
        collector.add(
            title,
            required=required and not optional,
            default=default,
            annotation=annotation,
            origin=config.module.name,
            source=ast.unparse(one.value)[:80] if one.value is not None else "",
        )


def _is_enum(node: ast.ClassDef) -> bool:
    return any("Enum" in dotted(base) for base in node.bases)


def _given(value: ast.expr | None) -> tuple[bool, Any, list[str]]:
    """Whether a field must be given, its default as far as it is a constant, and the names of its variable."""
    if value is None:
        return True, None, []
    if not isinstance(value, ast.Call) or dotted(value.func).rpartition(".")[2] != "Field":
        return False, _constant(value), []
    default = argument(value, 0, "default")
    missing = default is None or (isinstance(default, ast.Constant) and default.value is ...)
    names: list[str] = []
    for key in ("validation_alias", "alias", "env"):
        given = keyword(value, key)
        if isinstance(given, ast.Call | ast.List | ast.Tuple):
            inner = given.args if isinstance(given, ast.Call) else given.elts
            names += [text for one in inner if (text := text_of(one))]
        elif text := text_of(given):
            names.append(text)
    return missing and keyword(value, "default_factory") is None, None if missing else _constant(default), names


def _constant(node: ast.expr | None) -> Any:
    if node is None:
        return None
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        if (
            isinstance(node, ast.Call)
            and node.args
            and dotted(node.func) in ("SecretStr", "AnyHttpUrl", "HttpUrl", "PostgresDsn")
        ):
            return _constant(node.args[0])
        if isinstance(node, ast.JoinedStr):
            parts = [part.value if isinstance(part, ast.Constant) else "…" for part in node.values]
            return "".join(str(part) for part in parts)
        return None


def _reads(collector: _Collector, module: Module) -> None:
    """os.environ, os.getenv, and config("X") of Starlette, decouple and environs."""
    libraries = {(node.module or "").partition(".")[0] for node in module.nodes if isinstance(node, ast.ImportFrom)} | {
        alias.name.partition(".")[0] for node in module.nodes if isinstance(node, ast.Import) for alias in node.names
    }
    reads = {"starlette", "decouple", "environs", "dotenv"} & libraries
    dotenv = "dotenv_values" in {
        alias.name for node in module.nodes if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    converted = {
        id(node.args[0]) for node in module.nodes
        if isinstance(node, ast.Call) and dotted(node.func) in ("int", "float") and len(node.args) == 1
    }  # fmt: skip
    for node in module.nodes:
        if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load) and (name := text_of(node.slice)):
            of = dotted(node.value)
            if of in ("os.environ", "environ") or (dotenv and of in ("config", "env", "settings")):
                collector.add(name, required=True, default=None, annotation="str", origin=module.name)
        if not isinstance(node, ast.Call) or not node.args or not (name := text_of(node.args[0])):
            continue
        called = dotted(node.func)
        default = argument(node, 1, "default")
        if called in ("os.getenv", "os.environ.get", "getenv", "environ.get"):
            required = default is None and id(node) in converted
            collector.add(name, required=required, default=_constant(default), annotation="str", origin=module.name)
        elif called in _READERS and reads:
            is_starlette = called in ("config", "_config") and "starlette" in reads
            given = keyword(node, "default") if is_starlette else default
            if is_starlette and given is None and len(node.args) > 2:
                given = node.args[2]
            kind = keyword(node, "cast")
            collector.add(
                name, required=given is None, default=_constant(given), origin=module.name,
                annotation=dotted(kind) if kind is not None else called.partition(".")[2] or "str",
            )  # fmt: skip
