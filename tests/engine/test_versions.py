import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway.records import versions


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        (["v1.9.0", "v1.10.0", "v1.2.0"], "v1.10.0"),
        (["v2.0.0-rc.1", "v1.9.9"], "v1.9.9"),
        (["v2.0.0-rc.2", "v2.0.0", "v2.0.0-rc.10"], "v2.0.0"),
        (["v2.0.0-rc.2", "v2.0.0-rc.10"], None),
        (["2026.11.24", "2026.2.1"], "2026.11.24"),
        (["latest", "production", "v0.1"], "v0.1"),
        (["latest"], None),
        ([], None),
    ],
)
def test_newest_compares_versions_and_not_text(tags: list[str], expected: str | None) -> None:
    assert versions.newest(tags) == expected


@given(st.lists(st.tuples(*[st.integers(0, 50)] * 3), min_size=1))
def test_newest_agrees_with_the_order_of_the_numbers(numbers: list[tuple[int, int, int]]) -> None:
    newest = versions.newest([f"v{a}.{b}.{c}" for a, b, c in numbers])
    assert newest == "v{}.{}.{}".format(*max(numbers))


@pytest.mark.parametrize("tag", ["v1.0.0", "release/2026-11", "v1.0.0+build.5"])
def test_usual_tags_are_accepted(tag: str) -> None:
    assert versions.is_tag(tag)


@pytest.mark.parametrize("tag", ["", "-v1", "v1 0", "a..b", "v1;rm", "release/", "../x", "v1\n"])
def test_unsafe_tags_are_refused(tag: str) -> None:
    assert not versions.is_tag(tag)


def test_near_lists_similar_tags() -> None:
    assert set(versions.near("v1.2.O", ["v1.2.0", "v1.2.1", "nightly"])) == {"v1.2.0", "v1.2.1"}
    assert versions.near("zzz", ["v1.2.0"]) == []


def test_release_names_carry_tag_and_commit_and_stay_one_path_part() -> None:
    assert versions.release_name("v1.0.0", "0123456789abcdef") == "v1.0.0-0123456789ab"
    assert versions.release_name("team/v1", "0123456789abcdef") == "team~v1-0123456789ab"
    assert versions.release_name(None, "0123456789abcdef") == "commit-0123456789ab"
