"""Reports deployments to a Logbook (the service in `app/`, wherever one runs): when each began and how it ended.

The journal stays the truth. A report stays in the app's outbox until the Logbook has taken it, and every request may be
repeated: an idempotency key makes the Logbook record it once. Whatever happens to a report, the next deployment sends
it again. No report fails a deployment or holds it up for long.
"""

from __future__ import annotations

import http.client
import json
import re
import ssl
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from slipway.base import files
from slipway.base.errors import RefusedError, SlipwayError
from slipway.base.settings import Settings
from slipway.observers import outbox
from slipway.observers.outbox import Report
from slipway.observers.text import one_line, reason
from slipway.records import journal
from slipway.records.deployment import Deployment

# Seconds that a deployment waits when it begins, and when it has ended, for everything that is sent then.
BEGIN_PATIENCE, END_PATIENCE = 0.5, 3.0

_TIMEOUT = 2.0  # seconds for one answer
_FOR_GOOD = (409, 413, 422)
_FOR_ALL = (401, 403, 429, 503)
_TOKEN = re.compile(r"[!-~]+")


@dataclass
class Delivery:
    """The outcome of sending: how many ended deployments the Logbook has now, how many still wait, and why."""

    sent: int = 0
    waiting: int = 0
    problem: str = ""
    refused: list[str] = field(default_factory=list)


class _TroubleError(Exception):
    """The report has to wait. `is_general`: the next one would fail in the same way."""

    def __init__(self, message: str, *, is_general: bool = False) -> None:
        super().__init__(message)
        self.is_general = is_general


class _RefusedError(Exception):
    """The Logbook will never take this report."""


class Logbook:
    """Observes the deployments of one app and reports them. Each method returns a note for the operator, or ""."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._is_silent = False  # it did not answer the end of one deployment in time: not waited for again

    def opened(self, deployment: Deployment) -> str:
        """Report that a deployment began. When this is not received, the report of its end says it as well."""
        if not self._settings.logbook_url:
            return ""
        report = outbox.new(self._settings, deployment)
        note = outbox.save(self._settings, report)
        _send_within(self._settings, BEGIN_PATIENCE, [report])
        return note

    def phase(self, *_: object, **__: object) -> str:
        """Nothing to do: the receipt, which is sent at the end, has the seconds of each phase."""
        return ""

    def wait(self) -> str:
        """Nothing to do: `closed` has waited, and the rest is in the outbox."""
        return ""

    def closed(self, deployment: Deployment, entry: journal.Entry) -> str:
        """Report how a deployment ended, by its result line, and send what else waits."""
        if not self._settings.logbook_url:
            return ""
        try:
            begun = outbox.load(outbox.path(self._settings, deployment)) or outbox.new(self._settings, deployment)
        except RefusedError as newer:
            return f"The deployment was not reported: {newer}"
        report = outbox.ended(begun, entry)
        kept = outbox.save(self._settings, report)
        delivery = _send_within(self._settings, 0 if self._is_silent else END_PATIENCE, [report])
        self._is_silent = delivery.problem == _late(self._settings)
        return " ".join(filter(None, [kept, _note(self._settings, delivery)]))


def _note(settings: Settings, delivery: Delivery) -> str:
    """A delivery for people; "" when all of it was taken."""
    notes = [f"The Logbook refused the report of {refused}." for refused in delivery.refused]
    if delivery.waiting:
        notes.append(
            f"{count(delivery.waiting)} for the Logbook ({delivery.problem}); "
            f"the next deployment sends them, or `slipway report {settings.app}`."
        )
    return " ".join(notes)


def count(waiting: int) -> str:
    """`3 reports wait`."""
    return "1 report waits" if waiting == 1 else f"{waiting} reports wait"


def waiting(settings: Settings) -> tuple[int, str]:
    """How many ended deployments the Logbook has not got yet, and why not when that was last tried."""
    try:
        contents = outbox.read(settings)
        number = sum(report.end is not None for report in contents.reports) + len(contents.newer)
        return number, outbox.read_problem(settings) if number else ""
    except PermissionError:  # only root may look; for others nothing waits
        return 0, ""


def flush(settings: Settings, unwritten: Sequence[Report] = ()) -> Delivery:
    """Send all that waits, oldest first, and `unwritten`, which may not have found room in the outbox."""
    contents = outbox.read(settings, tidy=True)
    reports = {report.path: report for report in (*contents.reports, *unwritten)}
    remaining = {path for path, report in reports.items() if report.end is not None}
    delivery = Delivery(problem=contents.newer[0].rstrip(".") if contents.newer else "")
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
    delivery.waiting = len(remaining) + len(contents.newer)
    outbox.write_problem(settings, delivery.problem)
    return delivery


def _send_within(settings: Settings, patience: float, unwritten: Sequence[Report]) -> Delivery:
    """`flush`, abandoned after `patience` seconds: no timeout of Python's covers a name that is being looked up."""
    done: list[Delivery] = []

    def work() -> None:
        try:
            done.append(flush(settings, unwritten))
        except SlipwayError as error:
            done.append(Delivery(waiting=len(unwritten), problem=str(error).rstrip(".")))
        except Exception as error:  # a report must not fail a deployment, whatever is wrong
            done.append(Delivery(waiting=len(unwritten), problem=f"{type(error).__name__}: {error}"))

    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    worker.join(patience)
    if done:
        return done[0]
    problem = _late(settings)
    outbox.write_problem(settings, problem)
    return Delivery(waiting=max(waiting(settings)[0], len(unwritten)), problem=problem)


