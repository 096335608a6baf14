"""The phases of an open deployment, each by itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from slipway.deployment import steps
from slipway.records import journal, phases
from slipway.slot import systemd
from slipway.slot.connections import Connections

from .fakes import V1, V2, Host, deployed, request, switched


def test_every_phase_before_the_end_has_a_function_and_every_function_a_phase() -> None:
    assert set(steps._FUNCTIONS) == {row.name for row in phases.TABLE if row.command != "finish"}


def test_every_phase_follows_on_a_state_that_an_earlier_one_leads_to() -> None:
    reached = {phases.OPENED}
    for row in phases.TABLE:
        assert reached & set(row.follows), row.name
        reached.add(row.leads_to)


@pytest.mark.parametrize(("logged", "failed"), [(0, 3), (2, 3), (5, 5)])
def test_at_its_deadline_a_slot_is_stopped_and_what_was_cut_is_counted_once(
    host: Host, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, logged: int, failed: int
) -> None:
    log = tmp_path / "access.log"
    log.touch()
    host.engine.settings = replace(host.settings, access_log=str(log))
    switched(host)
    host.left = Connections(established=2, queued=1)

    def stop(_: str, slot: str, __: float) -> None:
        # Nginx answers for what was cut, but not for a WebSocket or half an answer.
        host.stop(_, slot)
        with log.open("a") as file:
            file.write('{"status": 502, "upstream_status": "502", "path": "/slow"}\n' * logged)

    monkeypatch.setattr(systemd, "stop", stop)
    host.engine.finish("alice")
    lines = {item.phase: item for item in journal.read(host.settings.journal) if item.tag == "v2"}
    drained = host.settings.drain_seconds
    assert lines["drain"].message == f"blue stopped at the deadline of {drained:g} s, 3 connection(s) cut"
    receipt = lines[journal.RESULT].detail["receipt"]
    assert (receipt["cut"], receipt["failed"]) == (3, failed)
    assert host.calls[-2:] == ["drain blue", "stop blue"]


def test_the_journal_names_phases_as_the_table_does(host: Host) -> None:
    deployed(host, V1)
    host.engine.deploy(request(V2), None)
    written = [item.phase for item in journal.read(host.settings.journal) if item.tag == "v2"]
    assert [name for name in written if name != journal.RESULT] == [row.name for row in phases.TABLE]
