"""What the declared apps mean for the roles: their whole settings, their paths, their databases and their sites."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from ansible.errors import AnsibleFilterError

PROJECT = Path(__file__).resolve().parents[1]
if str(PROJECT) not in sys.path:  # where Ansible loads this file, it is not
    sys.path.append(str(PROJECT))

from roles.app.filter_plugins import app_settings  # noqa: E402  # the path comes first
from roles.app.module_utils import (  # noqa: E402  # the path comes first
    background_forms,
    database,
    entry_checks,
    env_values,
    services,
    setting_forms,
)
from slipway.base import settings as engine  # noqa: E402  # the path comes first
from slipway.base.errors import RefusedError  # noqa: E402  # the path comes first
from slipway.schema import url  # noqa: E402  # the path comes first

Declared = Mapping[str, Mapping[str, Any]]
Settings = Mapping[str, Mapping[str, Any]]

# The app of this repository: inventories of before `repository` was required do not say where it is, nor what it needs.
BUNDLED: dict[str, dict[str, Any]] = {"logbook": {"repository": ".", "required_env": ["SECRET_KEY"]}}

SLOTS = 2  # both run while one takes over from the other
TOOLS = 3  # a migration, the engine's questions, and a person
LEAST_LIMIT = 25  # what SQLAlchemy opens by itself in one process is 15
AUTOMATIC_WORKERS = (2, 8)  # at least and at most, where it is left to the host's processors


@cache
def specification() -> dict[str, dict[str, Any]]:
    """What an app may declare: the options of role `app`; what its `tls` may be is said by role `certificate`."""
    options = yaml.safe_load((PROJECT / "roles/certificate/meta/argument_specs.yml").read_text())
    source = options["argument_specs"]["main"]["options"]["certificate_source"]["options"]
    declared = app_settings.specification()
    return {**declared, "tls": {**declared["tls"], "options": source}}


BUILT_WITH = {"npm": ("nodejs", "npm"), "npx": ("nodejs", "npm"), "node": ("nodejs",)}  # program -> packages of Debian


def settings(apps: Declared, defaults: Mapping[str, Any] | None = None) -> dict[str, dict[str, Any]]:
    """The whole settings of each app: what it declares, over the inventory's `app_defaults`, over those of the role."""
    found = {}
    for name, declared in apps.items():
        common = {**BUNDLED.get(name, {}), **(defaults or {})}
        try:
            found[name] = app_settings.complete(declared, common, specification(), name)
        except AnsibleFilterError as error:
            raise AnsibleFilterError(_with_path(f"apps.{name}", error.message, {**common, **declared})) from error
    return found


def _with_path(where: str, sentence: str, declared: Mapping[str, Any]) -> str:
    """A sentence that begins with a key, or with something else, behind the place that it is about."""
    keys = {str(key) for key in (*specification(), *declared)}
    is_key = any(re.match(rf"{re.escape(key)}[ .\[]", sentence) for key in keys)
    return f"{where}.{sentence}" if is_key else f"{where}: {sentence}"


def faults(apps: Any, defaults: Any = None, hosts: int = 1, environment: str = "prod") -> list[str]:
    """What is wrong with the forms of the apps' settings, a sentence for each app; they go to `hosts`.

    `apps` and `defaults` are whatever the inventory has there.
    """
    if shapeless := list(_shapes(apps, defaults, environment)):
        return shapeless
    found = []
    whole: dict[str, dict[str, Any]] = {}
    for name, declared in apps.items():
        try:
            whole |= settings({name: declared}, defaults)
        except AnsibleFilterError as error:
            found.append(error.message)
    for name, app in whole.items():
        found += [
            f"apps.{name}.health_headers: Nginx empties {header}, so that no client can forge it. Remove it."
            for header in app["health_headers"]
            if header.lower() in emptied_headers()
        ]
        if hosts > 1:
            found += [f"apps.{name}.{sentence}" for sentence in database.only_one_host(app["database"], hosts)]
            found += [
                f"apps.{name}.env.{variable} is generated, and each of the {hosts} hosts would make another value. "
                "Set one for all of them, from ansible-vault."
                for variable in env_values.generated(app["env"])
            ]
    return [*found, *_shared_paths(whole)]


