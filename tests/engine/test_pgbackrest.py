"""What pgBackRest says, and what is made of it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from slipway.backup import pgbackrest
from slipway.backup.pgbackrest import Backup, Info

DAY = 86400
# As pgBackRest 2.55 has answered on a host, without what nobody reads.
ANSWER = [
    {
        "archive": [
            {"database": {"id": 1, "repo-key": 1}, "id": "17-1", "max": "000000010000000000000005", "min": "00"},
        ],
        "backup": [
            {
                "archive": {"start": "000000010000000000000002", "stop": "000000010000000000000003"},
                "database": {"id": 1, "repo-key": 1},
                "error": False,
                "info": {"delta": 31435693, "repository": {"delta": 3749344}, "size": 31435693},
                "label": "20261127-200324F",
                "timestamp": {"start": 1795809804, "stop": 1795809806},
                "type": "full",
            },
            {
                "archive": {"start": "000000010000000000000004", "stop": "000000010000000000000005"},
                "database": {"id": 1, "repo-key": 1},
                "error": False,
                "info": {"delta": 8450, "repository": {"delta": 408}, "size": 31435693},
                "label": "20261127-200324F_20261127-200326D",
                "timestamp": {"start": 1795809806, "stop": 1795809808},
                "type": "diff",
            },
        ],
        "db": [{"id": 1, "repo-key": 1, "system-id": 7712943691812779340, "version": "17"}],
        "name": "main",
        "repo": [{"cipher": "aes-256-cbc", "key": 1, "status": {"code": 0, "message": "ok"}}],
        "status": {"code": 0, "lock": {"backup": {"held": False}}, "message": "ok"},
    }
]


def backup(kind: str, ended: int, database: int = 1) -> Backup:
    return Backup(f"{ended}{kind}", kind, ended - 2, ended, 100, 10, "0" * 24, "0" * 24, database, False)


def failing(code: int, message: str) -> str:
    repository = {"cipher": "aes-256-cbc", "key": 1, "status": {"code": code, "message": message}}
    return json.dumps([{"archive": [], "backup": [], "db": [], "name": "main", "repo": [repository]}])


def test_what_a_repository_has_is_read() -> None:
    found = pgbackrest.parse(json.dumps(ANSWER), "main")
    assert (found.problem, found.database, found.archive, len(found.backups)) == ("", 1, "17-1", 2)
    assert found.last == Backup(
        "20261127-200324F_20261127-200326D", "diff", 1795809806, 1795809808, 31435693, 408,
        "000000010000000000000004", "000000010000000000000005", 1, False,
    )  # fmt: skip
    assert found.oldest is not None
    assert found.oldest.label == "20261127-200324F"


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ("[]", "has nothing of this host yet"),
        ("", "cannot be looked into: pgbackrest gave no proper answer"),
        ('[{"name": "main"}]', "cannot be looked into: pgbackrest gave no proper answer"),
        (failing(1, "missing stanza path"), "has nothing of this host yet"),
        (failing(99, "[FormatError] … key/value found outside of section at line 1: W"), "another pass phrase"),
        (failing(99, "CryptoError: unable to flush\nHINT: is or was the repo encrypted?"), "another pass phrase"),
    ],
)
def test_a_repository_that_cannot_be_read_has_a_problem(answer: str, problem: str) -> None:
    found = pgbackrest.parse(answer, "main")
    assert problem in found.problem
    assert found.last is None
    assert found.is_new == (problem == "has nothing of this host yet")


def test_a_repository_without_a_backup_yet_is_no_problem() -> None:
    assert pgbackrest.parse(failing(2, "no valid backups"), "main").problem == ""


NOW = 1000 * DAY


@pytest.mark.parametrize(
    ("backups", "kind"),
    [
        ((), "full"),
        ((backup("diff", NOW - DAY),), "full"),
        ((backup("full", NOW - DAY),), "diff"),
        ((backup("full", NOW - 6 * DAY),), "diff"),
        # With a spread it may be the same hour of the day a week later, or a little before it.
        ((backup("full", NOW - 7 * DAY + 3600),), "full"),
        ((backup("full", NOW - 8 * DAY), backup("diff", NOW - DAY)), "full"),
        # After an upgrade of PostgreSQL, the number of the cluster is another one.
        ((backup("full", NOW - DAY, database=0),), "full"),
        # A clock that was a day ahead: nothing is known of how old that one is.
        ((backup("full", NOW + DAY),), "full"),
    ],
)
def test_which_backup_is_due(backups: tuple[Backup, ...], kind: str) -> None:
    assert pgbackrest.due(Info(backups, database=1), NOW, 7) == kind


def _file(segment: str) -> str:
    return f"{segment[:16]}/{segment}-{'ab' * 20}.zst"


def test_wal_is_listed_and_what_is_missing_is_found() -> None:
    present = [f"00000001000000000000{number:04X}" for number in (2, 3, 5)]
    listed = json.dumps({_file(name): {"type": "file", "size": 1} for name in reversed(present)} | {"x": {}})
    assert pgbackrest.segments(listed) == present
    assert pgbackrest.gaps(present, present[0]) == ["000000010000000000000004"]
    assert pgbackrest.gaps(present, present[2]) == []
    assert pgbackrest.gaps([], present[0]) == []


def test_wal_goes_on_in_the_next_four_gigabytes() -> None:
    assert pgbackrest.gaps(["0000000100000000000000FE", "000000010000000100000001"], "0000000100000000000000FE") == [
        "0000000100000000000000FF",
        "000000010000000100000000",
    ]


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("P00  ERROR: [050]: unable to acquire lock on file '/run/x.lock': Resource temporarily unavailable", "in use"),
        ("P00  ERROR: [041]: unable to write '/x': [28] No space left on device", "is full"),
        ("P00  ERROR: [056]: unable to find primary cluster - cannot proceed", "PostgreSQL does not answer"),
        ("P00  ERROR: [055]: unable to load\n HINT: has a stanza-create been performed?", "has lost"),
        ("P00   WARN: a\nP00  ERROR: [039]: something new", "could not be used: something new"),
        ("", "could not be used: pgbackrest ended with the exit code 77"),
    ],
)
def test_what_an_error_means(said: str, meant: str) -> None:
    assert meant in pgbackrest.meaning(77, said)


def test_errors_of_pgbackrest_in_a_log_of_postgresql_are_found_once() -> None:
    log = ["LOG:  redo starts", *["P00  ERROR: [025]: unable to decrypt WAL 000A"] * 3, "ERROR:  relation"]
    assert pgbackrest.errors(log) == ["unable to decrypt WAL 000A"]


def test_a_damaged_backup_is_known() -> None:
    answer = json.loads(json.dumps(ANSWER))
    answer[0]["backup"][1]["error"] = True
    found = pgbackrest.parse(json.dumps(answer), "main").last
    assert found is not None
    assert found == replace(found, is_damaged=True)
