"""The setting `database` of an app: one whole form of it, what is wrong with it, and the variables that it means."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from roles.app.module_utils import setting_forms
from slipway.base.errors import RefusedError
from slipway.schema import url as urls
from slipway.slot import envfile

PROJECT = Path(__file__).resolve().parents[3]
KINDS = ("none", "postgresql", "external", "mariadb", "sqlite")
OWNERS = ("migrate", "app")
PARTS = ("host", "port", "user", "password", "name")
URL = "DATABASE_URL"
MIGRATION_URL = "MIGRATION_DATABASE_URL"  # of a database elsewhere, for the role that changes its schema
SOCKET = "/run/postgresql"
LOOPBACK = "127.0.0.1"
PASSWORD = "SLIPWAY_DATABASE_PASSWORD"  # noqa: S105  # a name
MIGRATE_PASSWORD = "SLIPWAY_MIGRATION_PASSWORD"  # noqa: S105  # a name
CA = "/etc/{app}/database-ca.pem"
PORT = 5432
MARIADB_PORT = 3306
MARIADB_SOCKET = "/run/mysqld/mysqld.sock"
SERVERS = ("postgresql", "mariadb")  # kinds that the host itself serves, by a socket or by TCP

# What each kind is reached by where nothing else is said.
SCHEMES = {"postgresql": "postgresql+asyncpg", "mariadb": "mysql+aiomysql", "sqlite": "sqlite+aiosqlite"}
_FAMILIES = {
    "postgresql": "postgresql",
    "postgres": "postgresql",
    "mysql": "mariadb",
    "mariadb": "mariadb",
    "sqlite": "sqlite",
}
_WORDS = {"postgres": "postgresql", "mysql": "mariadb", "false": "none", "no": "none"}
_HERE = ("", "localhost", "127.0.0.1", "::1", SOCKET, f"/var{SOCKET}")
_KEYS = ("kind", "on", "url", "scheme", "parts", "owner", "connections", "ca", "tcp", *PARTS)
_SCHEME = re.compile(r"[a-z][a-z0-9]*(?:\+[a-z0-9_]+)?")
_LIKE = "Write none, external, mariadb, sqlite, or a mapping, such as {scheme: postgresql+psycopg}"


def whole(value: Any, env: Mapping[str, Any], app: str = "") -> dict[str, Any]:
    """The whole form of `database`; `env` are the app's variables. RefusedError with a sentence on what it cannot be.

    A whole form stays as it is. A URL in `env` that is that of the app's own database on the host says only how it is
    reached: with that, the database stays on the host.
    """
    given = _mapping(value)
    parts = {part: given.pop(part) for part in PARTS if part in given} or given.get("parts") or {}
    if not isinstance(parts, Mapping) or not all(isinstance(name, str) for name in parts.values()):
        raise RefusedError(
            "database: host, port, user, password and name are names of variables, such as POSTGRES_HOST."
        )
    name = given.get("url", "" if parts else URL)
    if not isinstance(name, str) or "://" in name:
        raise RefusedError(
            f"database.url is the name of the variable that has the URL, such as {URL}. Move the URL itself to "
            f"env.{URL}, and take it from ansible-vault if it has a password."
        )
    for variable in [name, *parts.values()]:
        if variable and not envfile.NAME.fullmatch(variable):
            raise RefusedError(f"database: '{variable}' cannot be the name of a variable. {_LIKE}.")
    scheme = str(given.get("scheme") or "")
    if scheme and not _SCHEME.fullmatch(scheme):
        raise RefusedError(
            f"database.scheme is {setting_forms.shown(scheme)}, but must be how the URL begins, without '://', such as "
            "postgresql+psycopg."
        )
    if not isinstance(given.get("tcp", False), bool):
        raise RefusedError(f"database.tcp is {setting_forms.shown(given['tcp'])}, but must be true or false.")
    on = _on(given)
    kind = "external" if on else given.get("kind") or _kind(scheme, name, parts, env, app)
    if kind not in KINDS:
        raise RefusedError(f"database is '{kind}', but must be one of {', '.join(KINDS)}. {_LIKE}.")
    if kind == "postgresql" and not scheme and _is_own(env.get(name), app):
        scheme = str(env[name]).partition("://")[0]
    connections = given.get("connections") or 0
    if not isinstance(connections, int) or isinstance(connections, bool):
        raise RefusedError(f"database.connections is '{connections}', but must be a number, such as 30.")
    return {
        "kind": kind,
        "on": on,
        "url": name,
        "scheme": scheme or SCHEMES.get("postgresql" if on else kind, ""),
        "parts": {part: parts[part] for part in PARTS if part in parts},
        # The others know no role that may change the schema and cannot log in.
        "owner": "app" if kind in ("sqlite", "mariadb") else str(given.get("owner") or "migrate"),
        "connections": connections,
        "ca": str(given.get("ca") or ""),
        "tcp": bool(parts) or bool(given.get("tcp", False)),
    }


def _on(given: Mapping[str, Any]) -> str:
    """The host of the environment that has the database, as the inventory calls it; "" where none is named."""
    on = given.get("on") or ""
    if not isinstance(on, str):
        raise RefusedError(f"database.on is {on!r}, but must be the name of a host of the inventory, such as db-1.")
    if on and given.get("kind") not in (None, "", "postgresql", "external"):
        raise RefusedError(
            f"database.on is for PostgreSQL on {on}, and database.kind is '{given['kind']}'. Take one of the two out."
        )
    return on


def _mapping(value: Any) -> dict[str, Any]:
    """What is declared as a mapping: a word is a kind or a scheme."""
    if value in (None, ""):
        return {}
    if value is False:
        return {"kind": "none"}
    if isinstance(value, str):
        word = value.strip()
        word = _WORDS.get(word, word)
        return {"scheme": word} if _FAMILIES.get(word.partition("+")[0]) and "+" in word else {"kind": word}
    if not isinstance(value, Mapping):
        raise RefusedError(f"database is {value!r}. {_LIKE}.")
    # YAML takes `on` without quotes for a yes.
    given = {"on" if key is True else str(key): item for key, item in value.items() if item is not None}
    if unknown := [key for key in given if key not in _KEYS]:
        raise RefusedError(setting_forms.unknown(f"database.{unknown[0]}", unknown[0], _KEYS))
    if isinstance(given.get("kind"), str):
        given["kind"] = _WORDS.get(given["kind"], given["kind"])
    return given


def _kind(scheme: str, name: str, parts: Mapping[str, str], env: Mapping[str, Any], app: str) -> str:
    """Where the database is, as nobody has said so: elsewhere if the app is given its address."""
    variable = name or parts.get("host", "")
    if not name and env.get(variable) in ("localhost", LOOPBACK):
        variable = ""
    if env.get(variable) not in (None, "") and not _is_own(env[variable], app):
        return "external"
    family = scheme.partition("+")[0] or "postgresql"
    if family not in _FAMILIES:
        raise RefusedError(f"database.scheme is '{scheme}', but must be like {', '.join(SCHEMES.values())}.")
    return _FAMILIES[family]


def _is_own(url: Any, app: str) -> bool:
    """Whether a URL is that of the app's own database on the host: by its names, and without a password."""
    try:
        known = urls.libpq_environment(str(url or ""))
    except RefusedError:
        return False
    names = {known.get("PGDATABASE"), known.get("PGUSER", app)}
    hosts = known.get("PGHOST", "") in _HERE and known.get("PGPORT", str(PORT)) == str(PORT)
    return bool(app) and names == {app} and hosts and "PGPASSWORD" not in known and "PGHOSTADDR" not in known


