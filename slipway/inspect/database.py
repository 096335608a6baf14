"""The database: its kind, how the app is told of it, and who makes its tables."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field
from typing import Any

from slipway.inspect import data
from slipway.inspect.code import Module, dotted, keyword, text_of
from slipway.inspect.facts import Facts
from slipway.inspect.proposal import Proposal, Template

_URL = re.compile(
    r"(^|_)(DATABASE|DB|POSTGRES|POSTGRESQL|PG|SQLALCHEMY|SQL|MYSQL|MARIADB|MONGO|MONGODB)\w*?_?(URL|URI|DSN|CONNECTION_STRING|CONNECTION)$"
)
_PARTS = {
    "host": ("HOST", "SERVER", "HOSTNAME", "ADDRESS", "ADDR"),
    "port": ("PORT",),
    "user": ("USER", "USERNAME", "LOGIN"),
    "password": ("PASSWORD", "PASS", "PWD"),
    "name": ("DB", "NAME", "DATABASE", "DBNAME", "DB_NAME", "DATABASE_NAME", "BASE"),
}
_PREFIX = re.compile(r"(^|_)(DATABASE|DB|POSTGRES|POSTGRESQL|POSTGRE|PG|SQL|MYSQL|MARIADB)_{0,2}$|^PG$")
_SCHEME = re.compile(r"^\s*((?:postgres(?:ql)?|mysql|mariadb|sqlite|mongodb|asyncpg)(?:\+\w+)?)://")
_DRIVERS = {
    "postgresql": ("asyncpg", "psycopg", "psycopg2", "psycopg2-binary", "psycopg-binary", "pg8000", "aiopg"),
    "mariadb": ("aiomysql", "pymysql", "mysqlclient", "asyncmy", "mysql-connector-python", "mysql-connector"),
    "mongodb": ("motor", "pymongo", "beanie", "odmantic", "mongoengine"),
}
_FOREIGN = {"mongodb": "MongoDB", "mssql": "SQL Server", "cassandra": "Cassandra", "neo4j": "Neo4j"}


@dataclass
class Signs:
    urls: list[str] = field(default_factory=list)
    parts: dict[str, str] = field(default_factory=dict)
    schemes: list[tuple[str, str]] = field(default_factory=list)  # scheme, where
    files: list[tuple[str, str]] = field(default_factory=list)  # path of an SQLite file, where
    drivers: dict[str, str] = field(default_factory=dict)  # kind -> package
    images: dict[str, str] = field(default_factory=dict)  # kind -> where


def kind_of(scheme: str) -> str:
    base = scheme.partition("+")[0]
    return {"postgres": "postgresql", "asyncpg": "postgresql", "mysql": "mariadb"}.get(base, base)


def propose(facts: Facts, proposal: Proposal) -> set[str]:
    """Propose the database's lines; the names of the variables that are thereby given."""
    signs = _signs(facts)
    kind, reason = _kind(facts, signs)
    if kind in _FOREIGN:
        proposal.say("database", "none", f"{reason}: {_FOREIGN[kind]}, which Slipway does not provide")
        for name in signs.urls:
            proposal.say("env", {name: vault(proposal.name, name)}, "")
        title = ", ".join(signs.urls) or "its address"
        proposal.warn(
            f"The app wants {_FOREIGN[kind]}, which Slipway does not provide: give the address of one as {title}."
        )
        return set(signs.urls)
    if kind == "none":
        proposal.say("database", "none", reason)
        return set()
    if kind == "sqlite":
        return _sqlite(facts, proposal, signs, reason)
    return _server(facts, proposal, signs, kind, reason)


def vault(app: str, name: str) -> Template:
    return Template("{{ vault_" + re.sub(r"\W", "_", f"{app}_{name.lower()}") + " }}")


