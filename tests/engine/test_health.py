import contextlib
import dataclasses
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from slipway.base import settings as config
from slipway.slot import health
from slipway.slot.health import Answer, Gate

SHA = "a" * 40


def _ready(pid: int | None, sha: str | None = SHA) -> Answer:
    return Answer(200, sha=sha, pid=pid)


def _gate(*answers: Answer) -> Gate:
    gate = Gate(sha=SHA, workers=2, answers=2)
    for answer in answers:
        gate.observe(answer)
    return gate


def test_the_gate_needs_several_answers_of_every_worker() -> None:
    assert not _gate().is_open
    assert not _gate(*[_ready(1)] * 20).is_open
    assert not _gate(_ready(1), _ready(1), _ready(2)).is_open
    assert _gate(_ready(1), _ready(2), _ready(1), _ready(2)).is_open


@pytest.mark.parametrize(
    "bad", [Answer(503, problem="no database"), Answer(0, problem="timed out"), _ready(2, "b" * 40)]
)
def test_a_failed_answer_resets_the_count(bad: Answer) -> None:
    gate = _gate(_ready(1), _ready(2), _ready(1), bad, _ready(2))
    assert not gate.is_open
    assert gate.by_worker == {2: 1}


def test_answers_of_another_commit_do_not_open_the_gate() -> None:
    gate = _gate(*[_ready(pid, "b" * 40) for pid in (1, 2)] * 10)
    assert not gate.is_open
    assert "bbbbbbbbbbbb" in gate.problem


def test_an_app_without_pids_must_give_as_many_answers_in_a_row() -> None:
    assert not _gate(*[_ready(None, None)] * 3).is_open
    assert _gate(*[_ready(None, None)] * 4).is_open


def test_a_third_of_two_workers_means_that_one_crashed() -> None:
    assert not _gate(_ready(1), _ready(2)).lost_worker
    assert _gate(_ready(1), _ready(2), _ready(3)).lost_worker


@pytest.mark.parametrize("body", [b"", b"ok", b"[1]", b"\xff\xfe"])
def test_a_body_that_is_not_an_object_counts_by_its_status(body: bytes) -> None:
    assert health.read_answer(200, body).ok
    assert not health.read_answer(500, body).ok


def test_a_problems_detail_is_what_is_shown() -> None:
    assert health.read_answer(503, b'{"detail":"database away"}').problem == "database away"


def test_the_authorities_are_not_read_as_the_sites_certificate_is_not_verified() -> None:
    context = health._unverified()
    assert context.cert_store_stats()["x509_ca"] == 0
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_NONE, False)


# An answer that takes its time

DRIPS = {
    "the status line": (b"", b"H"),
    "the headers": (b"HTTP/1.1 200 OK\r\n", b"X-A: 1\r\n"),
    "one header": (b"HTTP/1.1 200 OK\r\nX-A: ", b"1"),
    "the body": (b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n", b"x"),
    "a body of no length": (b"HTTP/1.1 200 OK\r\n\r\n", b"x"),
    "chunks": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
    "answers that are not the last one": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "nothing at all": (b"", b""),
}


@contextlib.contextmanager
def dripping(path: Path, first: bytes, more: bytes) -> Iterator[None]:
    """A server that sends `first`, and then `more` again and again, before any reader loses patience."""
    ended = threading.Event()

    def serve() -> None:
        with contextlib.suppress(OSError), listener.accept()[0] as client:
            client.sendall(first)
            while not ended.wait(0.03):
                client.sendall(more)

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


@pytest.mark.parametrize(("first", "more"), DRIPS.values(), ids=DRIPS)
def test_the_time_of_a_request_is_for_all_of_its_answer(
    settings: config.Settings, tmp_path: Path, first: bytes, more: bytes
) -> None:
    """It was for each read: an answer that came byte by byte was waited for without an end."""
    with dripping(tmp_path / "s", first, more):
        started = time.monotonic()
        answer = health.ask_slot(settings, tmp_path / "s", timeout=0.3)
        assert time.monotonic() - started < 1
    assert not answer.ok
    assert "timed out" in answer.sentence


def test_a_site_that_does_not_finish_its_handshake_is_not_waited_for(settings: config.Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        asked = dataclasses.replace(settings, watch_url="https://localhost/", watch_port=listener.getsockname()[1])
        started = time.monotonic()
        answer = health.ask_site(asked, timeout=0.3)
        assert time.monotonic() - started < 1
    assert not answer.ok
    assert "timed out" in answer.sentence


def test_an_answer_in_time_is_read_as_a_whole(settings: config.Settings, tmp_path: Path) -> None:
    body = b'{"sha": "abc", "pid": 7}'
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with dripping(tmp_path / "s", head + body, b""):
        answer = health.ask_slot(settings, tmp_path / "s", timeout=2)
    assert (answer.status, answer.sha, answer.pid) == (200, "abc", 7)


def test_a_status_counts_as_ready_where_the_settings_say_so() -> None:
    assert not health.read_answer(429, b"slow down").ok
    assert health.read_answer(429, b"slow down", accepted=(200, 429)).ok
    assert not health.read_answer(204, b"", accepted=(200, 429)).ok


def test_an_answer_that_only_says_not_so_often_neither_counts_nor_resets_the_count() -> None:
    gate = health.Gate(sha="abc", workers=1, answers=2)
    for status in (200, 429, 200):
        gate.observe(health.Answer(status))
    assert gate.is_open
    limited = health.Gate(sha="abc", workers=1, answers=1)
    limited.observe(health.Answer(429))
    assert not limited.is_open
    assert "429" in limited.problem


def test_health_requests_keep_their_time_between_them(
    settings: config.Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    clock = [100.0]

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        clock[0] += seconds

    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(time, "sleep", sleep)
    pace = health._Pace()
    for _ in range(3):
        pace.wait(dataclasses.replace(settings, health_every=2.0))
    assert slept == [0.0, 2.0, 2.0]
    unlimited = health._Pace()
    for _ in range(2):
        unlimited.wait(settings)
        unlimited.noted(health.Answer(200))
    assert slept[3:] == [0.0, 0.0], "as fast as it answers"
    for _ in range(2):
        unlimited.noted(health.Answer(429))
        unlimited.wait(settings)
    assert slept[5:] == [0.5, 1.0], "fewer and fewer, once the app has said so"
