"""`slipway status` and `slipway releases`: what is live, its state, and the last deployments. Only reads."""

from __future__ import annotations

import re
import shutil
import socket
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from slipway.base import files, process
from slipway.base.errors import SlipwayError
from slipway.base.settings import Settings
from slipway.cli import upkeep
from slipway.deployment import lock
from slipway.observers import logbook
from slipway.records import deployment, journal, manifest, owner, receipt
from slipway.release import store
from slipway.schema import migrate
from slipway.slot import background, cutover, denials, health, slots, standby, systemd

LAST = 5
LOG_ENTRIES = 5000  # of the live slot's log, the newest ones, in which denials of the sandbox are looked for
LOG_SECONDS = 5.0
OWN_AUTHORITY = "Slipway on "  # the name of each host's own certificate authority begins with this


def gather(settings: Settings) -> dict[str, Any]:
    """The status of one app. A part that could not be read has the reason in its field `error`."""
    entries = journal.read(settings.journal)
    slot = slots.live_slot(settings)
    name = slots.live_release(settings)
    release = manifest.read(settings.release(name)) if name else None
    reports, why = logbook.waiting(settings)
    return {
        "host": socket.gethostname(),
        "app": settings.app,
        "environment": settings.environment,
        "live": _live(settings, entries, slot, name, release),
        "deployment": _deployment(settings),
        "sandbox": _sandbox(settings, slot),
        "standby": standby.describe(settings),
        "background": background.describe(settings),
        "database": _database(settings, name, release),
        "certificate": _certificate(settings),
        "disk": _disk(settings.root),
        "upkeep": upkeep.gather(settings.app, slot),
        "logbook": {"waiting": reports, "problem": why} if settings.logbook_url else None,
        "last": [
            {
                "action": item.action,
                "tag": item.tag,
                "sha": item.sha,
                "outcome": item.outcome,
                "seconds": round(item.seconds, 1),
                "at": item.at,
                "owner": item.owner,
                "message": item.message,
                "receipt": item.detail.get("receipt"),
            }
            for item in journal.results(entries, LAST)
        ],
    }


def _live(
    settings: Settings,
    entries: Sequence[journal.Entry],
    slot: str | None,
    name: str | None,
    release: manifest.Manifest | None,
) -> dict[str, Any] | None:
    if slot is None or name is None:
        return None
    unit = systemd.state(settings.app, slot)
    found = release or next((entry for entry in reversed(entries) if entry.release == name), None)
    return {
        "tag": found.tag if found else None,
        "sha": found.sha if found else "",
        "release": name,
        "damaged": release is None,
        "slot": slot,
        "since": journal.live_since(entries, name),
        "unit": unit.active,
        "restarts": unit.restarts,
        "settings_changed": slots.inputs_changed(settings, slot),
        "problem": cutover.why_no_answer(settings, slot),
    }


def _sandbox(settings: Settings, slot: str | None) -> dict[str, Any]:
    """What the sandbox denied the live release since it was started, as far as its log shows."""
    if slot is None:
        return {"denied": []}
    try:
        log = systemd.log(settings.app, slot, slots.prepared_at(settings, slot), LOG_ENTRIES, LOG_SECONDS)
    except SlipwayError as error:
        return {"denied": [], "error": f"the log was not looked through for denials: {error}"}
    return {"denied": [asdict(denial) for denial in denials.find(log, settings)]}


def _deployment(settings: Settings) -> dict[str, Any] | None:
    """The deployment that is open."""
    try:
        opened, lease = deployment.load(settings.deployment), lock.read(settings.lock)
    except SlipwayError as error:
        return {"error": str(error)}
    if opened is None:
        return None
    return {
        "action": opened.action,
        "version": opened.version,
        "owner": opened.owner,
        "state": opened.state,
        "phase": lease.phase if lease else None,
    }


