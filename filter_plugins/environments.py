"""Which environment a run is for: the groups that are environments, and what is wrong when it is not exactly one."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

# Where an inventory is one file, its name says nothing of its groups.
USUAL = ("prod", "staging", "local")


def declared(sources: Iterable[str], groups: Iterable[str], more: Iterable[str] = ()) -> list[str]:
    """The names of the environments: the usual ones, that of each directory of `inventories`, and `more`.

    `sources` are the inventories of the run, as in ansible.cfg or behind -i; of them only groups that exist count.
    """
    known = set(groups)
    named = [Path(source).name for source in sources]
    return list(dict.fromkeys([*USUAL, *(name for name in named if name in known), *more]))


def fault(hosts: Mapping[str, Iterable[str]], environments: Iterable[str], groups: Iterable[str]) -> str:
    """Why a run on `hosts`, each with its groups, is not for one environment; "" if it is."""
    names = [name for name in environments if name in set(groups)]
    touched = [name for name in names if any(name in found for found in hosts.values())]
    outside = [host for host, found in hosts.items() if not set(found) & set(names)]
    if len(touched) == 1 and not outside:
        return ""
    if outside and not touched and (near := _nearest(outside, hosts, environments)):
        group, meant = near
        return (
            f"The group '{group}' of {outside[0]} is no environment. The nearest is '{meant}': write that in the "
            "inventory, or give the environment a directory of its own (docs/environments.md)."
        )
    what = ", ".join(touched) or "no environment"
    of_none = f" and hosts of none ({', '.join(outside)})" if outside else ""
    example = next(iter(names), "prod")
    return f"This run would touch {what}{of_none}. A run is for one: pass, for example, -l {example}."


def _nearest(
    outside: Iterable[str], hosts: Mapping[str, Iterable[str]], environments: Iterable[str]
) -> tuple[str, str] | None:
    known = list(environments)
    for host in outside:
        for group in hosts[host]:
            if near := difflib.get_close_matches(group.lower(), known, n=1, cutoff=0.7):
                return group, near[0]
    return None


def nearest(name: str, environments: Iterable[str]) -> str:
    """The environment that a name nearly is; "" when there is none."""
    return next(iter(difflib.get_close_matches(name.lower(), list(environments), n=1, cutoff=0.6)), "")


class FilterModule:
    """Makes them known to Ansible."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"environments_of": declared, "environment_fault": fault, "nearest_environment": nearest}
