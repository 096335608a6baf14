from __future__ import annotations

import pytest

from slipway.release import revisions
from slipway.release.revisions import Script


@pytest.mark.parametrize(
    ("line", "follows"),
    [
        ('down_revision = "a"', ("a",)),
        ("down_revision: str | None = 'a'  # the one before", ("a",)),
        ('down_revision: Union[str, Sequence[str], None] = ("a", "b")', ("a", "b")),
        ("down_revision = None", ()),
        ("down_revision = before()", ()),
    ],
)
def test_declarations_of_alembic_are_parsed(line: str, follows: tuple[str, ...]) -> None:
    lines = [("x/versions/c_name.py", 'revision: str = "c"'), ("x/versions/c_name.py", line)]
    assert revisions.parse(lines) == {"c": Script("c", "c_name.py", follows)}


def test_a_file_without_a_revision_is_ignored() -> None:
    assert revisions.parse([("x/versions/c.py", 'down_revision = "b"'), ("x/versions/d.py", "revisions = 3")]) == {}


BRANCHED = {
    name: Script(name, f"{name}.py", follows)
    for name, follows in {"d": ("b", "c"), "c": ("a",), "b": ("a",), "a": (), "e": ("d",)}.items()
}


@pytest.mark.parametrize(
    ("current", "expected"),
    [(None, ["a", "b", "c", "d", "e"]), ("a", ["b", "c", "d", "e"]), ("d", ["e"]), ("e", []), ("unknown", [])],
)
def test_pending_revisions_are_those_not_before_the_current_one(current: str | None, expected: list[str]) -> None:
    pending = [item.revision for item in revisions.pending(BRANCHED, current)]
    assert sorted(pending) == expected
    for name in pending:
        assert all(before not in pending[pending.index(name) :] for before in BRANCHED[name].follows)


def test_a_long_history_does_not_recurse() -> None:
    scripts = {str(n): Script(str(n), f"{n}.py", (str(n - 1),) if n else ()) for n in range(5000)}
    assert [item.revision for item in revisions.pending(scripts, "4997")] == ["4998", "4999"]