def _database(settings: Settings, name: str | None, release: manifest.Manifest | None) -> dict[str, Any]:
    if settings.database == "none":
        return {"revision": None, "pending": [], "error": "the app has none"}
    if settings.migrates != "alembic":
        return {"revision": None, "pending": [], "error": f"its revision is not known, as {migrate.stays(settings)}"}
    if release is None:
        found: dict[str, Any] = {"revision": None, "pending": []}
        return {**found, "error": f"not compared with {name}, whose manifest cannot be read"} if name else found
    if release.revisions is None:
        return {"revision": None, "pending": [], "error": "the app has no alembic"}
    if settings.database != "postgresql":
        return {"revision": None, "pending": [], "error": f"is {settings.database}, whose revision is not looked at"}
    try:
        revision, waiting = migrate.pending(settings, release)
    except SlipwayError as error:
        return {"revision": None, "pending": [], "error": str(error)}
    return {"revision": revision, "pending": [str(item) for item in waiting], "ahead": not release.knows(revision)}


def _certificate(settings: Settings) -> dict[str, Any] | None:
    if not settings.certificate:
        return None
    # What clients are shown counts: Nginx may not have loaded the file that is there.
    served = health.served_certificate(settings) if settings.watch_url else ""
    asked = ["-noout", "-enddate", "-issuer", "-nameopt", "RFC2253,-esc_msb,utf8"]
    where = [] if served else ["-in", settings.certificate]
    result = process.run(["openssl", "x509", *asked, *where], given=served)
    if result.returncode != 0:
        return {"expires": None, "days_left": None, "error": f"{settings.certificate} cannot be read"}
    expires = parse_end_date(result.stdout)
    issuer = parse_issuer(result.stdout)
    return {
        "expires": expires.isoformat(),
        "days_left": (expires - datetime.now(UTC)).days,
        "issuer": issuer,
        "self_signed": issuer.startswith(OWN_AUTHORITY),
        "failure": _failure(Path(settings.certificate).with_name("failure")),
        "problem": _not_loaded(settings, served) if settings.watch_url else "",
    }


def _not_loaded(settings: Settings, served: str) -> str:
    """What is wrong with what Nginx serves in place of the certificate in the file; "" if it is that one."""
    if not served:
        return "Nginx does not show it to clients"
    try:
        installed = Path(settings.certificate).read_text()
    except OSError:
        return f"{settings.certificate} cannot be read"
    if installed.strip().startswith(served.strip()):
        return ""
    return f"this is not the one in {settings.certificate}: systemctl reload nginx"


def _failure(path: Path) -> str | None:
    """Why the last renewal failed: the program that renews writes it to a file beside the certificate."""
    try:
        return files.read_text(path, errors="replace").strip()
    except OSError:
        return None


def parse_end_date(output: str) -> datetime:
    """Read `openssl x509 -enddate`: notAfter=Nov 24 11:25:01 2027 GMT."""
    text = re.search(r"^notAfter=(.+) GMT$", output, re.MULTILINE)
    if text is None:
        raise ValueError(f"openssl printed no end date: {output!r}")
    return datetime.strptime(text[1], "%b %d %H:%M:%S %Y").replace(tzinfo=UTC)


def parse_issuer(output: str) -> str:
    """The issuer's name from `openssl x509 -issuer -nameopt RFC2253`: issuer=CN=R11,O=Let's Encrypt,C=US.

    Without a CN it is the whole issuer.
    """
    issuer = re.search(r"^issuer=(.*)$", output, re.MULTILINE)
    name = re.search(r"(?:^|,)CN=((?:\\.|[^,\\])+)", issuer[1]) if issuer else None
    return name[1] if name else issuer[1] if issuer else ""