def _shapes(apps: Any, defaults: Any, environment: str) -> Iterator[str]:
    """What is wrong before there is a single setting: `apps`, its entries and `app_defaults` are mappings."""
    main = f"inventories/{environment}/group_vars/{environment}/main.yml"
    if not isinstance(apps, Mapping) or not apps:
        yield (
            f"'apps' must be a mapping of app names to their settings, for example `apps: {{shop: {{repository: "
            f"git@git.example.com:me/shop.git, domains: [shop.example.com]}}}}`; set it in {main}."
        )
        return
    for name, entry in apps.items():
        if not isinstance(name, str):
            yield f"apps has an app whose name YAML takes for {setting_forms.shown(name)}. Write the name in quotes."
        elif not isinstance(entry, Mapping):
            yield (
                f"apps.{name} is {setting_forms.shown(entry, secret=isinstance(entry, str))}, but must be a mapping of "
                f"settings, with repository and domains, each on a line of its own below `{name}:`."
            )
    if defaults is not None and not isinstance(defaults, Mapping):
        yield f"app_defaults is {setting_forms.shown(defaults)}, but must be a mapping of settings for all apps."
    for sentence in app_settings.form_faults(defaults or {}, specification()) if isinstance(defaults, Mapping) else ():
        yield f"app_defaults.{sentence}"


def present(apps: Settings) -> dict[str, Mapping[str, Any]]:
    """The apps that the hosts are to have."""
    return {name: app for name, app in apps.items() if not ("state" in app and app["state"] == "absent")}


def names(apps: Declared) -> list[str]:
    """The names of the declared apps that the hosts are to have."""
    return list(present(apps))


def absent(apps: Declared, here: list[str]) -> list[str]:
    """The names of those of the apps that are to go from a host, which has the apps `here`."""
    return [name for name in apps if name not in present(apps) and name in here]


def served(apps: Settings, prepared: list[str], certified: list[str]) -> dict[str, Mapping[str, Any]]:
    """Of the apps those that this run prepares, and those that a run before has: they have a certificate."""
    return {name: app for name, app in apps.items() if name in (*prepared, *certified)}


def certified_by(apps: Settings, provider: str) -> list[str]:
    """The names of the apps whose certificate comes from such a provider."""
    return [name for name, app in apps.items() if app["tls"].get("provider") == provider]


def checks(apps: Settings, environment: str, hosts: Sequence[str] = ()) -> list[str]:
    """What is wrong with the whole settings of the apps beyond their forms, a sentence each; `hosts` are its hosts."""
    found = [
        sentence
        for name, app in apps.items()
        for sentence in (
            *entry_checks.repository(f"apps.{name}", app),
            *app_settings.faults(app, name, environment, {**_provided(app), **app["env"]}),
            *(background_forms.host_faults(f"apps.{name}", app, hosts) if hosts else ()),
        )
    ]
    return [*found, *entry_checks.domains_twice(apps), *services.twice(apps)]


def _provided(app: Mapping[str, Any]) -> dict[str, str]:
    """The variables that an app has without declaring them, for what it requires; the role works out their values."""
    names = [
        *database.names(app["database"]),
        "DATABASE_POOL_SIZE",
        "STATE_DIRECTORY",
        app.get("environment_variable", "ENV"),
    ]
    return dict.fromkeys([str(name) for name in names if name], "provided")


def _shared_paths(whole: Settings) -> Iterator[str]:
    """Directories of two apps, of which one is inside of the other."""
    paths = [(name, path) for name, app in whole.items() for path in app["writable_paths"]]
    for name, path in paths:
        for owner, other in paths:
            if name != owner and engine.is_inside(path, other):
                yield (
                    f"apps.{name}.writable_paths has {path}, which is inside of {other} of apps.{owner}. Give each app "
                    "directories of its own."
                )


