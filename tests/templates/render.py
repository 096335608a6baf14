"""The one renderer: any template of any role, over the role's own defaults and variables, without a host.

What the playbooks hand to the roles for one realistic app is worked out by the filters that they use.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import filter_loader, init_plugin_loader
from ansible.template import Templar, trust_as_template

from filter_plugins import apps, backups

ROLES = Path(__file__).resolve().parents[2] / "roles"

# As under `apps` in the inventory. The secret has what each format that it is written in has to escape.
APP: dict[str, Any] = {"domains": ["logbook.example.com"], "env": {"SECRET_KEY": 'q"u\\o$t`e'}}

JOB: dict[str, Any] = {
    "run": "python -c 'print(\"100 %\")'",
    "at": ["Mon..Fri *-*-* 03:30:00", "daily"],
    "catch_up": True,
    "timeout": 600,
}

FACTS: dict[str, Any] = {
    "processor_vcpus": 4,
    "architecture": "x86_64",
    "memtotal_mb": 3915,
    "distribution_major_version": "13",
}


WEBROOT = "/var/lib/slipway/acme"

# What a host says to role `backup`.
CLUSTERS = ["cluster 17 main 5432 online postgres /var/lib/postgresql/17/main /var/log/postgresql.log auto enabled"]

# What a host says to role `access`.
HOST = [
    *("kernel has nftables", "set /etc/ssh/sshd_config Include /etc/ssh/sshd_config.d/*.conf"),
    *("login ops", "key /home/ops/.ssh/authorized_keys", "port 22", "rsa 3072", "kex curve25519-sha256"),
    *(
        "kex sntrup761x25519-sha512@openssh.com",
        "user logbook 990",
        "user logbook_build 991",
        "user logbook_migrate 992",
    ),
]


def templates() -> list[str]:
    """Every template of every role, as `role/file`."""
    return sorted(f"{path.parts[-3]}/{path.name}" for path in ROLES.glob("*/templates/*.j2"))


def declared(**settings: Any) -> dict[str, dict[str, Any]]:
    """The whole settings of the realistic app, by its name; `settings` are laid over its declaration."""
    return apps.settings({"logbook": APP | settings})


def sites(**settings: Any) -> list[dict[str, Any]]:
    """What Nginx serves for the realistic app."""
    return apps.sites(declared(**settings))


def variables(role: str, /, settings: Mapping[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """What the templates of a role see.

    `settings` are laid over the app's declaration in the inventory, `changes` over the role's variables.
    """
    whole = declared(**(settings or {}))
    return {
        **trusted(_load(role, "defaults/main.yml")),
        **trusted(_load(role, "vars/main.yml")),
        **_inputs(whole)[role],
        "ansible_facts": FACTS,
        "ansible_managed": "Ansible managed",
        "role_path": str(ROLES / role),
        **changes,
    }


def render(role: str, template: str, /, settings: Mapping[str, Any] | None = None, **changes: Any) -> str:
    """One template of a role as it would be written on a host; for `settings` and `changes` see `variables`."""
    source = trust_as_template((ROLES / role / "templates" / template).read_text())
    known = variables(role, settings, **changes)
    rendered: str = _templar(known).template(source, escape_backslashes=False)
    return rendered


def evaluate(expression: str, /, **known: Any) -> Any:
    """The value of an expression of a playbook or a role, with its braces, over these variables."""
    return _templar(known).template(trust_as_template(expression))


def _templar(known: dict[str, Any]) -> Templar:
    _load_plugins()
    return Templar(loader=DataLoader(), variables=known)


@functools.cache
def _load_plugins() -> None:
    """Make lookups and filters known, those of collections, of our roles and of the playbooks, once."""
    init_plugin_loader()
    for directory in (ROLES.parent / "filter_plugins", *ROLES.glob("*/filter_plugins")):
        filter_loader.add_directory(str(directory))


def _inputs(whole: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """What the playbooks give to each role, and what a role has asked of a host before it renders."""
    app, paths = whole["logbook"], apps.paths("logbook")
    return {
        "app": {
            "app_name": "logbook",
            "app_environment": "prod",
            "app_settings": app,
            **{f"app_{name}": path for name, path in paths.items()},
            # Of the tasks that write the env files, and the units of a schedule.
            "item": {"variables": {"ENV": "production", **app["env"]}, "name": "report", "job": JOB},
        },
        "certificate": {
            "certificate_name": "logbook",
            "certificate_directory": str(Path(paths["certificate"]).parent),
            "certificate_webroot": WEBROOT,
            "certificate_domains": app["domains"],
            "certificate_source": {"provider": "acme", "email": "ops@example.com"},
        },
        "backup": {
            "backup_stanza": "app-1",
            "backup_environment": "prod",
            "backup_postgresql": True,
            "backup_settings": backups.whole({}),
            "__backup_found": {"stdout_lines": CLUSTERS},
        },
        "access": {"access_apps": apps.access(whole), "__access_found": {"stdout": "", "stdout_lines": HOST}},
        "host": {},
        "mariadb": {"mariadb_databases": apps.mariadb(whole, FACTS["processor_vcpus"])},
        "nginx": {
            "nginx_sites": apps.sites(whole),
            "nginx_acme_directory": WEBROOT,
            "__nginx_found": {"stdout": "nginx version: nginx/1.26.3"},
        },
        "postgresql": {"postgresql_databases": apps.databases(whole, FACTS["processor_vcpus"])},
        "redis": {"redis_instances": []},
        "release": {"release_app": "logbook", "release_environment": "prod"},
    }


@functools.cache
def _load(role: str, name: str) -> dict[str, Any]:
    """A file of a role, which nobody changes."""
    path = ROLES / role / name
    found: dict[str, Any] = (yaml.safe_load(path.read_text()) or {}) if path.exists() else {}
    return found


def trusted(value: Any) -> Any:
    """A role's own values, which may hold templates, as Ansible reads them from its files."""
    if isinstance(value, dict):
        return {name: trusted(item) for name, item in value.items()}
    if isinstance(value, list):
        return [trusted(item) for item in value]
    return trust_as_template(value) if isinstance(value, str) else value