def without_own(database: Mapping[str, Any], env: Mapping[str, Any]) -> dict[str, Any]:
    """The variables of an app, without a URL that has only said by which driver the database of the host is reached."""
    if database["kind"] != "postgresql" or not env.get(database["url"]):
        return dict(env)
    return {name: item for name, item in env.items() if name != database["url"]}


def port(database: Mapping[str, Any]) -> int:
    """The port of the host's own server of this kind."""
    return MARIADB_PORT if database["kind"] == "mariadb" else PORT


def _in_parts(database: Mapping[str, Any], role: str, app: str) -> dict[str, str]:
    values = {
        "host": LOOPBACK,
        "port": str(port(database)),
        "user": role,
        "password": f"{{{_password(role, app)}}}",
        "name": app,
    }
    return {name: values[part] for part, name in database["parts"].items()}


def _password(role: str, app: str) -> str:
    """The name that the password of a role has in the host's own file."""
    return PASSWORD if role == app else MIGRATE_PASSWORD


def passwords(database: Mapping[str, Any], app: str) -> dict[str, str]:
    """The names of the passwords that the host makes, by the roles of the database; they are for TCP alone."""
    if database["kind"] not in SERVERS or not database["tcp"]:
        return {}
    roles = [app] if database["owner"] == "app" else [app, f"{app}_migrate"]
    return {role: _password(role, app) for role in roles}


