"""Owners as text, and which of them are dead."""

from __future__ import annotations

import pytest

from slipway.base.errors import RefusedError
from slipway.records import owner
from slipway.records.owner import Owner

MINE = Owner("alice", "laptop", 20, "900", "4026531836", "ci-77")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "alice@laptop (pid 12, start 345, namespace 4026531836, run ci-77)",
            Owner("alice", "laptop", 12, "345", "4026531836", "ci-77"),
        ),
        (
            "alice@laptop (pid 12, start 345, namespace 4026531836)",
            Owner("alice", "laptop", 12, "345", "4026531836"),
        ),
        (
            "alice@mac (pid 12, start unknown, namespace unknown, run 345-4026531836)",
            Owner("alice", "mac", 12, run="345-4026531836"),
        ),
        ("alice@mac (pid 12)", Owner("alice", "mac", 12)),
        ("unknown@unknown (pid 12)", Owner("unknown", "unknown", 12)),
        ("a b@corp@laptop (pid 12)", Owner("a b@corp", "laptop", 12)),
        ("alice", Owner("alice")),
        ("", Owner("")),
        ("x (pid 1", Owner("x (pid 1")),
        ("x@y (pid one)", Owner("x@y (pid one)")),
    ],
)
def test_an_owner_is_parsed_and_written_as_the_same_text(text: str, expected: Owner) -> None:
    assert owner.parse(text) == expected
    assert str(expected) == text


def test_the_text_of_an_earlier_version_is_parsed() -> None:
    found = owner.parse("alice@laptop (pid 12, run 345-4026531836)")
    assert found == Owner("alice", "laptop", 12, "345", "4026531836")
    assert found.display() == "alice@laptop"


@pytest.mark.parametrize(
    ("found", "expected"),
    [(Owner("alice"), "alice"), (Owner("alice", "laptop", 12), "alice@laptop"), (MINE, "alice@laptop (ci-77)")],
)
def test_display_hides_the_numbers_of_the_process(found: Owner, expected: str) -> None:
    assert found.display() == expected


@pytest.mark.parametrize("text", ["", "77", "gitlab:42/77", "A.b_c-9", "x" * 64])
def test_a_valid_run_id_is_accepted(text: str) -> None:
    assert owner.check_run(text) == text


@pytest.mark.parametrize("text", ["a b", "a,b", "a)", "x" * 65, "a\n", "é"])
def test_an_invalid_run_id_is_refused(text: str) -> None:
    with pytest.raises(RefusedError, match=r"^SLIPWAY_RUN is '.*', but must be at most 64 characters"):
        owner.check_run(text)


def gone(_: int) -> None:
    return None


def at(started: str) -> object:
    return lambda _: started


@pytest.mark.parametrize(
    ("other", "start_of", "dead"),
    [
        (Owner("alice", "laptop", 12, "345", "4026531836"), gone, True),
        (Owner("alice", "laptop", 12, "345", "4026531836"), at("345"), False),
        # Another process has its number now.
        (Owner("alice", "laptop", 12, "345", "4026531836"), at("346"), True),
        # A machine that does not say when a process started.
        (Owner("alice", "laptop", 12), gone, True),
        (Owner("alice", "laptop", 12), at(""), False),
        # What cannot be seen from here.
        (Owner("alice", "laptop", 12, "345", "1"), gone, False),
        (Owner("bob", "laptop", 12, "345", "4026531836"), gone, False),
        (Owner("alice", "server", 12, "345", "4026531836"), gone, False),
        (Owner("alice", "laptop"), gone, False),
        (Owner("root"), gone, False),
        # Attempts of one CI job, wherever they ran.
        (Owner("root", "a1b2c3", 7, "345", "1", "ci-77"), at("345"), True),
        (Owner("root", "a1b2c3", 7, "345", "1", "ci-78"), gone, False),
        (Owner("alice", "laptop", 12, "345", "1", "ci-77"), at("345"), True),
        # An attempt that can be seen to be alive is not dead.
        (Owner("alice", "laptop", 12, "345", "4026531836", "ci-77"), at("345"), False),
        (MINE, gone, False),
    ],
)
def test_a_run_is_dead_when_its_process_is_gone_or_its_ci_job_was_started_again(
    other: Owner, start_of: object, dead: bool
) -> None:
    assert owner.is_dead(other, MINE, start_of) is dead  # type: ignore[arg-type]


def test_runs_without_an_id_are_not_attempts_of_one_job() -> None:
    mine = Owner("alice", "laptop", 20, "900", "4026531836")
    assert not owner.is_dead(Owner("alice", "server", 12, "345", "1"), mine, gone)
