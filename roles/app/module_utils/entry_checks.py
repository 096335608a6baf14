"""What an entry of `apps` says beyond the forms of its values: the repository, sizes, ports, and names given twice."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from roles.app.module_utils import setting_forms
from slipway.base import settings as engine

# As Nginx reads a size: a number, and one letter for its unit.
_SIZE = re.compile(r"[0-9]+[kKmMgG]?")
_SPOKEN = re.compile(r"\s*([0-9]+)(?:\.[0-9]+)?\s*([kmg])i?b?(?:ytes?)?\s*", re.IGNORECASE)
_PORTS = range(1, 65_536)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def faults(where: str, settings: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with the whole `settings` of an app that is declared at `where`."""
    yield from _body_size(where, settings)
    yield from _port(where, settings)
    yield from _twice(where, settings)
    yield from _names(where, settings)
    name = settings["environment_variable"]
    if name and not _VARIABLE.fullmatch(name):
        yield (
            f"{where}.environment_variable is '{name}', which cannot be the name of a variable. Write a name such as "
            'APP_ENV, or "" for none.'
        )


def repository(where: str, settings: Mapping[str, Any]) -> Iterator[str]:
    """The address may have a password in it, so no sentence shows it."""
    address = settings["repository"]
    if not address:
        yield (
            f"{where}.repository is not set. Set it to the URL of the app's git repository, such as "
            "git@git.example.com:me/shop.git, or to a path on this machine."
        )
    elif re.search(r"\s", address):
        yield f"{where}.repository has a blank in it. Write the URL or the path without one."


def module_meant(value: str) -> str:
    """The module and name that a path of a file, or a module alone, stands for; "" where that cannot be told."""
    module, _, name = value.partition(":")
    path = module.removesuffix(".py").removeprefix("./").removeprefix("src/")
    if not name and path.endswith(".app"):  # a file app.py, or the name in a module
        return ""
    meant = f"{path.replace('/', '.')}:{name or 'app'}"
    return meant if engine.MODULE.fullmatch(meant) else ""


def _body_size(where: str, settings: Mapping[str, Any]) -> Iterator[str]:
    value = settings["client_max_body_size"]
    if not _SIZE.fullmatch(value):
        spoken = _SPOKEN.fullmatch(value)
        example = f"{spoken[1]}{spoken[2].lower()}" if spoken else "10m"
        yield (
            f"{where}.client_max_body_size is '{value}', but must be a number with k, m or g directly behind it. "
            f"Write {example}."
        )


def _port(where: str, settings: Mapping[str, Any]) -> Iterator[str]:
    if settings["https_port"] not in _PORTS:
        yield f"{where}.https_port is {settings['https_port']}, but must be a port: 1 to 65535, 443 as a rule."


def _twice(where: str, settings: Mapping[str, Any]) -> Iterator[str]:
    seen: set[str] = set()
    for domain in settings["domains"]:
        if domain.lower() in seen:
            yield f"{where}.domains has '{domain}' twice. Remove one of them."
        seen.add(domain.lower())


def _names(where: str, settings: Mapping[str, Any]) -> Iterator[str]:
    """Lists of variables."""
    for setting in ("required_env", "credentials"):
        for name in settings[setting]:
            if not _VARIABLE.fullmatch(name):
                yield (
                    f"{where}.{setting} has {setting_forms.shown(name)}, which cannot be the name of a variable: use "
                    "letters, digits and underscores, and no digit at the beginning."
                )


def domains_twice(apps: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """What is wrong where two apps have one domain; `apps` are whole settings by their names."""
    owner: dict[str, str] = {}
    for name, settings in apps.items():
        for domain in dict.fromkeys(item.lower() for item in settings["domains"]):
            if domain in owner:
                yield (
                    f"apps.{name}.domains has '{domain}', and so has apps.{owner[domain]}.domains. A name leads to one "
                    "app only: take it out of one of them."
                )
            else:
                owner[domain] = name
