import ssl

import pytest

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