def _server(facts: Facts, proposal: Proposal, signs: Signs, kind: str, reason: str) -> set[str]:
    taken_apart = ""
    value: dict[str, Any] = {} if kind == "postgresql" else {"kind": kind}
    required = [name for name in signs.urls if facts.variables[name].required]
    used: set[str] = set()
    if required or (signs.urls and len(signs.parts) < 3):
        names = required or signs.urls[:1]
        first = next((name for name in names if name.upper() == "DATABASE_URL"), names[0])
        value["url"] = first
        scheme = _scheme_of(facts, signs, first, kind)
        value["scheme"] = scheme
        used = {first}
        taken_apart = _taken_apart(facts, first) if kind == "postgresql" else ""
        reason = f"{facts.variables[first].origin} reads {first}"
        defaults = [name for name in signs.urls if name not in names and _is_literal(facts, name, kind)]
        for other in [name for name in [*names, *defaults] if name != first]:
            other_scheme = _scheme_of(facts, signs, other, kind)
            proposal.say("env", {other: _local_url(proposal.name, kind, other_scheme)}, "")
            proposal.warn(f"{other} is a second address of the database; the one proposed is of the local one.")
            used.add(other)
    elif len(signs.parts) >= 3:
        value.update({part: signs.parts[part] for part in _PARTS if part in signs.parts})
        used = set(signs.parts.values())
        first = next(iter(signs.parts.values()))
        reason = f"{facts.variables[first].origin} reads the parts"
        if kind == "mariadb" and "port" not in signs.parts:
            pass
    else:
        proposal.warn(f"No variable for the address of the database was found ({reason}): see database.url.")
    if taken_apart:
        value["tcp"] = True
        reason += f"; {taken_apart} takes it apart, which leaves no socket in it"
    owner = _owner(facts)
    if owner:
        value["owner"] = "app"
        reason += f"; {owner}"
    proposal.say("database", value, reason)
    return used


def _is_literal(facts: Facts, name: str, kind: str) -> bool:
    """Whether a variable has an address as its default, which would be taken where it is not given."""
    default = facts.variables[name].default
    return isinstance(default, str) and (found := _SCHEME.match(default)) is not None and kind_of(found[1]) == kind


def _local_url(app: str, kind: str, scheme: str) -> str:
    if kind == "mariadb":
        return f"{scheme}://{app}@localhost/{app}?unix_socket=/run/mysqld/mysqld.sock"
    return f"{scheme}://{app}@localhost/{app}?host=/run/postgresql"


def _sqlite(facts: Facts, proposal: Proposal, signs: Signs, reason: str) -> set[str]:
    if signs.urls and (facts.variables[signs.urls[0]].required or not signs.files):
        name = signs.urls[0]
        value = {"kind": "sqlite", "url": name}
        scheme = _scheme_of(facts, signs, name, "sqlite")
        if scheme:
            value["scheme"] = scheme
        proposal.say("database", value, reason)
        return {name}
    proposal.say("database", "sqlite", reason)
    for path, where in signs.files[:3]:
        proposal.say("data", [data.place(facts, path) or path], f"{where}: SQLite")
    proposal.warn("SQLite is a file of one host: the app cannot be on a second one.")
    return set(signs.urls)


def _kind(facts: Facts, signs: Signs) -> tuple[str, str]:
    """The kind of database and why: by addresses, by parts, by compose's images, by drivers."""
    for name in signs.urls:
        value, origin = facts.example(name)
        if (found := _SCHEME.match(value)) and not (kind_of(found[1]) == "sqlite" and signs.images):
            return kind_of(found[1]), f"{origin}: {name}"
    for name in signs.urls:
        default = facts.variables[name].default
        if isinstance(default, str) and (found := _SCHEME.match(default)) and kind_of(found[1]) != "sqlite":
            return kind_of(found[1]), f"{facts.variables[name].origin}: {name}"
    if len(signs.parts) >= 3:
        first = next(iter(signs.parts.values()))
        port = signs.parts.get("port", "")
        ports = {str(facts.variables[port].default), facts.example(port)[0]} if port else set()
        if "MYSQL" in first.upper() or "MARIA" in first.upper() or "3306" in ports:
            return "mariadb", first
        if "5432" in ports:
            return "postgresql", first
        if re.search(r"POSTGRES|PG", first.upper()) or any(kind_of(one) == "postgresql" for one, _ in signs.schemes):
            return "postgresql", first
    literals = [kind_of(one) for one, _ in signs.schemes]
    for kind in ("postgresql", "mariadb", "mongodb"):
        if kind in signs.images and (kind in literals or kind in signs.drivers or signs.urls or signs.parts):
            return kind, signs.images[kind]
    for kind in ("postgresql", "mariadb", "mongodb", "sqlite"):
        if kind in literals:
            return kind, next(where for one, where in signs.schemes if kind_of(one) == kind)
    for kind, package in signs.drivers.items():
        if signs.urls or signs.parts or kind == "mongodb" or _uses(facts, package):
            return kind, f"{package} is installed"
    if signs.files:
        return "sqlite", signs.files[0][1]
    return "none", "no driver, address or image of a database"


