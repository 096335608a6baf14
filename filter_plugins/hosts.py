"""What the hosts of an environment are for: groups of functions cut across the environments.

A host of the group `database` that is not in `app_hosts` has databases alone. A host in none of them is everything.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
import socket
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleFilterError

PROJECT = Path(__file__).resolve().parents[1]
if str(PROJECT) not in sys.path:  # where Ansible loads this file, it is not
    sys.path.append(str(PROJECT))

from filter_plugins import apps as declared_apps  # noqa: E402  # the path comes first
from roles.app.module_utils import database, database_host  # noqa: E402  # the path comes first

Groups = Mapping[str, Iterable[str]]
Variables = Mapping[str, Mapping[str, Any]]  # of each host


def without_apps(groups: Groups) -> list[str]:
    """The hosts that have databases alone."""
    return sorted(set(groups.get("database", ())) - set(groups.get("app_hosts", ())))


def serving(hosts: Iterable[str], groups: Groups) -> list[str]:
    """Of the hosts those that have apps, in their order."""
    others = without_apps(groups)
    return [host for host in hosts if host not in others]


def pattern(groups: Groups, limit: Any = "") -> str:
    """The hosts of a play for apps, as a pattern: all but those that have databases alone.

    AnsibleFilterError where -l names nothing but such hosts: the run would do nothing, and say nothing.
    """
    others = without_apps(groups)
    named = [name for name in re.split(r"[,:]", str(limit or "")) if name]
    if named and set(named) <= set(others):
        raise AnsibleFilterError(
            f"{', '.join(named)} is in the group 'database' and not in 'app_hosts', so it has no apps. Pass -l with "
            "the environment or a host of apps."
        )
    return ":".join(["all", *(f"!{name}" for name in others)])


def address(host: str, variables: Variables) -> str:
    """Where other hosts of the environment reach a host: its internal_address, or else as Ansible does."""
    own = variables[host]
    return str(own["internal_address"] if "internal_address" in own else own.get("ansible_host", host))


@cache
def _resolved(place: str) -> tuple[str, ...]:
    try:
        found = socket.getaddrinfo(place, None, type=socket.SOCK_STREAM)
    except OSError:
        return ()
    return tuple(sorted({str(entry[4][0]) for entry in found}))


def addresses(host: str, variables: Variables) -> list[str]:
    """The addresses of a host for the others of the environment; none of a name that nobody knows."""
    return list(_resolved(address(host, variables)))


def faults(apps: Mapping[str, Any], hosts: list[str], groups: Groups, variables: Variables, name: str) -> list[str]:
    """What is wrong with the hosts that apps have their databases on, a sentence each.

    `apps` are whole settings, `hosts` all of the environment `name`.
    """
    return [
        sentence
        for app, whole in apps.items()
        if (on := whole["database"]["on"])
        for sentence in _faults(f"apps.{app}.database.on", on, hosts, groups, variables, name)
    ]


def _faults(
    where: str, on: str, hosts: list[str], groups: Groups, variables: Variables, environment: str
) -> Iterator[str]:
    if on not in hosts:
        near = next(iter(difflib.get_close_matches(on, hosts, n=1, cutoff=0.5)), "")
        rest = f"The nearest is '{near}'." if near else f"Write one of {', '.join(hosts)}."
        yield f"{where} is '{on}', which is no host of {environment}. {rest}"
        return
    for host in dict.fromkeys([on, *serving(hosts, groups)]):
        found = addresses(host, variables)
        if not found or any(ipaddress.ip_address(text.partition("%")[0]).is_loopback for text in found):
            why = "which no other host reaches" if found else "which this machine cannot resolve"
            yield (
                f"{where}: {host} is reached at {address(host, variables)}, {why}. Set internal_address for {host} in "
                "the inventory, to its address for the other hosts."
            )
            return


def shared(
    apps: Mapping[str, Any], host: str, hosts: list[str], groups: Groups, variables: Variables
) -> list[dict[str, Any]]:
    """The databases that `host` has for apps of the environment's `hosts`, as role `postgresql` takes them.

    An app is counted once a host. Where its workers follow from the processors of a host, it is with the most of them:
    the hosts need not be asked.
    """
    clients = serving(hosts, groups)
    mine = {name: app for name, app in apps.items() if app["database"]["on"] == host}
    return [
        {
            **declared,
            "connections": declared["connections"] * len(clients),
            "limit": declared["limit"] * len(clients),
            "tcp": False,  # on its own host's loopback
            "clients": sorted({text for client in clients for text in addresses(client, variables)}),
        }
        for declared in declared_apps.databases(mine, declared_apps.AUTOMATIC_WORKERS[1], of_kind="external")
    ]


def elsewhere(apps: Mapping[str, Any]) -> list[dict[str, str]]:
    """The databases on other hosts: [{name, on, script}]."""
    return [
        {"name": name, "on": app["database"]["on"], "script": database_host.script(name)}
        for name, app in apps.items()
        if app["database"]["on"]
    ]


def not_ready(found: Iterable[Mapping[str, Any]], host: str, variables: Variables, environment: str) -> list[str]:
    """What the hosts of the databases lack for an app on `host`; `found` are the answers of a loop over `elsewhere`."""
    sentences = [
        database_host.missing(
            answer["item"]["name"],
            answer["item"]["on"],
            database_host.read(answer["stdout"]),
            host,
            addresses(host, variables),
            environment,
        )
        for answer in found
    ]
    return [sentence for sentence in sentences if sentence]


def reached(apps: Mapping[str, Any], found: Iterable[Mapping[str, Any]], variables: Variables) -> dict[str, Any]:
    """The settings of the apps, with what the hosts of their databases have handed over."""
    handed = {
        answer["item"]["name"]: database_host.settings(
            answer["item"]["name"],
            apps[answer["item"]["name"]],
            database_host.read(answer["stdout"]),
            address(answer["item"]["on"], variables),
        )
        for answer in found
    }
    return {**apps, **handed}


def internal_ports(databases: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The ports that a host opens for others of its environment, as role `access` takes them."""
    clients = sorted({client for declared in databases for client in declared.get("clients", ())})
    return [{"port": database.PORT, "from": clients}] if clients else []


class FilterModule:
    """Makes them known to Ansible."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {
            "hosts_serving": serving,
            "hosts_pattern": pattern,
            "host_address": address,
            "database_host_faults": faults,
            "databases_shared": shared,
            "databases_elsewhere": elsewhere,
            "databases_not_ready": not_ready,
            "databases_reached": reached,
            "internal_ports": internal_ports,
        }
