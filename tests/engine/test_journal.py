from dataclasses import replace
from pathlib import Path

import pytest

from slipway.base.errors import RefusedError
from slipway.records import journal

from .conftest import entry


def test_lines_are_read_in_order_and_an_incomplete_one_is_skipped(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    journal.append(path, entry("v1"))
    with path.open("a") as file:
        file.write('{"deployment":"torn","act')  # power cut in the middle of a line
    journal.append(path, entry("v2"))
    assert [item.release for item in journal.read(path)] == ["v1", "v2"]


def test_a_missing_journal_is_empty(tmp_path: Path) -> None:
    assert journal.read(tmp_path / "none") == []


def test_previous_is_the_release_that_was_live_before() -> None:
    entries = [entry("v1"), entry("v2", was="v1"), entry("v3", was="v2")]
    assert _name(journal.previous(entries, "v3")) == "v2"
    assert _name(journal.previous(entries, "v1")) is None


def test_a_rollback_does_not_become_something_to_roll_back_to() -> None:
    entries = [entry("v1"), entry("v2", was="v1"), entry("v3", was="v2"), entry("v2", action="rollback", was="v3")]
    assert _name(journal.previous(entries, "v2")) == "v1"


def test_a_release_that_was_rolled_back_from_is_not_returned_to() -> None:
    bad = [entry("v1"), entry("v2", was="v1"), entry("v1", action="rollback", was="v2")]
    assert _name(journal.previous([*bad, entry("v3", was="v1")], "v3")) == "v1"


def test_failed_deploys_do_not_count_as_deployed() -> None:
    failed = entry("v2", outcome="failed", was="v1")
    entries = [entry("v1"), failed, entry("v3", was="v1"), entry("v3", phase="start", outcome="ok", was="v1")]
    assert _name(journal.previous(entries, "v3")) == "v1"


def test_deploying_an_old_release_again_makes_it_the_newest() -> None:
    entries = [entry("v1"), entry("v2", was="v1"), entry("v1", was="v2")]
    assert [item.release for item in journal.deployed(entries)] == ["v2", "v1"]
    assert _name(journal.previous(entries, "v1")) == "v2"


def test_starting_the_live_release_again_does_not_make_it_the_one_before_itself() -> None:
    entries = [entry("v1"), entry("v2", was="v1"), entry("v2", was="v2")]
    assert _name(journal.previous(entries, "v2")) == "v1"


def test_a_moved_tag_is_noticed_against_its_last_deploy() -> None:
    entries = [entry("v1-a", tag="v1", sha="a" * 40), entry("v1-b", tag="v1", sha="b" * 40)]
    assert journal.moved_from(entries, "v1", "b" * 40) is None
    assert journal.moved_from(entries, "v1", "c" * 40) == "b" * 40
    assert journal.moved_from(entries, "v2", "c" * 40) is None


def test_find_takes_a_tag_or_the_beginning_of_a_commit() -> None:
    entries = [entry("v1-a", tag="v1", sha="abc" + "0" * 37), entry("v2-d", tag="v2", sha="def" + "0" * 37)]
    assert _name(journal.find(entries, "v1")) == "v1-a"
    assert _name(journal.find(entries, "def0000")) == "v2-d"
    assert journal.find(entries, "def000") is None, "too short"
    assert journal.find(entries, "v9") is None


def test_a_tag_that_looks_like_a_commit_is_a_tag() -> None:
    entries = [entry("20261124-b", tag="20261124", sha="b" * 40), entry("v1-2", tag="v1", sha="20261124" + "0" * 32)]
    assert _name(journal.find(entries, "20261124")) == "20261124-b"


def test_an_ambiguous_commit_is_refused() -> None:
    entries = [entry("a", sha="1234567a" + "0" * 32), entry("b", sha="1234567b" + "0" * 32)]
    with pytest.raises(RefusedError, match=r"^Several commits begin with 1234567; pass more digits\.$"):
        journal.find(entries, "1234567")


def test_migrated_heads_are_those_of_successful_migrations() -> None:
    lines = [
        replace(entry("v1", phase="migrate", outcome="ok"), detail={"heads": ["0001"]}),
        replace(entry("v2", phase="migrate", outcome="skipped"), detail={"heads": ["0002"]}),
        replace(entry("v3", phase="migrate", outcome="failed"), detail={"heads": ["0003"]}),
    ]
    assert journal.migrated_heads(lines) == {"0001", "0002"}


def _name(found: journal.Entry | None) -> str | None:
    return found.release if found else None