def _uses(facts: Facts, package: str) -> bool:
    name = package.removesuffix("-binary")
    return any(name in dotted_names(module) for module in facts.modules) or any(
        called.endswith(("create_engine", "create_async_engine"))
        for module in facts.modules
        for _, called in module.calls()
    )


def dotted_names(module: Module) -> set[str]:
    """The top packages that a module imports."""
    found: set[str] = set()
    for node in module.nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found


def _signs(facts: Facts) -> Signs:
    signs = Signs()
    names = facts.variables
    signs.urls = sorted(
        (
            name
            for name in names
            if _URL.search(name.upper()) and not re.search(r"TEST|REDIS|ELASTIC|PREFIX", name.upper())
        ),
        key=lambda name: (not names[name].required, name.upper() != "DATABASE_URL", len(name)),
    )
    groups: dict[str, dict[str, str]] = {}
    for name in names:
        for part, ends in _PARTS.items():
            for end in ends:
                prefix = name.upper().removesuffix(end)
                if prefix != name.upper() and _PREFIX.search(prefix) and "TEST" not in prefix:
                    groups.setdefault(prefix.rstrip("_"), {}).setdefault(part, name)
    usable = [group for group in groups.values() if "name" in group and ("host" in group or "user" in group)]
    signs.parts = max(
        usable,
        key=lambda group: (sum(names[one].required for one in group.values()), len(group), "POSTGRES" in str(group)),
        default={},
    )
    if signs.parts and "port" not in signs.parts:
        port = next((name for name in names if re.fullmatch(r"(\w+_)?(DATABASE|DB|POSTGRES)_PORT", name.upper())), "")
        signs.parts = {**signs.parts, "port": port} if port else signs.parts
    for module in facts.modules:
        _literals(facts, module, signs)
    for kind, packages in _DRIVERS.items():
        for package in packages:
            if package in facts.dependencies:
                signs.drivers.setdefault(kind, package)
    for service in facts.platforms.services:
        found = re.search(r"postgres|postgis|timescale|mysql|mariadb|mongo", service.image)
        if found:
            kind = {
                "postgis": "postgresql",
                "postgres": "postgresql",
                "timescale": "postgresql",
                "mongo": "mongodb",
            }.get(found[0], "mariadb")
            signs.images.setdefault(kind, service.origin)
    return signs


def _literals(facts: Facts, module: Module, signs: Signs) -> None:
    for node in module.nodes:
        text = text_of(node) if isinstance(node, ast.Constant) else None
        if isinstance(node, ast.JoinedStr) and len(node.values) > 1:
            head = text_of(node.values[0]) or ""
            if re.fullmatch(r"sqlite(\+\w+)?:///", head):
                path = data.path_of(facts, module, ast.JoinedStr(values=node.values[1:]))
                if path is not None and not path.startswith("/"):
                    signs.files.append((path, module.name))
        if text and (found := _SCHEME.match(text)):
            signs.schemes.append((found[1], module.name))
            file = re.match(r"^sqlite(?:\+\w+)?:///(?!:memory:)(\.?/?[\w./-]+)$", text)
            if file and not file[1].startswith("/"):
                signs.files.append((file[1].removeprefix("./"), module.name))
        if text and (found := re.match(r"tortoise\.backends\.(sqlite|asyncpg|psycopg|mysql)$", text)):
            signs.schemes.append(({"mysql": "mysql", "sqlite": "sqlite"}.get(found[1], "postgres"), module.name))
        if isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if text_of(key) == "file_path" and (path := data.path_of(facts, module, value)) is not None:
                    signs.files.append((path, module.name))
        if isinstance(node, ast.Call):
            called = dotted(node.func)
            if called.endswith(("URL.create", "Dsn.build", "MultiHostUrl.build")):
                given = keyword(node, "drivername") or keyword(node, "scheme") or (node.args[0] if node.args else None)
                if given is not None and (text := text_of(given)) and (found := _SCHEME.match(f"{text}://")):
                    signs.schemes.append((found[1], module.name))
            elif called in ("sqlite3.connect", "aiosqlite.connect") and node.args:
                text = text_of(node.args[0])
                if text and text != ":memory:" and not text.startswith("/"):
                    signs.files.append((text.removeprefix("./"), module.name))
                elif text is None:
                    path = data.path_of(facts, module, node.args[0])
                    signs.schemes.append(("sqlite", module.name))
                    if path is not None and not path.startswith("/"):
                        signs.files.append((path, module.name))


