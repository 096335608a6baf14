"""Whatever a run is killed in, the next command or the boot brings it to one end."""

from __future__ import annotations

import pytest

from slipway.base import files
from slipway.base.errors import FailedError
from slipway.deployment import lock
from slipway.records import deployment, journal
from slipway.records.deployment import Request
from slipway.slot import cutover, systemd
from slipway.slot.connections import Connections

from .fakes import V1, V2, V3, Host, deployed, request, switched


@pytest.mark.parametrize("phases", [[], ["migrate"], ["migrate", "start"]])
def test_a_deploy_interrupted_before_the_switch_is_undone(host: Host, phases: list[str]) -> None:
    deployed(host, V1)
    host.engine.stage(request(V2), None)
    for name in phases:
        host.engine.phase(name, "alice")
    host.engine.recover()
    assert host.live() == "v1-111111111111"
    assert host.running == {"blue"}
    assert host.results()[-1] == ("deploy", "v2", "reverted")
    assert host.engine.recover().changed is False


@pytest.mark.parametrize("comes_next", ["recover", "prune", "revert", "stage"])
def test_the_next_command_removes_temporary_files_of_a_killed_run(host: Host, comes_next: str) -> None:
    deployed(host, V1)
    settings = host.settings
    settings.backups.mkdir()
    half = [
        settings.root / ".deployment.json.1a2b3c4d.new",
        settings.root / ".live.new",
        settings.slot("blue") / ".env.1a2b3c4d.new",
        settings.slot("green") / ".release.new",
        settings.backups / ".logbook-0004-20261125T120000Z.dump.new",
    ]
    for path in half:
        path.symlink_to("nowhere")
    bundle = settings.root / "incoming-1a2b3c4d.bundle"
    bundle.touch()
    arguments = {"revert": ("alice",), "stage": (request(V2), None)}.get(comes_next, ())
    getattr(host.engine, comes_next)(*arguments)
    assert [path for path in half if path.is_symlink()] == []
    assert not bundle.exists()


def test_a_deploy_interrupted_after_the_switch_is_finished(host: Host) -> None:
    switched(host)
    host.engine.recover()
    assert host.live() == "v2-222222222222"
    assert host.running == {"green"}
    assert host.results()[-1] == ("deploy", "v2", "succeeded")


def test_a_crash_between_the_rename_and_its_record_counts_as_switched(host: Host) -> None:
    """Only the link decides: the record is still in the state `started`."""
    deployed(host, V1)
    host.engine.stage(request(V2), None)
    host.engine.phase("start", "alice")
    files.link_atomically(host.settings.live, "slots/green")
    host.engine.recover()
    assert host.live() == "v2-222222222222"
    assert host.running == {"green"}


def test_repeating_a_deploy_that_was_killed_after_the_switch_finishes_it(host: Host) -> None:
    switched(host)
    assert host.engine.plan(request(V2)).needed
    again = host.engine.deploy(request(V2), None)
    assert (again.changed, again.open) == (True, False)
    assert host.running == {"green"}
    assert host.results()[-1] == ("deploy", "v2", "succeeded")
    assert lock.read(host.settings.lock) is None


@pytest.mark.parametrize("switched", [False, True])
def test_repeating_a_killed_rollback_goes_to_the_same_release(host: Host, switched: bool) -> None:
    deployed(host, V1, V2, V3)
    host.engine.open_rollback(Request(owner="alice"))
    host.engine.phase("start", "alice")
    if switched:
        host.engine.phase("switch", "alice")
    assert host.engine.plan_rollback(Request(owner="alice")).release == "v2-222222222222"
    host.engine.rollback(Request(owner="alice"))
    assert host.live() == "v2-222222222222"
    assert host.results()[-1] == ("rollback", "v2", "succeeded")


