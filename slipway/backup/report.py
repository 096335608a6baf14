"""What `slipway status` says of the host's backups. Only reads."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from slipway.backup import cluster, make, records
from slipway.backup import settings as backups
from slipway.backup.drill_checks import age
from slipway.backup.settings import Settings
from slipway.base import process
from slipway.base import settings as config
from slipway.base.errors import SlipwayError

_WAL_ALARM = 2**30  # bytes of WAL that wait on the server
_SLACK = 120.0  # seconds beyond archive_timeout until a segment is in the repository


def gather(settings: Settings) -> dict[str, Any]:
    """The state of the host's backups. A part that could not be read has the reason in its field `error`."""
    return {
        "repository": settings.repository,
        "path": str(settings.path),
        "databases": _databases(settings) if settings.postgresql else None,
        "archive": _archive(settings) if settings.postgresql else None,
        "files": _last_part("files") if settings.files else None,
        "last": _last("backup"),
        "drill": _last("drill") if settings.drill or records.last(_records(), "drill") else None,
        "timers": timers(settings),
        "free": make.free(settings.path),
    }


def _records() -> list[records.Record]:
    return records.read(backups.RECORDS)


def _last(kind: records.Kind) -> dict[str, Any] | None:
    try:
        found = records.last(_records(), kind)
    except SlipwayError as error:
        return {"error": str(error)}
    return None if found is None else {"outcome": found.outcome, "message": found.message, **make.as_json(found)}


def _last_part(what: str) -> dict[str, Any] | None:
    """The newest backup of that kind that was made."""
    try:
        found = _records()
    except SlipwayError as error:
        return {"error": str(error)}
    for record in reversed(found):
        for part in record.detail.get("parts", []):
            if part["what"] == what and not part["problem"]:
                return {"at": record.time, **part}
    return None


def _databases(settings: Settings) -> dict[str, Any]:
    info = make.info_of(settings)
    if info.problem:
        return {"error": info.problem}
    last, oldest = info.last, info.oldest
    return {
        "count": len(info.backups),
        "last": asdict(last) if last else None,
        "earliest": oldest.ended if oldest else None,
    }


def _archive(settings: Settings) -> dict[str, Any]:
    try:
        found = cluster.archive(settings)
    except SlipwayError as error:
        return {"error": str(error)}
    return {**asdict(found), "problem": found.problem}


def timers(settings: Settings) -> dict[str, str]:
    """The timers that do not run, each with what to type."""
    wanted = settings.timers
    shown = process.run(["systemctl", "show", "--property=Id,ActiveState,UnitFileState", *wanted]).stdout
    found = {}
    for block in shown.split("\n\n"):
        unit = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        if unit.get("ActiveState") != "active" or unit.get("UnitFileState") != "enabled":
            found[unit.get("Id", "a timer")] = f"systemctl enable --now {unit.get('Id', '')}"
    return found


def rows(found: Mapping[str, Any], settings: Settings, now: float | None = None) -> list[tuple[str, str]]:
    """The rows of `slipway status`."""
    at = time.time() if now is None else now
    lines = [("backup", text) for text in _backup_lines(found, settings, at)]
    lines += [("wal", text) for text in _wal_lines(found, at)]
    lines += [("timer", f"{name} does not run: {remedy}") for name, remedy in found["timers"].items()]
    lines += [("drill", text) for text in _drill_lines(found, settings, at)]
    if found["repository"] == "local":
        free = f"{make.amount(found['free'])} free"
        lines.append(("kept", f"in {found['path']} ({free}), on this host alone: what ends the host ends its backups"))
    return lines


def _backup_lines(found: Mapping[str, Any], settings: Settings, now: float) -> list[str]:
    lines = []
    if (databases := found["databases"]) is not None:
        if "error" in databases:
            lines.append(f"databases: the repository {databases['error']}")
        elif databases["last"] is None:
            lines.append("databases: none yet: slipway backup")
        else:
            last = databases["last"]
            made = f"{last['kind']} {_ago(last['ended'], now)}, {make.amount(last['size'])}"
            since = f"every moment since {make.when(databases['earliest'])} can be restored"
            lines.append(f"databases: {made}; {since}{_late(last['ended'], settings, now)}")
    if settings.files:
        files = found["files"]
        if files is None:
            lines.append("files: none yet: slipway backup")
        elif "error" in files:
            lines.append(f"files: {files['error']}")
        else:
            lines.append(
                f"files: {_ago(files['at'], now)}, {make.amount(files['size'])}{_late(files['at'], settings, now)}"
            )
    last_run = found["last"]
    if last_run and (last_run.get("error") or last_run["outcome"] != records.OK):
        lines.append(f"the last one failed: {last_run.get('error') or last_run['message']}")
    return lines


def _ago(then: float, now: float) -> str:
    return f"{age(now - then)} ago" if then <= now + 1 else f"{make.when(then)}, which is ahead of the clock"


def _late(then: float, settings: Settings, now: float) -> str:
    return "; THIS IS TOO OLD: slipway backup" if now - then > settings.max_age_hours * 3600 else ""


def _wal_lines(found: Mapping[str, Any], now: float) -> list[str]:
    archive = found["archive"]
    if archive is None:
        return []
    if problem := archive.get("error") or archive["problem"]:
        kept = f"; {make.amount(archive['waiting'])} of WAL wait on the server" if "waiting" in archive else ""
        return [f"NOT ARCHIVED: {problem}{kept}"]
    lines = []
    if archive["waiting"] > _WAL_ALARM:
        lines.append(f"{make.amount(archive['waiting'])} of WAL wait on the server")
    if archive["archived"] and archive["timeout"]:
        # The heartbeat is written every 5 minutes, so that there is always something to archive.
        late = now - archive["archived"] > archive["timeout"] + 300 + _SLACK
        if late:
            lines.append(f"the last was archived {age(now - archive['archived'])} ago: is the heartbeat written?")
    return lines or [f"archived {_ago(archive['archived'], now)}"]


def _drill_lines(found: Mapping[str, Any], settings: Settings, now: float) -> list[str]:
    last = found["drill"]
    if last is None:
        return ["none yet: slipway drill shows whether a backup can be restored"] if settings.drill else []
    if "error" in last:
        return [last["error"]]
    at = datetime.fromisoformat(last["at"]).timestamp()
    if last["outcome"] != records.OK:
        return [f"FAILED {_ago(at, now)}: {last['message']}"]
    late = settings.drill and now - at > settings.drill_days * 86400
    return [
        f"{_ago(at, now)}, in {last['seconds']:.1f} s: {last['message']}{'; repeat it: slipway drill' if late else ''}"
    ]


def _has_to_lose(app: config.Settings) -> bool:
    """Whether an app has data on this host."""
    try:
        has_own = any(Path("/etc/postgresql").glob("*/*/conf.d/slipway.conf"))
        return (has_own and app.database == "postgresql") or any(app.data_directory.iterdir())
    except OSError:
        return False


def host(directory: Path | None = None) -> tuple[dict[str, Any] | None, list[tuple[str, str]]]:
    """The state of this host's backups and its rows; None and no rows where it has none."""
    directory = directory or config.SETTINGS_DIRECTORY
    settings = backups.find(directory)
    if settings is None:
        lost = [name for name in config.installed(directory) if _has_to_lose(config.load(name, directory))]
        text = f"none, and {', '.join(lost)} could not be restored: run site.yml, unless `backups` is false on purpose"
        return None, [("backup", text)] if lost else []
    found = gather(settings)
    return found, rows(found, settings)