def _scheme_of(facts: Facts, signs: Signs, name: str, kind: str) -> str:
    """The scheme that the app expects: of an example, of the default, of the code, or by its driver."""
    value, _ = facts.example(name)
    default = facts.variables[name].default
    for text in (value, default):
        if isinstance(text, str) and (found := _SCHEME.match(text)) and kind_of(found[1]) == kind:
            return found[1]
    for scheme, _ in signs.schemes:
        if kind_of(scheme) == kind and "+" in scheme:
            return scheme
    is_async = any(
        called.endswith(("create_async_engine", "async_engine_from_config"))
        for one in facts.modules
        for _, called in one.calls()
    )
    return {
        ("postgresql", True): "postgresql+psycopg"
        if "asyncpg" not in facts.dependencies and "psycopg" in facts.dependencies
        else "postgresql+asyncpg",
        ("postgresql", False): "postgresql+psycopg"
        if "psycopg" in facts.dependencies and "sqlalchemy" in facts.dependencies
        else "postgresql",
        ("mariadb", True): "mysql+asyncmy" if "asyncmy" in facts.dependencies else "mysql+aiomysql",
        ("mariadb", False): "mysql+pymysql" if "pymysql" in facts.dependencies else "mysql",
        ("sqlite", True): "sqlite+aiosqlite",
        ("sqlite", False): "sqlite",
    }.get((kind, is_async), "postgresql")


def _taken_apart(facts: Facts, name: str) -> str:
    """The module that reads host and password out of the URL, as a URL with the directory of a socket has none."""
    for module in facts.modules:
        for call, called in module.calls():
            is_parser = called.rpartition(".")[2] in ("urlparse", "urlsplit", "parse_dsn")
            if is_parser and call.args and dotted(call.args[0]).rpartition(".")[2].upper() == name.upper():
                return module.name
    # asyncpg without SQLAlchemy reads the host and not the query, in which the directory of the socket is.
    return "databases" if {"databases", "asyncpg"} <= set(facts.dependencies) else ""


def _is_called(facts: Facts, module: Module, call: ast.Call) -> bool:
    """Whether the function around a call is named anywhere but in its definition."""
    around = [
        node
        for node in module.nodes
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.lineno <= call.lineno <= (node.end_lineno or node.lineno)
    ]
    if not around:
        return True
    name = around[0].name
    if any(dotted(one).rpartition(".")[2] == "asynccontextmanager" for one in around[0].decorator_list):
        return True
    decorated = any("on_event" in ast.unparse(one) or "startup" in ast.unparse(one) for one in around[0].decorator_list)
    return decorated or any(
        isinstance(node, ast.Name | ast.Attribute) and dotted(node).rpartition(".")[2] == name
        for other in facts.web_modules
        for node in other.nodes
    )


def _owner(facts: Facts) -> str:
    """Why the app itself has to own the tables; empty if it does not."""
    for module in facts.web_modules:
        for call, name in module.calls():
            last = name.rpartition(".")[2]
            if not _is_called(facts, module, call):
                continue
            if last == "create_all" or (
                last == "run_sync" and call.args and dotted(call.args[0]).endswith("create_all")
            ):
                return f"create_all in {module.name}"
            if last == "generate_schemas" or (
                name.endswith("register_tortoise") and _true(keyword(call, "generate_schemas"))
            ):
                return f"generate_schemas in {module.name}"
            if name.endswith("command.upgrade"):
                return f"upgrade in {module.name}"
            if last in ("init_db", "generate_schema_for_client"):
                return f"{last} in {module.name}"
    return ""


def _true(node: object) -> bool:
    return getattr(node, "value", None) is True
