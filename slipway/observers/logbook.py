"""Tells a Logbook (the service in `app/`, wherever one runs) of the deployments here: when each began, how it ended.

The journal stays the truth. A report lies in the app's outbox until the Logbook has taken it, and every request may be
repeated: its key makes the same of it. So whatever happens to a report, the next deployment sends it again; none of it
may fail a deployment or hold one up.
"""

from __future__ import annotations

import http.client
import json
import re
import socket
import ssl
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from slipway.base import files
from slipway.base.settings import Settings
from slipway.records import deployment, journal
from slipway.records.deployment import Deployment

KEPT = 1000  # reports that may wait, the newest ones
BEGIN_PATIENCE, END_PATIENCE = 0.5, 3.0  # seconds that a deployment waits for all that is sent then

_TIMEOUT = 2.0  # seconds for one answer
_FOR_GOOD = (409, 413, 422)
_FOR_ALL = (401, 403, 429, 503)
_TOKEN = re.compile(r"[!-~]+")


@dataclass(frozen=True)
class Report:
    """What the Logbook is told of one deployment; `end` is None until it has ended. Both as the API takes them."""

    path: Path
    key: str
    begin: dict[str, Any]
    end: dict[str, Any] | None


@dataclass
class Delivery:
    """What came of sending: how many ended deployments the Logbook knows now, how many still wait, and why."""

    sent: int = 0
    waiting: int = 0
    problem: str = ""
    refused: list[str] = field(default_factory=list)


class _TroubleError(Exception):
    """The report has to wait. `is_general`: the next one would fare no better."""

    def __init__(self, message: str, *, is_general: bool = False) -> None:
        super().__init__(message)
        self.is_general = is_general


class _RefusedError(Exception):
    """The Logbook will never take this report."""


class Logbook:
    """The observer of deployments that reports them to a Logbook."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def opened(self, deployment: Deployment) -> str:
        return begin(self._settings, deployment)

    def phase(self, *_: object) -> str:
        return ""

    def closed(self, deployment: Deployment, entry: journal.Entry) -> str:
        return end(self._settings, [(deployment, entry)])


def begin(settings: Settings, opened: Deployment) -> str:
    """Report that a deployment began. What keeps it from the outbox, or ""; it is told again when it ends."""
    if not settings.logbook_url:
        return ""
    report = _report(settings, opened)
    note = _save(settings, report)
    _send_within(settings, BEGIN_PATIENCE, [report])
    return note


def end(settings: Settings, closed: Sequence[tuple[Deployment, journal.Entry]]) -> str:
    """Report deployments that have ended, each by its result line; a note of what waits or was refused, or ""."""
    if not settings.logbook_url or not closed:
        return ""
    reports = []
    notes = []
    for opened, entry in closed:
        begun = _load(_path(settings, opened)) or _report(settings, opened)
        reports.append(_ended(begun, entry))
        notes.append(_save(settings, reports[-1]))
    notes.append(_note(settings, _send_within(settings, END_PATIENCE, reports)))
    return " ".join(filter(None, notes))


def _note(settings: Settings, delivery: Delivery) -> str:
    """A delivery for people; "" when all went well."""
    notes = [f"The Logbook refused the report of {refused}." for refused in delivery.refused]
    if delivery.waiting:
        notes.append(
            f"{count(delivery.waiting)} for the Logbook ({delivery.problem}); "
            f"the next deployment sends them, or `slipway tell {settings.app}`."
        )
    return " ".join(notes)


def count(waiting: int) -> str:
    """`3 reports wait`."""
    return "1 report waits" if waiting == 1 else f"{waiting} reports wait"


def waiting(settings: Settings) -> tuple[int, str]:
    """How many ended deployments the Logbook was not told of yet, and why not when that was last tried."""
    try:
        number = sum(report.end is not None for report in _read(settings))
        problem = _problem_file(settings).read_text().strip() if number else ""
    except FileNotFoundError:
        problem = "not tried yet"
    except PermissionError:  # only root may look; to others nothing waits
        return 0, ""
    return number, problem


def flush(settings: Settings, unwritten: Sequence[Report] = ()) -> Delivery:
    """Send all that waits, oldest first, and `unwritten`, which may not have found room in the outbox."""
    reports = {report.path: report for report in (*_read(settings, tidy=True), *unwritten)}
    remaining = {path for path, report in reports.items() if report.end is not None}
    delivery = Delivery()
    try:
        link = _Link(settings)
        for path, report in sorted(reports.items()):
            try:
                link.deliver(report)
                delivery.sent += report.end is not None
            except _RefusedError as refusal:
                delivery.refused.append(f"{report.begin['version']}: {refusal}")
            except _TroubleError as trouble:
                delivery.problem = str(trouble)
                if trouble.is_general:
                    break
                continue
            remaining.discard(path)
            if report.end is not None:
                path.unlink(missing_ok=True)
    except _TroubleError as trouble:
        delivery.problem = str(trouble)
    delivery.waiting = len(remaining)
    _keep_problem(settings, delivery.problem)
    return delivery


def _send_within(settings: Settings, patience: float, unwritten: Sequence[Report]) -> Delivery:
    """`flush`, left alone after `patience` seconds: no timeout of Python's covers a name that is being looked up."""
    done: list[Delivery] = []

    def work() -> None:
        try:
            done.append(flush(settings, unwritten))
        except Exception as error:  # a deployment must not fail over its report, whatever is wrong
            done.append(Delivery(waiting=len(unwritten), problem=f"{type(error).__name__}: {error}"))

    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    worker.join(patience)
    if done:
        return done[0]
    problem = f"{settings.logbook_url} did not answer in time"
    _keep_problem(settings, problem)
    return Delivery(waiting=max(waiting(settings)[0], len(unwritten)), problem=problem)