def filled(database: Mapping[str, Any], app: str, role: str = "") -> dict[str, str]:
    """The variables with a password in them, which only the host knows: `{NAME}` stands for it."""
    role = role or app
    if not passwords(database, app):
        return {}
    if database["parts"]:
        return _in_parts(database, role, app)
    secret = _password(role, app)
    return {database["url"]: f"{database['scheme']}://{role}:{{{secret}}}@{LOOPBACK}:{port(database)}/{app}"}


def engine_kind(database: Mapping[str, Any], env: Mapping[str, Any]) -> str:
    """What the engine may ask: none, postgresql, mysql or sqlite."""
    kind = str(database["kind"])
    if kind == "external":
        scheme = str(env.get(database["url"]) or "postgresql").partition("://")[0]
        kind = _FAMILIES.get(scheme.partition("+")[0], "postgresql")
    return "mysql" if kind == "mariadb" else kind


def variables(database: Mapping[str, Any], app: str, role: str = "") -> dict[str, str]:
    """The variables by which an app, or its migrations as another `role`, reach a database on the host.

    The URL has a host, which pydantic wants, and the directory of the socket, which is what the drivers take.
    """
    scheme, name = database["scheme"], database["url"]
    if database["kind"] == "postgresql":
        return {} if database["tcp"] else {name: f"{scheme}://{role or app}@localhost/{app}?host={SOCKET}"}
    if database["kind"] == "mariadb":
        return {} if database["tcp"] else {name: f"{scheme}://{app}@localhost/{app}?unix_socket={MARIADB_SOCKET}"}
    if database["kind"] == "external" and database["ca"]:  # libpq and asyncpg read both, where the URL says nothing
        return {"PGSSLMODE": "verify-full", "PGSSLROOTCERT": CA.format(app=app)}
    if database["kind"] == "sqlite":
        return {name: f"{scheme}:////var/lib/{app}/{app}.sqlite3"}
    return {}


