"""Files of other versions of the engine are neither misread nor lost."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from slipway.base.errors import FailedError, RefusedError
from slipway.deployment import lock
from slipway.records import deployment, journal, manifest, phases
from slipway.records.receipt import Receipt

from .conftest import entry
from .fakes import V1, V2, Host, deployed, request

# As a version wrote it before formats had numbers.
OLD = {
    "id": "d1",
    "action": "deploy",
    "owner": "alice@laptop (pid 12, run 345-4026531836)",
    "release": "v1-111111111111",
    "tag": "v1",
    "sha": "1" * 40,
    "from_slot": None,
    "from_release": None,
    "to_slot": "blue",
    "opened_at": "2026-11-24T10:00:00.000+00:00",
    "state": "warm",
    "schema_from": None,
    "receipt": {"requests": 3, "milliseconds": [1.0, 2.0], "log": [7, 120]},
}


def test_a_deployment_of_an_older_version_is_read(tmp_path: Path) -> None:
    path = tmp_path / "deployment.json"
    path.write_text(json.dumps(OLD))
    found = deployment.load(path)
    assert found is not None
    assert (found.state, found.fleet) == (phases.STARTED, ())
    assert found.receipt == Receipt(requests=3, milliseconds=(1.0, 2.0), log=(7, 120))


def test_unknown_fields_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "deployment.json"
    path.write_text(json.dumps({**OLD, "colour": "red", "receipt": {"requests": 1, "weather": "fine"}}))
    found = deployment.load(path)
    assert found is not None
    deployment.save(path, found)
    written = json.loads(path.read_text())
    assert (written["colour"], written["receipt"]["weather"], written["format"]) == ("red", "fine", deployment.FORMAT)
    assert "unknown" not in json.dumps(written)
    assert deployment.load(path) == found


def test_a_newer_deployment_record_is_refused(host: Host) -> None:
    deployed(host, V1)
    newer = {**OLD, "format": deployment.FORMAT + 1}
    host.settings.deployment.write_text(json.dumps(newer))
    with pytest.raises(RefusedError, match=r"deployment\.json was written by a newer version of Slipway \(format"):
        host.engine.deploy(request(V2), None)
    assert json.loads(host.settings.deployment.read_text()) == newer
    host.running.clear()
    with pytest.raises(RefusedError, match="newer version"):
        host.engine.recover()
    assert host.running == {"blue"}, "what is live serves all the same"


@pytest.mark.parametrize("content", ["", "{", "[]", '{"id": "d1"}'])
def test_a_damaged_deployment_record_is_an_error(tmp_path: Path, content: str) -> None:
    path = tmp_path / "deployment.json"
    path.write_text(content)
    with pytest.raises(FailedError, match=r"deployment\.json cannot be read"):
        deployment.load(path)


def test_journal_lines_keep_unknown_fields_and_old_phases_are_renamed(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    journal.append(path, entry("v1", phase="start"))
    line = json.loads(path.read_text())
    del line["format"]
    path.write_text(json.dumps({**line, "phase": "warm", "colour": "red"}) + "\n")
    (found,) = journal.read(path)
    assert (found.phase, found.unknown) == ("start", {"colour": "red"})


def test_a_newer_line_of_a_journal_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_text(json.dumps({"format": journal.FORMAT + 1, "phase": "result"}) + "\n")
    with pytest.raises(RefusedError, match="newer version"):
        journal.read(path)


def test_a_newer_manifest_is_refused(tmp_path: Path) -> None:
    (tmp_path / manifest.COMPLETE).touch()
    (tmp_path / manifest.NAME).write_text(json.dumps({"format": manifest.FORMAT + 1}))
    with pytest.raises(RefusedError, match="newer version"):
        manifest.read(tmp_path)


def test_a_lease_of_an_older_version_is_read_and_a_newer_one_refused(tmp_path: Path) -> None:
    path = tmp_path / "logbook.lock"
    old = {"owner": "bob", "deployment": "d1", "phase": "warm", "version": "v1", "pid": 1, "renewed": 1.0, "until": 2.0}
    path.write_text(json.dumps(old))
    found = lock.read(path)
    assert found is not None
    assert (found.owner, found.phase) == ("bob", "start")
    path.write_text(json.dumps({**old, "format": lock.FORMAT + 1}))
    with pytest.raises(RefusedError, match="newer version"):
        lock.read(path)
