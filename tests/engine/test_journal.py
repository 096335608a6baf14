from pathlib import Path

from slipway import journal

from .conftest import entry


def test_lines_come_back_in_order_and_a_torn_one_swallows_nothing(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    journal.append(path, entry("v1"))
    with path.open("a") as file:
        file.write('{"deployment":"torn","act')  # power cut in the middle of a line
    journal.append(path, entry("v2"))
    assert [item.release for item in journal.read(path)] == ["v1", "v2"]


def test_no_journal_is_an_empty_one(tmp_path: Path) -> None:
    assert journal.read(tmp_path / "none") == []


def test_previous_is_the_deploy_before_the_live_one() -> None:
    entries = [entry("v1"), entry("v2"), entry("v3")]
    assert _name(journal.previous(entries, "v3")) == "v2"
    assert _name(journal.previous(entries, "v1")) is None


def test_a_rollback_does_not_become_something_to_roll_back_to() -> None:
    entries = [entry("v1"), entry("v2"), entry("v3"), entry("v2", action="rollback")]
    assert _name(journal.previous(entries, "v2")) == "v1"


def test_failed_deploys_are_no_history() -> None:
    entries = [entry("v1"), entry("v2", outcome="failed"), entry("v3"), entry("v3", phase="warm", outcome="ok")]
    assert _name(journal.previous(entries, "v3")) == "v1"


def test_deploying_an_old_release_again_makes_it_the_newest() -> None:
    entries = [entry("v1"), entry("v2"), entry("v1")]
    assert [item.release for item in journal.deployed(entries)] == ["v2", "v1"]
    assert _name(journal.previous(entries, "v1")) == "v2"


def test_a_moved_tag_is_noticed_against_its_last_deploy() -> None:
    entries = [entry("v1-a", tag="v1", sha="a" * 40), entry("v1-b", tag="v1", sha="b" * 40)]
    assert journal.moved_from(entries, "v1", "b" * 40) is None
    assert journal.moved_from(entries, "v1", "c" * 40) == "b" * 40
    assert journal.moved_from(entries, "v2", "c" * 40) is None


def test_find_takes_a_tag_or_the_beginning_of_a_commit() -> None:
    entries = [entry("v1-a", tag="v1", sha="abc" + "0" * 37), entry("v2-d", tag="v2", sha="def" + "0" * 37)]
    assert _name(journal.find(entries, "v1", None)) == "v1-a"
    assert _name(journal.find(entries, None, "def0000")) == "v2-d"
    assert journal.find(entries, "v9", None) is None


def _name(found: journal.Entry | None) -> str | None:
    return found.release if found else None