def _late(settings: Settings) -> str:
    return f"{settings.logbook_url} did not answer in time"


class _Link:
    """The connection to the Logbook, with its token."""

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
        """Send the beginning, and the end if there is one; _TroubleError or _RefusedError when it was not taken."""
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
        """Add the app to the services of the Logbook. 409: another host has added it at the same moment."""
        name, repository = self._settings.app, self._settings.logbook_repository_url
        status, answer = self._post("/services", {"name": name, "repository_url": repository})
        if status not in (201, 409):
            message = f"it does not know {name} and does not add it: {_said(status, answer)}"
            raise _TroubleError(message, is_general=True)

    def _fault(self, status: int, answer: dict[str, Any]) -> Exception:
        said = _said(status, answer)
        is_its_own = answer.get("status") == status  # else the answer is from a proxy, or from another service
        if status in _FOR_GOOD and is_its_own:
            return _RefusedError(said)
        message = f"{self._settings.logbook_url} {said}"
        return _TroubleError(message, is_general=status in _FOR_ALL or not is_its_own)

    def _post(self, path: str, body: dict[str, Any], key: str = "") -> tuple[int, dict[str, Any]]:
        """Status and JSON object of the answer ({} when it is not one). _TroubleError when there is no answer."""
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
            content = response.read(2**20).replace(self._token.encode(), b"...")  # an error page may show the request
        except (OSError, http.client.HTTPException, ValueError) as error:
            message = f"{self._settings.logbook_url} does not answer: {reason(error)}"
            raise _TroubleError(message, is_general=True) from error
        finally:
            connection.close()
        try:
            value = files.decode_json(content)
        except ValueError:
            value = None
        return status, value if isinstance(value, dict) else {}

    def _connect(self) -> http.client.HTTPConnection:
        host = self._url.hostname or ""
        if self._context is None:
            return http.client.HTTPConnection(host, self._port, timeout=_TIMEOUT)
        return http.client.HTTPSConnection(host, self._port, timeout=_TIMEOUT, context=self._context)


def _token(settings: Settings) -> str:
    try:
        found = files.read_text(settings.logbook_token_file, errors="replace").strip()
    except FileNotFoundError:
        found = ""
    if not found:
        raise _TroubleError(f"no token is in {settings.logbook_token_file}")
    if not _TOKEN.fullmatch(found):  # http.client would show it in its error message
        raise _TroubleError(f"what is in {settings.logbook_token_file} is no token")
    return found


def _context(settings: Settings) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=settings.logbook_ca or None)
    except OSError as error:
        raise _TroubleError(f"logbook_ca {settings.logbook_ca} cannot be used: {error.strerror or error}") from error


def _said(status: int, answer: dict[str, Any]) -> str:
    """An answer in a few words."""
    words = one_line(str(answer.get("detail") or answer.get("title") or ""))
    if not answer and 200 <= status < 300:
        words = "not the answer of a Logbook"
    return f"answered {status}{f' ({words})' if words else ''}"