def test_repeating_a_rollback_does_not_go_further_back(host: Host) -> None:
    """The operator may not have seen the first rollback end."""
    deployed(host, V1, V2, V3)
    host.engine.rollback(Request(owner="alice"))
    assert not host.engine.plan_rollback(Request(owner="alice")).open
    again = host.engine.rollback(Request(owner="alice"))
    assert (again.open, again.changed) == (False, False)
    assert again.message == "v2 is live already, after the last rollback. To go further back, pass the version."
    assert host.live() == "v2-222222222222"
    host.engine.rollback(Request(owner="alice"), "v1")
    assert host.live() == "v1-111111111111"


def test_a_rollback_after_a_rollback_and_a_deploy_undoes_that_deploy(host: Host) -> None:
    deployed(host, V1, V2)
    host.engine.rollback(Request(owner="alice"))
    deployed(host, V3)
    host.engine.rollback(Request(owner="alice"))
    assert host.live() == "v1-111111111111"


def test_a_killed_undo_is_finished_and_does_not_count_as_a_success(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    deployed(host, V1)
    host.watch_reason = "9 of 20 requests were answered with a server error"

    def killed(*_: object) -> str:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(cutover, "go_back", killed)
        with pytest.raises(KeyboardInterrupt):
            deployed(host, V2)
    assert host.live() == "v2-222222222222"
    host.engine.recover()
    assert host.live() == "v1-111111111111"
    assert host.running == {"blue"}
    assert host.results()[-1] == ("deploy", "v2", "reverted")


def test_a_failed_undo_is_reported_with_the_first_error(host: Host) -> None:
    deployed(host, V1)
    host.watch_reason = "9 of 20 requests were answered with a server error"
    host.engine.stage(request(V2), None)
    host.engine.phase("start", "alice")
    host.engine.phase("switch", "alice")
    host.running.discard("blue")  # the old release died meanwhile,
    host.bad_gate.add(V1[1])  # and does not come back
    with pytest.raises(FailedError, match=r"9 of 20.*not be undone: logbook@blue crashed.*slipway revert logbook"):
        host.engine.finish("alice")
    assert host.live() == "v2-222222222222"


def test_boot_starts_the_live_slot_and_only_that(host: Host) -> None:
    deployed(host, V1, V2)
    host.running.clear()
    host.engine.recover()
    assert host.running == {"green"}


def test_revert_after_the_switch_sends_traffic_back(host: Host) -> None:
    switched(host)
    assert host.engine.revert("alice").changed
    assert host.live() == "v1-111111111111"
    assert host.running == {"blue"}
    assert host.engine.revert("alice").changed is False


def test_a_slot_that_runs_without_traffic_or_a_deployment_is_stopped(host: Host) -> None:
    deployed(host, V1)
    host.running.add("green")
    assert "green ran without taking traffic" in host.engine.recover().message
    assert host.running == {"blue"}


def test_boot_starts_the_live_slot_even_if_undo_fails(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    deployed(host, V1)
    host.engine.stage(request(V2), None)
    host.running.clear()

    def refuse(*_: object) -> None:
        raise FailedError("systemd could not stop logbook@green.service.")

    monkeypatch.setattr(systemd, "stop", refuse)
    with pytest.raises(FailedError, match="could not stop"):
        host.engine.recover()
    assert host.running == {"blue"}


def test_undo_starts_a_stopped_old_slot_and_passes_its_gate_first(host: Host) -> None:
    switched(host)
    host.running.discard("blue")
    host.calls.clear()
    host.engine.revert("alice")
    assert host.calls == ["start blue", "gate blue", "drain green", "stop green"]
    assert host.live() == "v1-111111111111"


def test_connections_cut_by_an_undo_are_reported_and_recorded(host: Host) -> None:
    switched(host)
    host.left = Connections(established=2, queued=1)
    assert host.engine.revert("alice").message.endswith("3 connection(s) to v2 were cut.")
    assert journal.read(host.settings.journal)[-1].message.endswith("3 connection(s) to v2 were cut.")


def test_a_deployment_of_another_owner_is_not_undone(host: Host) -> None:
    host.engine.stage(request(V1), None)
    with lock.hold(host.settings.lock, "logbook") as held:
        held.end_lease()
    assert host.engine.revert("bob").changed is False
    assert deployment.load(host.settings.deployment) is not None
    assert host.engine.revert(None).changed