# Reports


def _report(settings: Settings, opened: Deployment) -> Report:
    host = re.sub(r"[^A-Za-z0-9.:_-]", "-", socket.gethostname())[:255]
    begun = {
        "service": settings.app,
        "environment": settings.environment,
        "host": host,
        "kind": opened.action,
        "version": opened.version[:100],
        "commit": opened.sha,
        "actor": _line(deployment.display_owner(opened.owner)) or "unknown",
        "started_at": opened.opened_at,
    }
    return Report(_path(settings, opened), f"{host}/{settings.app}/{opened.id}", begun, None)


def _ended(begun: Report, entry: journal.Entry) -> Report:
    """`failed` never took traffic; `rolled_back` did, and had to give it back."""
    given_back = "rolled_back" if entry.detail.get("switched") else "failed"
    ending = {
        "status": "succeeded" if entry.outcome == "succeeded" else given_back,
        "finished_at": max(entry.at, begun.begin["started_at"]),  # the clock may have been set back
        "phases": entry.detail.get("receipt", {}).get("phases", {}),
        "detail": entry.message.replace("\0", "").encode(errors="replace").decode()[:4000],
    }
    return Report(begun.path, begun.key, begun.begin, ending)


# The outbox


def _path(settings: Settings, opened: Deployment) -> Path:
    """Named so that the order of names is the order in which deployments began."""
    return settings.outbox / f"{re.sub('[^0-9]', '', opened.opened_at)[:17]}-{opened.id}.json"


def _problem_file(settings: Settings) -> Path:
    return settings.outbox / "problem"


def _save(settings: Settings, report: Report) -> str:
    """Keep a report, and the newest of all; why it could not be kept, or ""."""
    content = {"key": report.key, "begin": report.begin, "end": report.end}
    try:
        settings.outbox.mkdir(mode=0o700, exist_ok=True)
        files.write_atomically(report.path, json.dumps(content, indent=2) + "\n", 0o600)
        surplus = sorted(settings.outbox.glob("*.json"))[:-KEPT]
        for path in surplus:
            path.unlink(missing_ok=True)
    except OSError as error:
        return f"{settings.outbox} could not be written: {error.strerror}."
    return f"{len(surplus)} old report(s) to the Logbook were dropped, {KEPT} are kept." if surplus else ""


def _load(path: Path) -> Report | None:
    value = files.read_json(path)
    try:
        return Report(path, value["key"], value["begin"], value["end"]) if value is not None else None
    except KeyError:
        return None


def _read(settings: Settings, *, tidy: bool = False) -> list[Report]:
    """Reports in the outbox, oldest first. One that has no end though it is over has it from the journal.

    One whose end nobody knows is passed over, and deleted to `tidy`.
    """
    if tidy:
        files.sweep(settings.outbox, age=3600)  # others write there at any time, and are done at once
    try:
        names = sorted(path for path in settings.outbox.iterdir() if path.suffix == ".json")
    except FileNotFoundError:
        return []
    found = [report for path in names if (report := _load(path)) is not None]
    opened = deployment.load(settings.deployment)
    here = _path(settings, opened) if opened is not None else None
    if all(report.end is not None or report.path == here for report in found):
        return found
    ends = {entry.deployment: entry for entry in journal.read(settings.journal) if entry.phase == journal.RESULT}
    completed = []
    for report in found:
        entry = ends.get(report.path.stem.partition("-")[2])
        if report.end is None and report.path != here:
            if entry is None:
                if tidy:
                    report.path.unlink(missing_ok=True)
                continue
            report = _ended(report, entry)
        completed.append(report)
    return completed


def _keep_problem(settings: Settings, problem: str) -> None:
    """For `status`; a full disk has worse to say."""
    path = _problem_file(settings)
    try:
        if problem:
            files.write_atomically(path, problem + "\n", 0o600)
        else:
            path.unlink(missing_ok=True)
    except OSError:
        return


