"""Reports for the Logbook on disk: one file for each deployment, kept until the Logbook has it."""

from __future__ import annotations

import json
import re
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slipway.base import files
from slipway.base.errors import RefusedError
from slipway.base.settings import Settings
from slipway.observers.text import one_line
from slipway.records import deployment, formats, journal, owner
from slipway.records.deployment import Deployment

FORMAT = 1
KEPT = 1000  # reports that may wait; the oldest ones beyond it are dropped


@dataclass(frozen=True)
class Report:
    """One deployment for the Logbook; `end` is None until it has ended. `begin` and `end` are as the API takes them."""

    path: Path
    key: str
    begin: dict[str, Any]
    end: dict[str, Any] | None
    unknown: dict[str, Any] = field(default_factory=dict)  # fields of another version of the engine


@dataclass(frozen=True)
class Contents:
    """The reports in the outbox, oldest first; `newer` has a sentence for each file that this version cannot read."""

    reports: list[Report]
    newer: list[str]


def new(settings: Settings, opened: Deployment) -> Report:
    """The report that a deployment has begun."""
    host = re.sub(r"[^A-Za-z0-9.:_-]", "-", socket.gethostname())[:255]
    begun = {
        "service": settings.app,
        "environment": settings.environment,
        "host": host,
        "kind": opened.action,
        "version": opened.version[:100],
        "commit": opened.sha,
        "actor": one_line(owner.display(opened.owner)) or "unknown",
        "started_at": opened.opened_at,
    }
    return Report(path(settings, opened), f"{host}/{settings.app}/{opened.id}", begun, None)


def ended(begun: Report, entry: journal.Entry) -> Report:
    """The report with its end. Status `failed`: it never took traffic; `rolled_back`: it did, and gave it back."""
    given_back = "rolled_back" if entry.detail.get("switched") else "failed"
    ending = {
        "status": "succeeded" if entry.outcome == "succeeded" else given_back,
        "finished_at": max(entry.at, begun.begin["started_at"]),  # the clock may have been set back
        "phases": entry.detail.get("receipt", {}).get("phases", {}),
        "detail": entry.message.replace("\0", "").encode(errors="replace").decode()[:4000],
    }
    return Report(begun.path, begun.key, begun.begin, ending, begun.unknown)


def path(settings: Settings, opened: Deployment) -> Path:
    """Named so that the order of names is the order in which deployments began."""
    return settings.outbox / f"{re.sub('[^0-9]', '', opened.opened_at)[:17]}-{opened.id}.json"


def save(settings: Settings, report: Report) -> str:
    """Write a report and drop the oldest ones beyond KEPT. A note of what was lost or could not be written, or ""."""
    content = formats.stamped(report, FORMAT)
    del content["path"]
    try:
        settings.outbox.mkdir(mode=0o700, exist_ok=True)
        files.write_atomically(report.path, json.dumps(content, indent=2) + "\n", 0o600)
        surplus = sorted(settings.outbox.glob("*.json"))[:-KEPT]
        for old in surplus:
            old.unlink(missing_ok=True)
    except OSError as error:
        return f"{settings.outbox} could not be written: {error.strerror}."
    return f"{len(surplus)} old report(s) to the Logbook were dropped, {KEPT} are kept." if surplus else ""


def load(path: Path) -> Report | None:
    """The report in `path`; None when it is absent or damaged. RefusedError when a newer version wrote it."""
    value = files.read_json(path)
    if value is None:
        return None
    formats.check(value, FORMAT, str(path))
    arguments, unknown = formats.split({**value, "path": path}, Report)
    begun = value.get("begin")
    if "key" not in value or "end" not in value or not isinstance(begun, dict) or "started_at" not in begun:
        return None
    return Report(**arguments, unknown=unknown)


def read(settings: Settings, *, tidy: bool = False) -> Contents:
    """The reports in the outbox. A deployment that ended without writing its end has it from the journal.

    A report whose end is not in the journal either is left out, and deleted with `tidy`.
    """
    if tidy:
        files.sweep(settings.outbox, age=3600)  # other runs write there at any time, and need a moment only
    contents = Contents([], [])
    try:
        names = sorted(name for name in settings.outbox.iterdir() if name.suffix == ".json")
    except FileNotFoundError:
        return contents
    found = []
    for name in names:
        try:
            if (report := load(name)) is not None:
                found.append(report)
        except RefusedError as newer:
            contents.newer.append(str(newer))
    opened = deployment.load(settings.deployment)
    under_way = path(settings, opened) if opened is not None else None
    contents.reports.extend(_complete(settings, found, under_way, tidy=tidy))
    return contents


def _complete(settings: Settings, found: list[Report], under_way: Path | None, *, tidy: bool) -> list[Report]:
    """`found` with the ends that are missing; the journal is read only when one is."""
    if all(report.end is not None or report.path == under_way for report in found):
        return found
    ends = {entry.deployment: entry for entry in journal.read(settings.journal) if entry.phase == journal.RESULT}
    completed = []
    for report in found:
        entry = ends.get(report.path.stem.partition("-")[2])
        if report.end is not None or report.path == under_way:
            completed.append(report)
        elif entry is not None:
            completed.append(ended(report, entry))
        elif tidy:
            report.path.unlink(missing_ok=True)
    return completed


def read_problem(settings: Settings) -> str:
    """Why reports could not be sent the last time."""
    try:
        return files.read_text(_problem_file(settings), errors="replace").strip()
    except FileNotFoundError:
        return "not tried yet"


def write_problem(settings: Settings, problem: str) -> None:
    """Keep `problem` for `status`. On a full disk it is lost, which does not matter then."""
    try:
        if problem:
            files.write_atomically(_problem_file(settings), problem + "\n", 0o600)
        else:
            _problem_file(settings).unlink(missing_ok=True)
    except OSError:
        return


def _problem_file(settings: Settings) -> Path:
    return settings.outbox / "problem"
