"""The configuration of each Redis server."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any


def files(instances: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """The files of the servers: [{dest, group, mode, name, content}]."""
    return [
        {
            "dest": f"/etc/redis/slipway-{server['name']}.conf",
            "group": "redis",
            "mode": "640",
            "name": str(server["name"]),
            "content": configuration(server),
        }
        for server in instances
    ]


def configuration(server: Mapping[str, Any]) -> str:
    """The configuration of one server. Its password is in a file that its unit makes anew at each start."""
    name = server["name"]
    lines = [
        "# Ansible managed. Whoever has the password may use it; without one, the firewall says who comes to the port.",
        "bind 127.0.0.1",
        f"port {server['port']}",
        "protected-mode yes",
        f"dir /var/lib/{name}.redis",
        "save 300 1 60 1000",
        f"maxmemory {server['memory_mb']}mb",
        f"maxmemory-policy {server['eviction']}",
        "daemonize no",
        "supervised systemd",
        'logfile ""',
    ]
    if server["password"]:
        lines += [
            f"unixsocket /run/{name}.redis/redis.sock",
            "unixsocketperm 777",
            f"include /run/{name}.redis/password.conf",
        ]
    return "\n".join(lines) + "\n"


class FilterModule:
    """Makes it known to Ansible."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"redis_files": files}