# The Logbook


class _Link:
    """The way to the Logbook, with the token that opens it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._token = _token(settings)
        try:
            self._url = urlsplit(settings.logbook_url)
            self._port = self._url.port or (443 if self._url.scheme == "https" else 80)
        except ValueError as error:
            raise _TroubleError(f"logbook_url {settings.logbook_url} cannot be used: {error}") from error
        self._context = _context(settings) if self._url.scheme == "https" else None

    def deliver(self, report: Report) -> None:
        """Begin, and end where it has ended; _TroubleError when it has to wait, _RefusedError when it is not wanted."""
        status, answer = self._post("/deployments", report.begin, report.key)
        if status == 404:
            self._introduce()
            status, answer = self._post("/deployments", report.begin, report.key)
        if status not in (200, 201) or not isinstance(answer.get("id"), int):
            raise self._fault(status, answer)
        if report.end is not None:
            status, answer = self._post(f"/deployments/{answer['id']}/finish", report.end)
            if status != 200 or answer.get("status") != report.end["status"]:
                raise self._fault(status, answer)

    def _introduce(self) -> None:
        """Make the app a service of the Logbook; another host may be quicker."""
        name, repository = self._settings.app, self._settings.logbook_repository_url
        status, answer = self._post("/services", {"name": name, "repository_url": repository})
        if status not in (201, 409):
            message = f"it does not know {name} and does not add it: {_said(status, answer)}"
            raise _TroubleError(message, is_general=True)

    def _fault(self, status: int, answer: dict[str, Any]) -> Exception:
        said = _said(status, answer)
        is_its_own = answer.get("status") == status  # else a proxy's, or that of somebody who is no Logbook
        if status in _FOR_GOOD and is_its_own:
            return _RefusedError(said)
        message = f"{self._settings.logbook_url} {said}"
        return _TroubleError(message, is_general=status in _FOR_ALL or not is_its_own)

    def _post(self, path: str, body: dict[str, Any], key: str = "") -> tuple[int, dict[str, Any]]:
        """Status and JSON object of an answer (an empty one where it is none); _TroubleError without an answer."""
        headers = {
            "Authorization": f"Bearer {self._token}",
            "Content-Type": "application/json",
            "User-Agent": "slipway",
            "Connection": "close",
        }
        if key:
            headers["Idempotency-Key"] = key
        connection = self._connect()
        try:
            connection.request("POST", f"{self._url.path.rstrip('/')}/api/v1{path}", json.dumps(body), headers)
            response = connection.getresponse()
            status = response.status
            content = response.read(2**20).replace(self._token.encode(), b"...")  # an echo of it is shown to nobody
        except (OSError, http.client.HTTPException, ValueError) as error:
            message = f"{self._settings.logbook_url} does not answer: {_reason(error)}"
            raise _TroubleError(message, is_general=True) from error
        finally:
            connection.close()
        try:
            value = json.loads(content)
        except (ValueError, RecursionError):
            value = None
        return status, value if isinstance(value, dict) else {}

    def _connect(self) -> http.client.HTTPConnection:
        host = self._url.hostname or ""
        if self._context is None:
            return http.client.HTTPConnection(host, self._port, timeout=_TIMEOUT)
        return http.client.HTTPSConnection(host, self._port, timeout=_TIMEOUT, context=self._context)


def _token(settings: Settings) -> str:
    try:
        found = settings.logbook_token_file.read_text(errors="replace").strip()
    except FileNotFoundError:
        found = ""
    if not found:
        raise _TroubleError(f"no token is in {settings.logbook_token_file}")
    if not _TOKEN.fullmatch(found):  # Python would put it into the message of its error
        raise _TroubleError(f"what is in {settings.logbook_token_file} is no token")
    return found


def _context(settings: Settings) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=settings.logbook_ca or None)
    except OSError as error:
        raise _TroubleError(f"logbook_ca {settings.logbook_ca} cannot be used: {error.strerror or error}") from error


def _reason(error: Exception) -> str:
    """Why there was no answer, in a few words on one line."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate cannot be trusted, {error.verify_message}"
    return _line(getattr(error, "strerror", None) or str(error) or type(error).__name__)


def _said(status: int, answer: dict[str, Any]) -> str:
    """An answer in a few words."""
    words = _line(str(answer.get("detail") or answer.get("title") or ""))
    if not answer and 200 <= status < 300:
        words = "no Logbook's answer"
    return f"answered {status}{f' ({words})' if words else ''}"


def _line(text: str) -> str:
    """Text from elsewhere as one line, which any terminal can show and none obeys."""
    return "".join(character if character.isprintable() else " " for character in text[:200])
