"""What waits on the host for a person or a quiet minute: upgrades, restarts of services, a reboot. Only reads."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from slipway.base import process

REBOOT = Path("/run/reboot-required")
FIREWALL = Path("/etc/slipway/firewall.nft")
KEPT = Path("/var/lib/unattended-upgrades/kept-back")
PROC = Path("/proc")
_SERVICES = ("nginx.service", "postgresql@*.service")
_OWN_SETTINGS = ("nginx.", "postgresql@")
_SHOWN = "Id,MainPID,ActiveEnterTimestamp,FragmentPath,DropInPaths"
_LIBRARY = re.compile(r" (/\S*\.so[.\d]*) \(deleted\)$", re.MULTILINE)


def gather(app: str, slot: str | None) -> dict[str, Any]:
    """{reboot: packages or None, restarts: {unit: why}, upgrades: packages, firewall_lost}; `slot` is the live one."""
    serving = [*_SERVICES, *([f"{app}@{slot}.service"] if slot else [])]
    return {
        "reboot": reboot(REBOOT),
        "restarts": restarts(serving),
        "upgrades": upgrades(KEPT),
        "firewall_lost": firewall_lost(FIREWALL),
    }


def reboot(file: Path) -> list[str] | None:
    """The packages that want a reboot, perhaps none by name; None when nothing does."""
    if not file.exists():
        return None
    packages = file.with_name(f"{file.name}.pkgs")
    return sorted(set(packages.read_text().split())) if packages.exists() else []


def firewall_lost(file: Path) -> bool:
    """Whether the host has a firewall that is not in force, as after somebody's `nft flush ruleset`."""
    return file.exists() and process.run(["nft", "list", "chain", "inet", "slipway", "input"]).returncode != 0


def restarts(units: Sequence[str]) -> dict[str, str]:
    """Those of the units that do not run as they would if they were started now, each with the reason."""
    shown = process.run(["systemctl", "show", "--timestamp=unix", f"--property={_SHOWN}", *units]).stdout
    found = {}
    for block in shown.split("\n\n"):
        unit = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        if unit.get("MainPID", "0") != "0" and (reason := _reason(unit)):
            found[unit["Id"]] = reason
    return found


def _reason(unit: Mapping[str, str]) -> str:
    """Why a running unit should be started anew; "" when it need not."""
    try:
        maps = (PROC / unit["MainPID"] / "maps").read_text(errors="replace")
    except OSError:
        return ""  # it has just ended
    if libraries := replaced(maps):
        return f"it runs with {libraries[0]} of before an upgrade"
    if not unit["Id"].startswith(_OWN_SETTINGS):
        return ""  # of an app the status says in another place whether its settings have changed
    started = float(unit.get("ActiveEnterTimestamp", "").removeprefix("@") or 0)
    files = [Path(path) for path in (*unit.get("DropInPaths", "").split(), unit.get("FragmentPath", "")) if path]
    if any(path.exists() and path.stat().st_mtime > started + 1 for path in files):
        return "its unit has changed since it was started"
    return ""


def replaced(maps: str) -> list[str]:
    """The libraries of /proc/PID/maps whose file has been replaced, by their names."""
    return sorted({Path(path).name for path in _LIBRARY.findall(maps)})


def upgrades(file: Path) -> list[str]:
    """The packages that unattended-upgrades has left as they are when it last ran: they are for a person."""
    return sorted(set(file.read_text().split())) if file.exists() else []


def rows(found: Mapping[str, Any], app: str) -> list[tuple[str, str]]:
    """The rows of `slipway status`; none when nothing waits."""
    lines: list[tuple[str, str]] = []
    if found["firewall_lost"]:
        lines.append(("firewall", "it is not in force: systemctl restart slipway-access"))
    if upgrades := found["upgrades"]:
        lines.append(("upgrades", f"{_several(upgrades)}: apt-get install --only-upgrade {' '.join(upgrades[:5])}"))
    for unit, reason in found["restarts"].items():
        how = (
            "deploy the same version again"
            if unit.startswith(f"{app}@")
            else f"systemctl restart {unit}, in a quiet minute"
        )
        lines.append(("restart", f"{unit}: {reason}: {how}"))
    if found["reboot"] is not None:
        lines.append(
            ("reboot", f"{_several(found['reboot']) or 'an upgrade'} needs one: systemctl reboot, in a quiet minute")
        )
    return lines


def _several(names: Sequence[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more
