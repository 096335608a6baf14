"""The setting `services` of an app: programs of Debian that the host runs for it alone. There is one: redis."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from typing import Any

from roles.app.module_utils import setting_forms
from slipway.base.errors import RefusedError
from slipway.slot import envfile

NAMES = ("redis",)
SCHEMES = ("redis", "unix", "redis+socket")
EVICTION = ("noeviction", "allkeys-lru", "volatile-lru", "allkeys-lfu", "volatile-ttl")
PARTS = ("host", "port", "password")
PASSWORD = "SLIPWAY_REDIS_PASSWORD"  # noqa: S105  # a name
LOOPBACK = "127.0.0.1"
SOCKET = "/run/{app}.redis/redis.sock"
_KEYS = ("url", "scheme", "parts", "memory_mb", "eviction", "tcp_port", *PARTS)
_PORTS = range(20000, 28000)  # below those that the kernel gives to connections
_TCP_PORTS = range(1024, 65_536)
_MEMORY = range(1, 2**20)
_LIKE = "Write [redis], or {redis: {url: REDIS_URL, memory_mb: 64}}"


def whole(value: Any) -> dict[str, dict[str, Any]]:
    """The whole form of `services`; RefusedError with a sentence on what it cannot be."""
    if value in (None, "", False):
        return {}
    if isinstance(value, str):
        value = [value]
    if isinstance(value, list | tuple):
        value = {str(name): {} for name in value}
    if not isinstance(value, Mapping):
        raise RefusedError(f"services is {value!r}. {_LIKE}.")
    for name in value:
        if name not in NAMES:
            if isinstance(name, str) and name.startswith("{"):  # a mapping in a list
                raise RefusedError(f"services has a list with a mapping in it. {_LIKE}.")
            raise RefusedError(f"services has '{name}', but must be one of {', '.join(NAMES)}. {_LIKE}.")
    return {str(name): _redis(given or {}) for name, given in value.items()}


def _redis(given: Any) -> dict[str, Any]:
    if isinstance(given, str):
        given = {"url": given}
    if not isinstance(given, Mapping):
        raise RefusedError(f"services.redis is {given!r}. {_LIKE}.")
    if unknown := [key for key in given if key not in _KEYS]:
        raise RefusedError(f"services.redis has '{unknown[0]}', but it has only {', '.join(_KEYS)}.")
    parts = {part: given[part] for part in PARTS if given.get(part)} or given.get("parts") or {}
    if not isinstance(parts, Mapping):
        raise RefusedError(f"services.redis.parts is {setting_forms.shown(parts)}. {_LIKE}.")
    parts = {str(part): str(name) for part, name in parts.items()}
    urls = given.get("url") or ([] if parts else ["REDIS_URL"])
    urls = list(urls) if isinstance(urls, list | tuple) else [urls]
    for name in [*urls, *parts.values()]:
        if not isinstance(name, str) or not envfile.NAME.fullmatch(name):
            raise RefusedError(f"services.redis: '{name}' cannot be the name of a variable. {_LIKE}.")
    found = {
        "url": urls,
        "scheme": str(given.get("scheme") or "redis"),
        "parts": parts,
        "memory_mb": given.get("memory_mb", 64),
        "eviction": str(given.get("eviction") or "noeviction"),
        "tcp_port": given.get("tcp_port") or 0,
    }
    for key, choices in (("scheme", SCHEMES), ("eviction", EVICTION)):
        if found[key] not in choices:
            raise RefusedError(f"services.redis.{key} is '{found[key]}', but must be one of {', '.join(choices)}.")
    for key, allowed in (("memory_mb", _MEMORY), ("tcp_port", _TCP_PORTS)):
        value = found[key]
        if isinstance(value, bool) or (value not in allowed and not (key == "tcp_port" and value == 0)):
            raise RefusedError(
                f"services.redis.{key} is {setting_forms.shown(value)}, but must be a whole number from "
                f"{allowed[0]} to {allowed[-1]}."
            )
    return found


def port(redis: Mapping[str, Any], app: str) -> int:
    """The port of an app's Redis on the loopback address: always the same one for a name."""
    return int(redis["tcp_port"] or _PORTS[zlib.crc32(app.encode()) % len(_PORTS)])


def has_password(redis: Mapping[str, Any]) -> bool:
    """Whether clients give a password: not where the app reads host and port alone, and the firewall says who comes."""
    return bool(redis["url"]) or "password" in redis["parts"]


def is_tcp(redis: Mapping[str, Any]) -> bool:
    """Whether the app comes to a port, and not to the socket."""
    return bool(redis["parts"]) or redis["scheme"] == "redis"


def filled(services: Mapping[str, Any], app: str) -> dict[str, str]:
    """The variables by which an app reaches its services; `{NAME}` stands for a password that only the host knows."""
    if not (redis := services.get("redis")):
        return {}
    secret = f":{{{PASSWORD}}}@"
    number = port(redis, app)
    socket = SOCKET.format(app=app)
    url = {
        "redis": f"redis://{secret}{LOOPBACK}:{number}/0",
        "unix": f"unix://{secret}{socket}?db=0",
        "redis+socket": f"redis+socket://{secret}{socket}",
    }[redis["scheme"]]
    values = {"host": LOOPBACK, "port": str(number), "password": f"{{{PASSWORD}}}"}
    return dict.fromkeys(redis["url"], url) | {name: values[part] for part, name in redis["parts"].items()}


def secrets(services: Mapping[str, Any]) -> list[str]:
    """The names of the passwords that the host makes for them."""
    return [PASSWORD] if "redis" in services and has_password(services["redis"]) else []


def ports(services: Mapping[str, Any], app: str) -> list[int]:
    """The ports of the host that an app reaches for them."""
    return [port(services["redis"], app)] if "redis" in services and is_tcp(services["redis"]) else []


def reserved(services: Mapping[str, Any], app: str) -> list[int]:
    """Those of its ports at which nobody asks for a password, so that the firewall has to say who comes."""
    return [] if secrets(services) else ports(services, app)


def faults(app: str, services: Mapping[str, Any], env: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with the services of an app, a sentence each."""
    for name in filled(services, app):
        if env.get(name) not in (None, ""):
            yield (
                f"apps.{app}.env.{name} is set, and so is apps.{app}.services, for which the host sets it. Take it "
                f"out of env, or name another variable in apps.{app}.services.redis."
            )


def instances(apps: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The Redis servers of a host: [{name, port, memory_mb, eviction, password, users}]."""
    return [
        {
            "name": name,
            "port": port(redis, name),
            "memory_mb": redis["memory_mb"],
            "eviction": redis["eviction"],
            "password": has_password(redis),
        }
        for name, app in apps.items()
        if (redis := app["services"].get("redis"))
    ]


def twice(apps: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Two apps whose Redis would have the same port."""
    seen: dict[int, str] = {}
    for server in instances(apps):
        other = seen.setdefault(server["port"], server["name"])
        if other != server["name"]:
            yield (
                f"apps.{server['name']}.services.redis and that of apps.{other} would have the same port, "
                f"{server['port']}. Set apps.{server['name']}.services.redis.tcp_port to another one."
            )