def _disk(path: Path) -> dict[str, Any]:
    usage = shutil.disk_usage(path)
    return {"free_mb": usage.free // 2**20, "used_percent": round(100 * usage.used / usage.total)}


def render(found: dict[str, Any]) -> str:
    """The result of `gather` as text for people."""
    live, database, certificate, disk = (found[key] for key in ("live", "database", "certificate", "disk"))
    rows = [("app", f"{found['app']} ({found['environment']}) on {found['host']}")]
    if live:
        since = f", since {_when(live['since'])}" if live["since"] else ""
        rows.append(("live", f"{live['tag'] or 'commit'} {live['sha'][:12]} in {live['slot']}{since}"))
        if live["damaged"]:
            rows.append(("release", f"the manifest of {live['release']} cannot be read: deploy this version again"))
        health = live["unit"] + (f", restarted {live['restarts']} times" if live["restarts"] else "")
        if live["settings_changed"]:
            health += "; its settings were changed since it was started: deploy again to apply them"
        rows.append(("unit", health))
        rows.append(("health", f"not ready: {live['problem']}" if live["problem"] else "ready"))
    else:
        rows.append(("live", "nothing yet: run deploy.yml"))
    if problem := found["sandbox"].get("error"):
        rows.append(("sandbox", problem))
    rows += [("sandbox", f"{item['error']}: {item['remedy']}") for item in found["sandbox"]["denied"]]
    rows += background.rows(found["background"], found["app"])
    if found["standby"]:
        rows.append(("standby", standby.sentence(found["standby"])))
    if open_deployment := found["deployment"]:
        rows.append(("open", open_deployment.get("error") or _progress(open_deployment)))
    waiting = f", pending: {'; '.join(database['pending'])}" if database["pending"] else ", nothing pending"
    if database.get("ahead"):
        waiting = ", ahead of this release"
    rows.append(("database", database.get("error") or f"at {database['revision'] or 'no revision'}{waiting}"))
    if certificate:
        rows.append(("tls", certificate.get("error") or _validity(certificate)))
    rows.append(("disk", f"{disk['free_mb']} MB free, {disk['used_percent']} % used"))
    rows += upkeep.rows(found["upkeep"], found["app"])
    if (reports := found["logbook"]) and reports["waiting"]:
        text = f"{logbook.count(reports['waiting'])} ({reports['problem']}): slipway report {found['app']}"
        rows.append(("logbook", text))
    for item in found["last"]:
        version = item["tag"] or item["sha"][:12]
        text = f"{_when(item['at'])}  {item['action']} {version}: {item['outcome']} in {item['seconds']:.1f} s"
        rows.append(("last", f"{text}{_count(item['receipt'])}, {owner.display(item['owner'])}"))
    return table(rows)


def table(rows: Sequence[tuple[str, str]]) -> str:
    """Labels and what belongs to them, a line each."""
    return "\n".join(f"{label:<10}{value}" for label, value in rows)


def _progress(opened: dict[str, Any]) -> str:
    """Which deployment is open, whose it is, and how far it has come."""
    who = owner.display(opened["owner"])
    return f"{opened['action']} of {opened['version']} by {who}: {opened['state']}"


def _validity(certificate: dict[str, Any]) -> str:
    """When a certificate expires, who issued it, and why it was not renewed."""
    day, left = certificate["expires"][:10], certificate["days_left"]
    text = f"expired on {day}" if left < 0 else f"expires {day} ({left} days left)"
    text += ", self-signed" if certificate["self_signed"] else f", issued by {certificate['issuer']}"
    text += f"; not renewed: {certificate['failure']}" if certificate["failure"] else ""
    return text + (f"; {certificate['problem']}" if certificate["problem"] else "")


def _when(time: str) -> str:
    """A time of the journal, for people."""
    return f"{time[:10]} {time[11:19]} UTC"


def _count(summary: dict[str, Any] | None) -> str:
    """The counts of a receipt, to be added to a line; "" if there is no receipt, or nothing was sent."""
    return f", {receipt.count(summary)}" if summary and summary["sent"] else ""


def list_releases(settings: Settings) -> list[dict[str, Any]]:
    """The complete releases on this host, the newest deploy first; releases that were never live come last."""
    order = {entry.release: entry for entry in journal.deployed(journal.read(settings.journal))}
    position = {name: index for index, name in enumerate(order)}
    live = slots.live_release(settings)
    present = store.complete(settings)
    return [
        {
            "release": name,
            "tag": item.tag,
            "sha": item.sha,
            "subject": item.subject,
            "built_at": item.built_at,
            "deployed_at": order[name].at if name in order else None,
            "seconds": round(order[name].seconds, 1) if name in order else None,
            "receipt": order[name].detail.get("receipt") if name in order else None,
            "live": name == live,
        }
        for name, item in sorted(present.items(), key=lambda pair: position.get(pair[0], -1), reverse=True)
    ]


def render_releases(found: Sequence[dict[str, Any]]) -> str:
    if not found:
        return "no releases"
    lines = []
    for item in found:
        when = "never live"
        if item["deployed_at"]:
            when = f"deployed {_when(item['deployed_at'])} in {item['seconds']:.1f} s{_count(item['receipt'])}"
        lines.append(f"{'*' if item['live'] else ' '} {item['release']:<32} {when}  {item['subject']}")
    return "\n".join(lines)
