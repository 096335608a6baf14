"""A database on another host of the same environment: what that host hands to those of the app, as its variables."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from roles.app.module_utils import database

# What the host of the database keeps for each app; role `postgresql` writes it, and only root can read it.
_PASSWORD = re.compile(rf"({database.PASSWORD}|{database.MIGRATE_PASSWORD})=([A-Za-z0-9]+)")
_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----")


@dataclass(frozen=True)
class Handed:
    """What the host of a database has said: the app's passwords, its authority, and the addresses that it lets in."""

    passwords: Mapping[str, str]
    authority: str
    clients: frozenset[str]


def script(app: str) -> str:
    """What is asked of the host of a database, as root; `app` is a checked name."""
    lets_in = rf's|^hostssl *"{app}" .* \([0-9a-f.:]*\)/[0-9]* .*|client \1|p'
    return (
        f"cat /etc/slipway/{app}.database /etc/slipway/postgresql/authority.pem 2>/dev/null; "
        f"sed -n '{lets_in}' /etc/postgresql/*/*/pg_hba.conf 2>/dev/null; true"
    )


def read(text: str) -> Handed:
    """The answer to `script`; whatever is missing is empty."""
    certificate = _CERTIFICATE.search(text)
    lines = text.splitlines()
    return Handed(
        passwords={match[1]: match[2] for match in map(_PASSWORD.fullmatch, lines) if match},
        authority=f"{certificate[0]}\n" if certificate else "",
        clients=frozenset(line.removeprefix("client ") for line in lines if line.startswith("client ")),
    )


def missing(app: str, on: str, handed: Handed, host: str, addresses: Iterable[str], environment: str) -> str:
    """What the host `on` does not have yet for the app on `host`, in a sentence; "" if all is there."""
    how = f"Run site.yml for both: ansible-playbook site.yml -l {environment}."
    if len(handed.passwords) < len((database.PASSWORD, database.MIGRATE_PASSWORD)) or not handed.authority:
        return f"apps.{app}.database.on: {on} has no database for {app} yet. {how}"
    if outside := [address for address in addresses if address not in handed.clients]:
        return f"apps.{app}.database.on: {on} does not let {host} ({outside[0]}) in yet. {how}"
    return ""


def settings(app: str, declared: Mapping[str, Any], handed: Handed, address: str) -> dict[str, Any]:
    """The whole settings of an app, with the variables by which it reaches the database at `address`.

    From here on it is a database elsewhere, as any other: with a URL, one of the migrations, and an authority.
    """
    known, env = declared["database"], dict(declared["env"])
    place = f"[{address}]" if ":" in address else address

    def url(role: str, password: str) -> str:
        return f"{known['scheme']}://{role}:{password}@{place}:{database.PORT}/{app}"

    password = handed.passwords.get(database.PASSWORD, "")
    if known["url"]:
        env[known["url"]] = url(app, password)
    values = {"host": address, "port": str(database.PORT), "user": app, "password": password, "name": app}
    env |= {name: values[part] for part, name in known["parts"].items()}
    if known["owner"] != "app":
        env[database.MIGRATION_URL] = url(f"{app}_migrate", handed.passwords.get(database.MIGRATE_PASSWORD, ""))
    return {**declared, "env": env, "database": {**known, "ca": handed.authority}}
