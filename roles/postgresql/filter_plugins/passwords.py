"""The statements that give roles the passwords which their host has made for them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[3]
if str(PROJECT) not in sys.path:  # where Ansible loads this file, it is not
    sys.path.append(str(PROJECT))

from slipway.schema import roles  # noqa: E402  # the path comes first

SUFFIXES = {"SLIPWAY_DATABASE_PASSWORD": "", "SLIPWAY_MIGRATION_PASSWORD": "_migrate"}


def statements(lines: Iterable[str]) -> str:
    """SQL for the roles that have no password or another one; "" where all are right.

    Of lines like `file shop SLIPWAY_DATABASE_PASSWORD=…` and `role shop SCRAM-SHA-256$…`.
    """
    wanted, kept = {}, {}
    for line in lines:
        kind, _, rest = line.partition(" ")
        name, _, value = rest.partition(" ")
        variable, _, password = value.partition("=")
        if kind == "role":
            kept[name] = value
        elif kind == "file" and variable in SUFFIXES:
            wanted[f"{name}{SUFFIXES[variable]}"] = password
    other = {role: word for role, word in wanted.items() if role in kept and not roles.is_of(word, kept[role])}
    return "".join(roles.statement(role, password, os.urandom(roles.SALT_BYTES)) for role, password in other.items())


class FilterModule:
    """Makes it known to Ansible."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"postgresql_passwords": statements}
