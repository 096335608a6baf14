"""What the declared apps mean: their whole settings, their databases and their sites."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from ansible.errors import AnsibleFilterError
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

Settings = Mapping[str, Mapping[str, Any]]

SLOTS = 2  # both run while one takes over from the other
TOOLS = 3  # a migration, the engine's questions, and a person
AUTOMATIC_WORKERS = (2, 8)  # at least and at most, where it is left to the host's processors


SPECIFICATION = Path(__file__).resolve().parents[3] / "roles/app/meta/argument_specs.yml"


@cache  # variables are worked out anew at each use
def specification() -> dict[str, Any]:
    """What an app may declare: the options of role `app` for its `app_settings`."""
    options = yaml.safe_load(SPECIFICATION.read_text())["argument_specs"]["main"]["options"]
    found: dict[str, Any] = options["app_settings"]["options"]
    return found


def settings(
    apps: Mapping[str, Mapping[str, Any]], defaults: Mapping[str, Any] | None = None
) -> dict[str, dict[str, Any]]:
    """The whole settings of each app: what it declares, over `defaults`, over those of role `app`.

    Values come in the types of the specification: a single domain given as text is a list of one.
    """
    validator = ArgumentSpecValidator(specification())
    found = {}
    for name, declared in apps.items():
        result = validator.validate(_plain({**(defaults or {}), **declared}))
        if result.error_messages:
            raise AnsibleFilterError(f"apps.{name}: {result.error_messages[0]}")
        found[name] = dict(result.validated_parameters)
    return found


def faults(apps: Mapping[str, Mapping[str, Any]], defaults: Mapping[str, Any] | None = None) -> list[str]:
    """What is wrong with the settings of the apps, a sentence for each of which something is."""
    found = []
    for name, declared in apps.items():
        try:
            settings({name: declared}, defaults)
        except AnsibleFilterError as error:
            found.append(error.message)
    return found


def _plain(value: Any) -> Any:
    """Ansible's containers, which hold templates until they are read, as ordinary ones, which can be copied."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def databases(apps: Settings, processors: int) -> list[dict[str, Any]]:
    """The databases to have on the host: [{name, connections}], for the apps that bring none of their own.

    `connections` is what an app may hold at the same time: slots x workers x pool, and a few for tools.
    """
    least, most = AUTOMATIC_WORKERS
    return [
        {
            "name": name,
            "connections": SLOTS * (app["workers"] or min(most, max(least, processors))) * app["pool_size"] + TOOLS,
        }
        for name, app in apps.items()
        if "DATABASE_URL" not in app["env"]
    ]


def sites(apps: Settings) -> list[dict[str, Any]]:
    """What Nginx serves, one site an app."""
    taken_over = ("domains", "https_port", "client_max_body_size", "request_timeout")
    return [
        {
            "name": name,
            "upstream_socket": f"/srv/{name}/live/http.sock",
            "certificate": f"/etc/ssl/slipway/{name}/fullchain.pem",
            "certificate_key": f"/etc/ssl/slipway/{name}/privkey.pem",
            **{key: app[key] for key in taken_over},
        }
        for name, app in apps.items()
    ]


class FilterModule:
    """Makes them known to Ansible."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"app_settings": settings, "app_faults": faults, "app_databases": databases, "app_sites": sites}