@cache
def emptied_headers() -> frozenset[str]:
    """Headers that Nginx empties, in lower case."""
    known = yaml.safe_load((PROJECT / "roles/nginx/vars/main.yml").read_text())
    return frozenset(name.lower() for name in known["__nginx_emptied_headers"])


def databases(apps: Settings, processors: int, of_kind: str = "postgresql") -> list[dict[str, Any]]:
    """The databases to have on the host: [{name, connections, limit, owner, tcp}], for the apps that have one there.

    `connections` is what an app is counted with: what it says itself, or pool x (slots x workers + processes and jobs),
    and some for tools. An app that says nothing may hold some more for a moment (`limit`), as most do not read its
    pool_size.
    """
    return [
        {
            "name": name,
            "connections": (counted := _connections(app, processors)),
            "limit": counted if app["database"]["connections"] else max(counted, LEAST_LIMIT),
            "owner": app["database"]["owner"],
            "tcp": app["database"]["tcp"],
        }
        for name, app in apps.items()
        if app["database"]["kind"] == of_kind
    ]


def mariadb(apps: Settings, processors: int) -> list[dict[str, Any]]:
    """The databases to have in the host's MariaDB: [{name, connections, limit, tcp}], counted like the others."""
    return [
        {
            "name": name,
            "connections": (counted := _connections(app, processors)),
            "limit": counted if app["database"]["connections"] else max(counted, LEAST_LIMIT),
            "tcp": app["database"]["tcp"],
        }
        for name, app in apps.items()
        if app["database"]["kind"] == "mariadb"
    ]


def _connections(app: Mapping[str, Any], processors: int) -> int:
    if app["database"]["connections"]:
        return int(app["database"]["connections"])
    least, most = AUTOMATIC_WORKERS
    workers = app["workers"] or min(most, max(least, processors))
    return int(app["pool_size"] * (SLOTS * workers + background_forms.most_at_once(app)) + TOOLS)


def paths(app: str) -> dict[str, str]:
    """The paths of an app that one role makes and another one, or the engine, uses."""
    return {
        "root": f"/srv/{app}",
        "upstream_socket": f"/srv/{app}/live/http.sock",  # through the link that a deploy moves
        "certificate": f"/etc/ssl/slipway/{app}/fullchain.pem",
        "certificate_key": f"/etc/ssl/slipway/{app}/privkey.pem",
        "access_log": f"/var/log/nginx/{app}.access.log",
    }


def sites(apps: Settings) -> list[dict[str, Any]]:
    """What Nginx serves, one site an app: its settings but for secrets, its name and its paths."""
    return [
        {
            **app_settings.public(app),
            "name": name,
            **paths(name),
            "password_file": _password_file(name) if app["basic_auth"] else "",
            "static": _static(app),
        }
        for name, app in apps.items()
    ]


def _static(app: Mapping[str, Any]) -> list[dict[str, str]]:
    """What Nginx serves of a release: [{url, below, name}], the longest URL first, as Nginx takes the first that fits.

    `below` is the directory in the release, "" for its top, and `name` that of a single file, "" for all that is there.
    """
    found = []
    for place in app["static"]:
        path = "/".join(filter(None, (app["directory"], place["path"])))
        below, _, name = ("", "", "") if place["url"].endswith("/") else path.rpartition("/")
        found.append({"url": place["url"], "below": f"/{below or path}" if below or not name else "", "name": name})
    return sorted(found, key=lambda place: place["url"], reverse=True)


def password_files(apps: Settings) -> dict[str, str]:
    """What the files of names and hashed passwords have in them, by their paths."""
    lines = {name: app["basic_auth"] for name, app in apps.items() if app["basic_auth"]}
    return {_password_file(name): "\n".join([*found, ""]) for name, found in lines.items()}


def _password_file(app: str) -> str:
    return f"/etc/nginx/{app}.htpasswd"


def packages(apps: Settings) -> list[str]:
    """The packages of Debian that the apps want on their host, and those of programs that their builds begin with."""
    named = {package for app in apps.values() for package in app["packages"]}
    programs = {str(command).split(maxsplit=1)[0] for app in apps.values() for command in app["build"] if command}
    return sorted(named.union(*(BUILT_WITH.get(program, ()) for program in programs)))


