import itertools
import json
import time
from dataclasses import replace
from pathlib import Path

import pytest

from slipway.base import settings as config
from slipway.records.receipt import Receipt
from slipway.slot import health, watch
from slipway.slot.health import Answer

SHA = "a" * 40


def _line(status: int, path: str = "/api", upstream: str | None = None) -> str:
    return json.dumps({"status": status, "uri": path, "upstream_status": str(status) if upstream is None else upstream})


@pytest.mark.parametrize(
    ("requests", "errors", "goes"),
    [(100, 5, False), (100, 6, True), (19, 19, False), (20, 2, True), (0, 0, False)],
)
def test_the_error_budget_needs_enough_requests(requests: int, errors: int, goes: bool) -> None:
    tally = watch.Tally(requests=requests, errors=errors)
    assert bool(tally.over_budget(max_error_ratio=0.05, min_requests=20)) is goes


def test_one_second_without_a_good_probe_is_over_budget_and_a_good_one_resets_it() -> None:
    tally = watch.Tally()
    late = Answer(502, seconds=0.5)
    for answer in [late, Answer(200, sha=SHA), late]:
        tally.probe(answer, [SHA])
    assert tally.over_budget(0.05, 20) == ""
    tally.probe(late, [SHA])
    assert "failed for 1.1 s (HTTP 502)" in tally.over_budget(0.05, 20)
    assert (tally.probes, tally.failed_probes, tally.milliseconds) == (4, 3, [500, 0, 500, 500])


def test_an_answer_from_another_commit_is_a_failed_probe() -> None:
    tally = watch.Tally()
    tally.probe(Answer(200, sha="b" * 40, seconds=1), [SHA])
    assert "bbbbbbbbbbbb" in tally.over_budget(0.05, 20)


def test_probes_and_unreadable_lines_do_not_count_as_requests() -> None:
    lines = [_line(200), _line(500), _line(404), _line(500, "/health/ready"), "torn {", "", "[]", '{"uri": 1}']
    assert watch.count_statuses(lines, "/health/ready") == (3, 1)
    encoded = [_line(500, "/health%2Fready"), _line(500, "/%68ealth/ready")]
    assert watch.count_statuses(encoded, "/health/ready") == (0, 0)


@pytest.mark.parametrize("status", [301, 400, 403, 404, 405, 408, 413, 414, 429, 431, 499, 500, 501, 503, 505])
@pytest.mark.parametrize("upstream", ["", "-"])
def test_what_nginx_answers_itself_neither_fails_a_release_nor_hides_its_errors(status: int, upstream: str) -> None:
    """A client that sends such requests as fast as it can is counted as nobody."""
    flood = [_line(status, upstream=upstream)] * 1000
    assert watch.count_statuses(flood, "/health/ready") == (0, 0)
    assert watch.count_statuses([*flood, _line(200), _line(500)], "/health/ready") == (2, 1)


@pytest.mark.parametrize(
    ("status", "upstream", "failed"),
    [(503, "502", 1), (504, "504", 1), (499, "200", 0), (200, "502, 200", 0), (500, "200 : 500", 1), (499, "-", None)],
)
def test_an_app_that_does_not_answer_counts_though_the_answer_is_of_nginx(
    status: int, upstream: str, failed: int | None
) -> None:
    found = watch.count_statuses([_line(status, upstream=upstream)], "/health/ready")
    assert found == ((0, 0) if failed is None else (1, failed))


