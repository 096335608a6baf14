"""What the Logbook is told, and that nothing it does or leaves undone can harm a deployment."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from slipway.base import settings as config
from slipway.base.errors import FailedError, LockedError
from slipway.observers import logbook
from slipway.records import deployment, journal, phases
from slipway.records.deployment import Deployment, Request
from slipway.slot import slots

from .fake_logbook import TOKEN, Answer, Logbook, connect, notes, problem, values_of, waiting
from .fakes import V1, V2, V3, Host, deployed, request


def test_a_deploy_is_told_when_it_begins_and_when_it_ends(host: Host, told: Logbook) -> None:
    host.engine.stage(request(V1, owner="alice@laptop (pid 7, run 1-2)"), None)
    begun, status_of_begin = told.told[-1][1], host.settings.outbox.stat().st_mode & 0o777
    assert begun == {
        "service": "logbook",
        "environment": "prod",
        "host": socket.gethostname(),
        "kind": "deploy",
        "version": "v1",
        "commit": V1[1],
        "actor": "alice@laptop",
        "started_at": begun["started_at"],
    }
    assert status_of_begin == 0o700
    host.engine.cut_over(None)
    path, ended = told.told[-1]
    assert path == "/api/v1/deployments/1/finish"
    assert ended["status"] == "succeeded"
    assert ended["detail"].startswith("v1 is live in ")
    assert set(ended["phases"]) == {"stage", "migrate", "start", "switch", "watch", "drain"}
    assert ended["finished_at"] >= begun["started_at"]
    assert (waiting(host), notes(host), len(told.keys)) == (0, [], 1)


def test_the_end_is_told_when_the_deployment_is_closed_and_its_lock_is_free(host: Host, told: Logbook) -> None:
    left: list[str] = []
    answer = told.answer

    def look(path: str, body: dict[str, Any], key: str | None) -> Answer:
        if path.endswith("/finish"):
            left.extend(["open"] if deployment.load(host.settings.deployment) else [])
            try:
                host.engine.prune()
            except LockedError:
                left.append("locked")
        return answer(path, body, key)

    told.answer = look  # type: ignore[method-assign]  # a fake: this one answer is to differ
    deployed(host, V1)
    assert (told.ends(), left) == ([(1, "succeeded")], [])


def _fails_its_gate(host: Host) -> None:
    host.bad_gate.add(V2[1])
    with pytest.raises(FailedError):
        deployed(host, V2)


def _fails_its_watch(host: Host) -> None:
    host.watch_reason = "9 of 20 requests were answered with a server error"
    with pytest.raises(FailedError):
        deployed(host, V2)


def _is_reverted_before_the_switch(host: Host) -> None:
    host.engine.stage(request(V2), None)
    host.engine.revert("alice")


def _is_reverted_after_the_switch(host: Host) -> None:
    host.engine.stage(request(V2), None)
    host.engine.phase("start", "alice")
    host.engine.phase("switch", "alice")
    host.engine.revert("alice")


def _dies_between_the_rename_and_its_line(host: Host) -> None:
    host.engine.stage(request(V2), None)
    host.engine.phase("start", "alice")
    slots.switch(host.settings, "green")
    host.engine.revert("alice")


def _dies_in_its_undoing(host: Host) -> None:
    host.engine.stage(request(V2), None)
    host.engine.phase("start", "alice")
    host.engine.phase("switch", "alice")
    opened = deployment.load(host.settings.deployment)
    assert opened is not None
    deployment.save(host.settings.deployment, replace(opened, state=phases.REVERTING))
    slots.switch(host.settings, "blue")
    host.engine.recover()


def _dies_before_the_switch(host: Host) -> None:
    host.engine.stage(request(V2), None)
    host.engine.recover()


def _dies_after_the_switch(host: Host) -> None:
    host.engine.stage(request(V2), None)
    host.engine.phase("start", "alice")
    host.engine.phase("switch", "alice")
    host.engine.recover()


@pytest.mark.parametrize(
    ("happens", "end"),
    [
        (_fails_its_gate, "failed"),
        (_is_reverted_before_the_switch, "failed"),
        (_dies_before_the_switch, "failed"),
        (_fails_its_watch, "rolled_back"),
        (_is_reverted_after_the_switch, "rolled_back"),
        (_dies_between_the_rename_and_its_line, "rolled_back"),
        (_dies_in_its_undoing, "rolled_back"),
        (_dies_after_the_switch, "succeeded"),
    ],
)
def test_what_gave_traffic_back_is_told_apart_from_what_never_had_it(
    host: Host, told: Logbook, happens: Callable[[Host], None], end: str
) -> None:
    deployed(host, V1)
    happens(host)
    assert told.ends() == [(1, "succeeded"), (2, end)]
    assert waiting(host) == 0


def test_a_rollback_is_told_as_one(host: Host, told: Logbook) -> None:
    deployed(host, V1, V2)
    host.engine.rollback(Request(owner="bob"))
    assert [body["kind"] for path, body in told.told if path.endswith("/deployments")][-1] == "rollback"
    assert told.ends()[-1] == (3, "succeeded")


def test_without_a_url_nothing_is_written_or_sent(host: Host) -> None:
    deployed(host, V1)
    assert not host.settings.outbox.exists()
    assert notes(host) == []


def test_reports_wait_for_a_token_and_are_sent_in_their_order(host: Host, told: Logbook) -> None:
    token = host.settings.logbook_token_file
    content = token.read_text()
    token.write_text("")
    deployed(host, V1)
    assert told.told == []
    token.unlink()
    deployed(host, V2)
    assert logbook.waiting(host.settings) == (2, f"no token is in {token}")
    assert f"2 reports wait for the Logbook (no token is in {token}); the next deployment sends them" in notes(host)[-1]
    token.write_text(content)
    assert logbook.flush(host.settings) == logbook.Delivery(sent=2)
    assert [body["version"] for path, body in told.told if path.endswith("/deployments")] == ["v1", "v2"]
    assert logbook.waiting(host.settings) == (0, "")


def test_an_app_that_the_logbook_does_not_know_is_introduced(host: Host, told: Logbook) -> None:
    told.services.clear()
    deployed(host, V1)
    introduced = [body for path, body in told.told if path.endswith("/services")]
    assert introduced == [{"name": "logbook", "repository_url": "https://git.example.com/logbook"}]
    assert told.ends() == [(1, "succeeded")]


def test_two_hosts_may_introduce_the_app_at_once(host: Host, told: Logbook) -> None:
    told.services.clear()
    introduced = threading.Event()
    answer = told.answer

    def late(path: str, body: dict[str, Any], key: str | None) -> Answer:
        if path.endswith("/services"):
            told.services.add("logbook")
            introduced.set()
            return problem(409, "The name is taken.")
        return answer(path, body, key)

    told.answer = late  # type: ignore[method-assign]  # a fake: this one answer is to differ
    host.engine.stage(request(V1), None)
    assert introduced.is_set()
    assert len(told.keys) == 1


@pytest.mark.parametrize(
    ("part", "answer", "reason"),
    [
        ("deployments", problem(500, "A mistake of ours."), "answered 500 (A mistake of ours.)"),
        ("deployments", problem(503, "The database is away."), "answered 503"),
        ("deployments", problem(429, "Too many attempts."), "answered 429"),
        ("deployments", (502, b"<html>Bad Gateway"), "answered 502"),
        ("deployments", (301, b""), "answered 301"),
        ("deployments", (201, b"<html>Welcome"), "answered 201 (not the answer of a Logbook)"),
        ("deployments", (201, ["id"]), "answered 201 (not the answer of a Logbook)"),
        ("deployments", (201, b"[" * 200_000), "answered 201 (not the answer of a Logbook)"),
        ("deployments", (422, {"detail": "of another service"}), "answered 422"),
        ("deployments", (404, b"nothing here"), "it does not know logbook and does not add it: answered 404"),
        ("finish", problem(500, "Half-way."), "answered 500 (Half-way.)"),
        ("finish", (200, {"status": "failed"}), "answered 200"),
    ],
)
def test_what_the_logbook_could_not_take_waits_and_the_deploy_succeeds(
    host: Host, told: Logbook, part: str, answer: Answer, reason: str
) -> None:
    told.answers = {part: answer}
    if answer[0] == 404:
        told.answers["services"] = answer
    deployed(host, V1)
    assert host.results() == [("deploy", "v1", "succeeded")]
    number, why = logbook.waiting(host.settings)
    assert number == 1
    assert reason in why
    assert reason in notes(host)[-1]
    told.answers = {}
    deployed(host, V2)
    assert [status for _, status in told.ends()][-2:] == ["succeeded", "succeeded"]
    assert (waiting(host), len(told.keys)) == (0, 2)


@pytest.mark.parametrize(("part", "code"), [("deployments", 422), ("finish", 409), ("finish", 422)])
def test_what_the_logbook_refuses_for_good_is_dropped_and_said(host: Host, told: Logbook, part: str, code: int) -> None:
    told.answers = {part: problem(code, "It ended\notherwise.\x1b[2J\u202e\ud800")}
    deployed(host, V1)
    assert waiting(host) == 0
    assert notes(host) == [
        f"The Logbook refused the report of v1: answered {code} (It ended otherwise. [2J  ).",
    ]


def test_reports_that_the_logbook_chokes_on_do_not_keep_the_next_ones_out(host: Host, told: Logbook) -> None:
    answer = told.answer

    def choke(path: str, body: dict[str, Any], key: str | None) -> Answer:
        return answer(path, body, key) if body.get("version", "v3") == "v3" else problem(500, "Choked.")

    told.answer = choke  # type: ignore[method-assign]  # a fake: this one answer is to differ
    deployed(host, V1, V2, V1, V2, V3)
    assert told.ends() == [(1, "succeeded")]
    assert waiting(host) == 4


@pytest.mark.parametrize(
    "answer",
    [*(problem(code, f"Not now, with {TOKEN}.") for code in (401, 403, 429, 503)), (502, b"<html>"), (404, b"<html>")],
)
def test_after_an_answer_that_the_next_report_would_get_too_no_more_is_tried(
    host: Host, told: Logbook, answer: Answer
) -> None:
    told.answers = {"deployments": answer, "services": answer}
    deployed(host, V1, V2)
    told.told.clear()
    delivery = logbook.flush(host.settings)
    assert len([path for path, _ in told.told if path.endswith("/deployments")]) == 1
    assert (delivery.sent, delivery.waiting) == (0, 2)
    assert TOKEN not in delivery.problem + "".join(notes(host))


def test_a_logbook_that_is_down_is_named_with_the_reason(host: Host, told: Logbook) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    connect(host, url)
    deployed(host, V1)
    assert host.results() == [("deploy", "v1", "succeeded")]
    assert notes(host) == [
        f"1 report waits for the Logbook ({url} does not answer: Connection refused); "
        "the next deployment sends them, or `slipway report logbook`."
    ]
    assert told.told == []


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("https://[2001:db8::1]", ("2001:db8::1", 443)),
        ("http://[::1]/logbook", ("::1", 80)),
        ("https://logbook.example.com", ("logbook.example.com", 443)),
        ("https://logbook.example.com:8443", ("logbook.example.com", 8443)),
    ],
)
@pytest.mark.usefixtures("told")
def test_the_logbook_is_looked_for_where_its_address_says(
    host: Host, monkeypatch: pytest.MonkeyPatch, url: str, address: tuple[str, int]
) -> None:
    sought: list[tuple[str, int]] = []

    def connect_to(wanted: tuple[str, int], *_: object) -> socket.socket:
        sought.append(wanted)
        raise ConnectionRefusedError(111, "Connection refused")

    deployed(host, V1)
    connect(host, url)
    monkeypatch.setattr(socket, "create_connection", connect_to)
    deployed(host, V2)
    assert set(sought) == {address}


@pytest.mark.parametrize("url", ["http://localhost:99999", "https://[::::]", "https://a..b"])
def test_an_address_that_cannot_be_one_is_said_to_be_none(host: Host, told: Logbook, url: str) -> None:
    connect(host, config.parse({**values_of(host), "logbook_url": url}, "test").logbook_url)
    deployed(host, V1)
    assert url in logbook.waiting(host.settings)[1]
    assert logbook.flush(host.settings).waiting == 1
    assert told.told == []


def test_a_logbook_that_does_not_speak_http_is_a_logbook_that_is_down(host: Host, told: Logbook) -> None:
    with socket.create_server(("127.0.0.1", 0)) as odd:

        def talk() -> None:
            while True:
                try:
                    caller, _ = odd.accept()
                except OSError:
                    return
                with caller:
                    caller.sendall(b"\x16\x03\x01 what?\r\n\r\n")

        threading.Thread(target=talk, daemon=True).start()
        connect(host, f"http://127.0.0.1:{odd.getsockname()[1]}")
        deployed(host, V1)
        odd.shutdown(socket.SHUT_RDWR)
    assert waiting(host) == 1
    assert told.told == []


def test_a_logbook_that_never_answers_holds_a_deploy_up_for_no_longer_than_it_may(
    host: Host, told: Logbook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logbook, "BEGIN_PATIENCE", 0.1)
    monkeypatch.setattr(logbook, "END_PATIENCE", 0.3)
    told.delay = 5
    started = time.monotonic()
    deployed(host, V1)
    assert time.monotonic() - started < 2
    assert host.results() == [("deploy", "v1", "succeeded")]
    assert notes(host)[-1].startswith(f"1 report waits for the Logbook ({told.url} did not answer in time)")
    assert logbook.waiting(host.settings) == (1, f"{told.url} did not answer in time")


def test_the_time_for_reports_is_short() -> None:
    assert logbook.BEGIN_PATIENCE + logbook.END_PATIENCE < 4


def test_no_mistake_of_our_own_in_reporting_fails_a_deploy(
    host: Host, told: Logbook, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mistaken(*_: object) -> str:
        raise KeyError("begin")

    monkeypatch.setattr(logbook, "flush", mistaken)
    deployed(host, V1)
    monkeypatch.setattr(logbook.Logbook, "opened", mistaken)
    monkeypatch.setattr(logbook.Logbook, "closed", mistaken)
    deployed(host, V2)
    assert [outcome for *_, outcome in host.results()] == ["succeeded", "succeeded"]
    assert any("KeyError: 'begin'" in note for note in notes(host))
    assert told.told == []


def _opened(number: int) -> Deployment:
    sha = str(number) * 40
    at = f"2026-11-25T10:00:0{number}.000+00:00"
    return Deployment(
        f"id{number}", "deploy", "alice", f"v{number}-{sha[:12]}", f"v{number}", sha, None, None, "blue", at
    )


def _result(opened: Deployment) -> journal.Entry:
    identity = (opened.id, opened.action, journal.RESULT, "succeeded", opened.release, opened.tag, opened.sha)
    return journal.Entry(*identity, opened.owner, at=opened.opened_at)


def test_an_observer_reports_what_it_is_told_and_has_nothing_to_say(host: Host, told: Logbook) -> None:
    observer = logbook.Logbook(host.settings)
    opened = _opened(1)
    assert observer.opened(opened) == ""
    assert observer.phase(opened, "switch", "ok", 0.1, "blue takes traffic: v1") == ""
    assert told.ends() == []
    assert observer.closed(opened, _result(opened)) == ""
    assert (told.ends(), waiting(host), len(told.told)) == ([(1, "succeeded")], 0, 3)


@pytest.mark.slow
def test_a_logbook_that_was_silent_at_one_end_is_not_waited_for_at_the_next(
    host: Host, told: Logbook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logbook, "END_PATIENCE", 1.0)
    told.delay = 5
    observer = logbook.Logbook(host.settings)
    started = time.monotonic()
    for number in (1, 2, 3):
        opened = _opened(number)
        assert "did not answer in time" in observer.closed(opened, _result(opened))
    assert 1.0 < time.monotonic() - started < 1.9
    assert logbook.waiting(host.settings)[0] == 3