def generating(apps: Settings) -> list[str]:
    """The apps with variables whose values the host makes."""
    return [
        name for name, app in apps.items() if env_values.generated(app["env"]) or app_settings.host_secrets(app, name)
    ]


def access(apps: Settings) -> list[dict[str, Any]]:
    """What the users of each app may reach: [{name, user, build_user, migrate_user, database, build_from}].

    `database` is where it is, [{host, port}], unless on the host's own socket; `build_from` are the indexes and proxies
    that `build_env` names.
    """
    return [
        {
            "name": name,
            "user": name,
            "build_user": f"{name}_build",
            "migrate_user": f"{name}_migrate",
            "database": _elsewhere(app),
            "loopback": app_settings.loopback_ports(app, name),
            "reserved": services.reserved(app["services"], name),
            "is_closed": app_settings.network(app) == "loopback",
            "build_from": _named(app["build_env"]),
        }
        for name, app in apps.items()
    ]


def _elsewhere(app: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Where the database of an app is, [{host, port}], if it is reached by a network."""
    declared, env = app["database"], env_values.texts(app["env"])
    if declared["kind"] in database.SERVERS and declared["tcp"]:
        return [{"host": database.LOOPBACK, "port": database.port(declared)}]
    if declared["kind"] != "external":
        return []
    parts = declared["parts"]
    if not declared["url"]:
        port = env.get(parts.get("port", ""), "")
        host = env.get(parts.get("host", ""), "")
        return [{"host": host, "port": int(port) if port.isdigit() else database.PORT}] if host else []
    found = [*_servers(env.get(declared["url"], "")), *_servers(env.get(database.MIGRATION_URL, ""))]
    return [place for number, place in enumerate(found) if place not in found[:number]]


def _servers(database_url: str) -> list[dict[str, Any]]:
    """The hosts of a URL that are reached by a network; none of a URL that cannot be read, which is said elsewhere."""
    try:
        known = url.libpq_environment(database_url)
    except RefusedError:
        return []
    hosts = (known.get("PGHOSTADDR") or known.get("PGHOST", "")).split(",")
    ports = (known.get("PGPORT") or "5432").split(",")
    places = zip(hosts, ports * len(hosts) if len(ports) == 1 else ports, strict=False)
    return [{"host": host, "port": int(port or 5432)} for host, port in places if host and not host.startswith("/")]


_ADDRESS = re.compile(
    r"(?:(?P<scheme>\w+)://)?(?:[^/@\s]*@)?(?P<host>\[[^]\s]+\]|[A-Za-z0-9._-]+)(?::(?P<port>[0-9]+))?"
)
_PORTS = {"https": 443, "http": 80, "socks5": 1080, "socks5h": 1080}


def _named(build_env: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The addresses in the variables of a build: URLs, also after `name=`, and proxies, which may lack the scheme."""
    found = []
    for name, value in build_env.items():
        for word in str(value).split():
            match = _ADDRESS.match(re.sub(r"^[A-Za-z0-9_-]+=", "", word))
            if match is None or not (
                match["scheme"] or (name.lower().endswith("_proxy") and name.lower() != "no_proxy")
            ):
                continue
            port = match["port"] or _PORTS.get(match["scheme"] or "http")
            if port:
                found.append({"host": match["host"].strip("[]"), "port": int(port)})
    return found


class FilterModule:
    """Makes them known to Ansible."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {
            "app_settings": settings,
            "app_faults": faults,
            "app_present": present,
            "app_certified_by": certified_by,
            "app_names": names,
            "app_absent": absent,
            "app_served": served,
            "app_checks": checks,
            "app_paths": paths,
            "app_databases": databases,
            "app_mariadb": mariadb,
            "app_sites": sites,
            "app_access": access,
            "app_generating": generating,
            "app_packages": packages,
            "app_redis": services.instances,
            "app_password_files": password_files,
        }
