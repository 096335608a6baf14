"""What the declared apps mean for the other roles: their databases and their sites."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Apps = Mapping[str, Mapping[str, Any]]

SLOTS = 2  # both run while one takes over from the other
TOOLS = 3  # a migration, the engine's questions, and a person


def databases(apps: Apps, defaults: Mapping[str, Any], processors: int) -> list[dict[str, Any]]:
    """The databases to have on the host: [{name, connections}], for the apps that bring none of their own.

    `connections` is what an app may hold at the same time: slots x workers x pool, and a few for tools.
    """
    found = []
    for name, declared in apps.items():
        settings = {**defaults, **declared}
        if "DATABASE_URL" in settings["env"]:
            continue
        workers = int(settings["workers"]) or max(2, processors)
        found.append({"name": name, "connections": SLOTS * workers * int(settings["pool_size"]) + TOOLS})
    return found


def sites(apps: Apps, defaults: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What Nginx serves, one site an app."""
    found = []
    for name, declared in apps.items():
        settings = {**defaults, **declared}
        found.append(
            {
                "name": name,
                "domains": settings["domains"],
                "upstream_socket": f"/srv/{name}/live/http.sock",
                "certificate": f"/etc/ssl/slipway/{name}/fullchain.pem",
                "certificate_key": f"/etc/ssl/slipway/{name}/privkey.pem",
                "https_port": settings["https_port"],
                "client_max_body_size": settings["client_max_body_size"],
                "request_timeout": settings["request_timeout"],
            }
        )
    return found


class FilterModule:
    """Makes `app_databases` and `app_sites` known to Ansible."""

    def filters(self) -> dict[str, Callable[..., list[dict[str, Any]]]]:
        return {"app_databases": databases, "app_sites": sites}