def of_migrations(database: Mapping[str, Any], env: Mapping[str, Any], app: str, role: str) -> dict[str, Any]:
    """The variables of migrations that are others than the app's: those by which they reach the database."""
    if database["kind"] == "external" and env.get(MIGRATION_URL):
        if database["url"]:
            return {database["url"]: env[MIGRATION_URL]}
        known = urls.libpq_environment(str(env[MIGRATION_URL]))
        names = {"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "password": "PGPASSWORD", "name": "PGDATABASE"}
        return {name: known[names[part]] for part, name in database["parts"].items() if names[part] in known}
    if database["kind"] == "external":
        return {}
    return variables(database, app, role)


def only_one_host(database: Mapping[str, Any], hosts: int) -> Iterator[str]:
    """Why an app with such a database cannot be on several hosts."""
    if database["kind"] == "sqlite":
        yield (
            f"database is sqlite, a file on one host, and each of the {hosts} hosts would have data of its own. Set "
            "database to external, and env.DATABASE_URL to a database that all of them reach."
        )


def names(database: Mapping[str, Any]) -> list[str]:
    """The variables without which an app does not reach its database."""
    if database["kind"] == "none":
        return []
    return [database["url"]] if database["url"] else list(database["parts"].values())


def faults(app: str, database: Mapping[str, Any], env: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with the whole form of app `app`, a sentence each."""
    where = f"apps.{app}.database"
    if database["owner"] not in OWNERS:
        yield f"{where}.owner is '{database['owner']}', but must be one of {', '.join(OWNERS)}."
    if database["connections"] < 0:
        yield f"{where}.connections is {database['connections']}, but must be 0 or more."
    yield from _of_tls(where, app, database, env)
    for name in names(database):
        value = env.get(name)
        if value not in (None, "") and database["kind"] in SERVERS and not isinstance(value, Mapping):
            yield (
                f"apps.{app}.env.{name} is one of the variables of {where}, and the host sets it for its own database. "
                "Take it out of env, or set all of them there, for a database elsewhere."
            )
        if database["on"]:
            if value is not None:
                yield (
                    f"apps.{app}.env.{name} is one of the variables of {where}, and site.yml sets it for the database "
                    f"on {database['on']}. Take it out of env."
                )
        elif database["kind"] == "external" and value in (None, ""):
            state = "empty" if value == "" else "not set"
            meant = "the URL of the database" if name == database["url"] else "what the database elsewhere wants there"
            yield (
                f"apps.{app}.env.{name} is {state}, and {where} is external. Set it to {meant}, from ansible-vault, or "
                f"take external out of {where} for a database on the host."
            )
        elif value == "":
            yield (
                f"apps.{app}.env.{name} is empty. Set it to the URL of a database, or leave it out for one on the host."
            )
        elif isinstance(value, Mapping) and "generate" in value:
            yield f"apps.{app}.env.{name} cannot be generated. Leave it out for a database on the host."
    family = _FAMILIES.get(str(database["scheme"]).partition("+")[0])
    kind = "postgresql" if database["on"] else database["kind"]
    if kind in SCHEMES and family != kind:
        yield f"{where}.scheme is '{database['scheme']}', which is none of {kind}. Write one like {SCHEMES[kind]}."


def _of_tls(where: str, app: str, database: Mapping[str, Any], env: Mapping[str, Any]) -> Iterator[str]:
    """Whether the authority of `ca` is asked: the URL could say otherwise, and it counts before the environment."""
    if not database["ca"]:
        return
    if database["on"]:
        yield f"{where}.ca is for a database elsewhere; the authority of {database['on']} is made there. Remove it."
        return
    if database["kind"] != "external":
        yield f"{where}.ca is for a database elsewhere, but this one is on the host. Remove it."
        return
    if engine_kind(database, env) != "postgresql":
        yield f"{where}.ca is for PostgreSQL, and env.{database['url']} is another database. Remove it."
    if not any(map(_has_certificate, (Path(database["ca"]), PROJECT / database["ca"]))):
        yield f"{where}.ca is '{database['ca']}', which is no PEM file with a certificate on this machine."
    for name in filter(None, (database["url"], MIGRATION_URL)):
        query = str(env.get(name) or "").partition("?")[2]
        if said := re.search(r"(?:^|&)(ssl|sslmode|sslrootcert)=", query):
            yield (
                f"apps.{app}.env.{name} has {said[1]}= in its URL, which would count in place of {where}.ca. Take it "
                "out of the URL: with ca, TLS is verified in full."
            )


def _has_certificate(path: Path) -> bool:
    try:
        return "-----BEGIN CERTIFICATE-----" in path.read_text()
    except (OSError, ValueError):
        return False
