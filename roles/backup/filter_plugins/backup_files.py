"""The files that follow from the settings of backups, and what a host has of them."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

ROLE = Path(__file__).resolve().parents[1]
if str(ROLE.parents[1]) not in sys.path:  # where Ansible loads this file, it is not
    sys.path.append(str(ROLE.parents[1]))

from slipway.backup import settings as engine  # noqa: E402  # the path comes first
from slipway.base import sandbox  # noqa: E402  # the path comes first


def toml(values: Mapping[str, Any]) -> str:
    """What the engine reads: the fields of its settings."""
    lines = {"format": engine.FORMAT, **values}
    return "\n".join(f"{name} = {_toml(value)}" for name, value in lines.items())


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    text = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'


def differing(wanted: Iterable[Mapping[str, Any]], lines: Iterable[str]) -> list[dict[str, Any]]:
    """Those of the files and directories that the host has otherwise or not at all.

    `lines` are those of find (`f root:root 644 /path`) and of sha256sum.
    """
    known = set(lines)
    found = []
    for item in wanted:
        kind = "f" if "content" in item else "d"
        attributes = f"{kind} {item['owner']}:{item['group']} {item['mode']} {item['dest']}"
        sums = (
            {f"{hashlib.sha256(item['content'].encode()).hexdigest()}  {item['dest']}"} if "content" in item else set()
        )
        if not {attributes} | sums <= known:
            found.append(dict(item))
    return found


def cluster(lines: Iterable[str], port: int) -> dict[str, str]:
    """The cluster that serves a port, as {version, name, data}, from lines `cluster` and what pg_lsclusters lists.

    Empty where there is none. That there is one alone was seen to by the role that has installed it.
    """
    found = []
    for line in lines:
        words = line.split()
        if words[:1] == ["cluster"] and len(words) >= 9 and words[3] == str(port):
            is_online = "online" in words[4].split(",")
            if is_online or words[8] == "auto":
                found.append((is_online, {"version": words[1], "name": words[2], "data": words[6]}))
    return max(found, key=lambda item: item[0], default=(False, {}))[1]


class FilterModule:
    """Makes them known to Ansible."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {
            "backup_toml": toml,
            "backup_differing": differing,
            "backup_cluster": cluster,
            "backup_engine_sandbox": lambda _: sandbox.ENGINE,
        }