def test_tail_gives_whole_lines_once_and_follows_a_rotation(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    path.write_text("before\n")
    tail = watch.Tail(path)
    with path.open("a") as file:
        file.write("one\ntw")
        file.flush()
        assert tail.lines() == ["one"]
        file.write("o\n")
    assert tail.lines() == ["two"]
    path.rename(tmp_path / "access.log.1")
    assert tail.lines() == []
    path.write_text("three\n")
    assert tail.lines() == ["three"]


def test_a_tail_goes_on_where_another_has_seen_the_last_whole_line(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    path.write_text("before\n")
    first = watch.Tail(path)
    with path.open("a") as file:
        file.write("one\ntw")
        file.flush()
        assert first.lines() == ["one"]
        file.write("o\nthree\n")
    assert watch.Tail(path, first.mark).lines() == ["two", "three"]


def test_bytes_that_are_no_text_move_no_mark(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    path.touch()
    first = watch.Tail(path)
    with path.open("ab") as file:
        file.write(b"one\n\xfc\xfftw")
        file.flush()
        assert first.lines() == ["one"]
        file.write(b"o\n")
    assert watch.Tail(path, first.mark).lines() == ["\ufffd\ufffdtwo"]


def test_tail_accepts_a_log_that_does_not_exist_yet(tmp_path: Path) -> None:
    tail = watch.Tail(tmp_path / "access.log")
    assert tail.lines() == []
    (tmp_path / "access.log").write_text("one\n")
    assert tail.lines() == ["one"]


@pytest.fixture
def watched(settings: config.Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> config.Settings:
    """A release that 25 requests with an error were sent to before its watch began."""
    log = tmp_path / "access.log"
    log.write_text(f"{_line(500)}\n" * 25)
    monkeypatch.setattr(watch, "_PROBE_INTERVAL", 0.01)
    return replace(settings, watch_seconds=0.3, watch_url="https://logbook.test/health/ready", access_log=str(log))


def _answer_and_log(monkeypatch: pytest.MonkeyPatch, settings: config.Settings, answer: Answer, status: int) -> None:
    """Let nginx answer our probes so, and its clients with `status`, ten times a probe."""
    answers = itertools.repeat(answer, 100)

    def ask(*_: object) -> Answer:
        with Path(settings.access_log).open("a") as file:
            file.write(f"{_line(status)}\n" * 10)
        return next(answers)

    monkeypatch.setattr(health, "ask_site", ask)


def test_a_watch_without_errors_ends_after_watch_seconds(
    watched: config.Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    _answer_and_log(monkeypatch, watched, Answer(200, sha=SHA), 200)
    started = time.monotonic()
    tally, reason = watch.watch(watched, SHA, None)
    receipt = tally.added_to(Receipt())
    assert 0.3 <= time.monotonic() - started < 2
    assert reason == ""
    assert (tally.requests, tally.errors, tally.failed_probes) == (tally.probes * 10, 0, 0)
    assert tally.probes > 1
    assert (receipt.sent, receipt.failed) == (tally.probes * 11, 0)


def test_a_watch_ends_at_once_when_clients_get_errors(
    watched: config.Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    _answer_and_log(monkeypatch, watched, Answer(200, sha=SHA), 500)
    _, reason = watch.watch(replace(watched, watch_seconds=60), SHA, None)
    assert reason == "20 of 20 requests were answered with a server error"


def test_a_watch_ends_at_once_when_probes_fail(watched: config.Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    _answer_and_log(monkeypatch, watched, Answer(0, problem="timed out", seconds=0.5), 200)
    _, reason = watch.watch(replace(watched, watch_seconds=60), SHA, None)
    assert reason == "health requests through Nginx failed for 1.0 s (timed out)"


def test_all_counts_of_a_cutover_are_on_one_receipt(watched: config.Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    _answer_and_log(monkeypatch, watched, Answer(200, sha=SHA, seconds=0.002), 200)
    with watch.probing(watched, [SHA], None) as tally:
        time.sleep(0.1)
    receipt = tally.added_to(Receipt())
    with Path(watched.access_log).open("a") as file:
        file.write(f"{_line(503)}\n")  # between two phases, when nobody watches
    with watch.probing(watched, ["b" * 40], receipt.log) as tally:
        time.sleep(0.1)
    receipt = tally.added_to(receipt)
    assert receipt.probes > 2
    assert receipt.requests == receipt.probes * 10 + 1
    assert receipt.errors == 1
    assert 0 < receipt.failed_probes < receipt.probes
    assert set(receipt.milliseconds) == {2.0}


def test_a_limiter_of_the_app_undoes_no_release_but_proves_none_either() -> None:
    tally = watch.Tally()
    for _ in range(100):
        tally.probe(health.Answer(429), ["abc"])
    assert not tally.over_budget(0.05, 20)
    assert (tally.limited, tally.failed_probes) == (100, 0)


def test_one_failed_probe_of_an_app_that_is_seldom_asked_is_not_a_second_without_an_answer() -> None:
    tally = watch.Tally(interval=5.0)
    tally.probe(health.Answer(503, seconds=0.01), ["abc"])
    assert not tally.over_budget(0.05, 20)
    tally.probe(health.Answer(503, seconds=0.01), ["abc"])
    assert tally.over_budget(0.05, 20)
