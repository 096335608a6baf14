import json
from dataclasses import asdict, replace
from pathlib import Path

from slipway.records import manifest

MADE = manifest.Manifest(
    release="v2-abc",
    tag="v2",
    sha="abc",
    subject="Add notes",
    python="3.13.5",
    lock_sha256="00",
    built_at="2026-11-24T10:00:00+00:00",
    heads=["0003"],
    revisions=[manifest.Revision(name, f"step {name}") for name in ("0001", "0002", "0003")],
)


def test_a_manifest_reads_back_the_same(tmp_path: Path) -> None:
    (tmp_path / manifest.NAME).write_text(manifest.dump(MADE))
    assert manifest.read(tmp_path) is None, "without .complete it is no release"
    (tmp_path / manifest.COMPLETE).touch()
    assert manifest.read(tmp_path) == MADE


def test_a_damaged_manifest_is_not_a_release(tmp_path: Path) -> None:
    (tmp_path / manifest.COMPLETE).touch()
    for content in ("", "{", "[]", json.dumps({"release": "x"})):
        (tmp_path / manifest.NAME).write_text(content)
        assert manifest.read(tmp_path) is None


def test_unknown_fields_of_a_manifest_are_kept(tmp_path: Path) -> None:
    (tmp_path / manifest.COMPLETE).touch()
    (tmp_path / manifest.NAME).write_text(json.dumps({**asdict(MADE), "invented_later": 1}))
    found = manifest.read(tmp_path)
    assert found == replace(MADE, unknown={"invented_later": 1})
    assert found is not None
    assert json.loads(manifest.dump(found))["invented_later"] == 1


def test_pending_is_what_follows_on_the_databases_revision() -> None:
    assert [item.revision for item in MADE.pending(None)] == ["0001", "0002", "0003"]
    assert [item.revision for item in MADE.pending("0002")] == ["0003"]
    assert MADE.pending("0003") == []


def test_nothing_is_pending_when_the_schema_is_ahead() -> None:
    assert MADE.pending("0004") == []
    assert not MADE.knows("0004")
    assert MADE.knows("0001")
    assert MADE.knows(None)
