"""What a hook is told: one event of a deployment as an object, and as a sentence for people."""

from __future__ import annotations

import json
import re
import socket
from typing import Any

from slipway.base.settings import Settings
from slipway.observers.text import one_line
from slipway.records import journal, owner, phases, receipt
from slipway.records.deployment import Deployment

VERSION = 1  # of the object's format
OPENED, SWITCHED, CLOSED = EVENTS = ("opened", "switched", "closed")
FORMATS = ("json", "slack", "mattermost")

_WORDS = 1000  # characters of a message in a chat
_MENTION = re.compile(r"@(?=(?:all|channel|here)\b)", re.IGNORECASE)

Event = dict[str, Any]


def event(settings: Settings, deployment: Deployment, name: str, entry: journal.Entry | None = None) -> Event:
    """The object for a hook; `entry` is the result line, of CLOSED."""
    told = {
        "event_version": VERSION,
        "event": name,
        "app": settings.app,
        "environment": settings.environment,
        "host": socket.gethostname(),
        "fleet": list(deployment.fleet),
        "action": deployment.action,
        "version": deployment.version,
        "commit": deployment.sha,
        "actor": one_line(owner.display(deployment.owner)) or "unknown",
        "previous_version": _version(deployment.from_release),
        "time": entry.at if entry is not None else journal.now(),
    }
    if entry is not None:
        told |= {
            "outcome": entry.outcome,
            "message": entry.message,
            "live_version": _version(entry.live),
            "receipt": entry.detail.get("receipt", {}),
        }
    return told


def _version(release: str | None) -> str | None:
    """The tag, or else the commit, in a release's name, for example `v1.2.0-5f2c1d9a7b3e`."""
    if release is None:
        return None
    tag, _, sha = release.rpartition("-")
    return sha if tag in ("", "commit") else tag.replace("~", "/")


def sentence(told: Event) -> str:
    """`logbook (prod): v1.2.0 is live, deployed by alice in 8.4 s, 0 of 412 requests failed.`

    Each host of a fleet says so, with its name.
    """
    where = f" on {told['host']}" if told["fleet"] else ""
    return f"{told['app']} ({told['environment']}){where}: {_what_happened(told)}"


def _what_happened(told: Event) -> str:
    version, actor = told["version"], told["actor"]
    is_deploy = told["action"] == "deploy"
    if told["event"] == OPENED:
        now = f"; {told['previous_version']} is live" if told["previous_version"] else ""
        return f"{actor} {'deploys' if is_deploy else 'rolls back to'} {version}{now}."
    if told["event"] == SWITCHED:
        return f"{version} takes traffic ({told['action']} by {actor})."
    if told["outcome"] == "succeeded":
        done = "is live, deployed" if is_deploy else "is live again after a rollback"
        return f"{version} {done} by {actor}{_cost(told['receipt'])}."
    verb = "was undone" if told["outcome"] == "reverted" else "failed"
    live = f"{told['live_version']} is live." if told["live_version"] else "Nothing is live."
    what = "deploy of" if is_deploy else "rollback to"
    return f"the {what} {version} by {actor} {verb}: {one_line(told['message'], _WORDS).rstrip('. ')}. {live}"


def _cost(summary: dict[str, Any]) -> str:
    """How long it took until the release was live, and what became of the requests."""
    if not summary:
        return ""
    seconds = sum(seconds for name, seconds in summary["phases"].items() if name in phases.BEFORE_LIVE)
    return f" in {seconds:.1f} s" + (f", {receipt.count(summary)}" if summary["sent"] else "")


def body(told: Event, form: str) -> bytes:
    """An event as a webhook wants it: the object itself, or a message of Slack or Mattermost."""
    if form == "json":
        return json.dumps(told).encode()
    text = sentence(told).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    if form == "mattermost":
        text = _MENTION.sub("@\u200b", text)  # an invisible space, so that an error message calls nobody
    return json.dumps({"text": text}).encode()
