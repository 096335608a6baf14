"""The lock, the lease and the phases of an open deployment."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import NoReturn

import pytest

from slipway.base import crash
from slipway.base.errors import FailedError, LockedError, RefusedError
from slipway.deployment import lock
from slipway.records import deployment, journal, manifest, phases
from slipway.release import build
from slipway.slot import cutover

from .fakes import V1, V2, V3, Host, deployed, gone, request


def test_a_full_disk_undoes_the_deployment(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    deployed(host, V1)

    def full(*_: object, **__: object) -> NoReturn:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(build, "build", full)
    monkeypatch.setattr(journal, "append", full)
    saved = deployment.save
    monkeypatch.setattr(
        deployment, "save", lambda path, item: full() if item.state != phases.OPENED else saved(path, item)
    )
    with pytest.raises(FailedError, match=r"No space left on device.*v1-111111111111 serves as before"):
        deployed(host, V2)
    assert deployment.load(host.settings.deployment) is None
    assert host.running == {"blue"}


def test_a_deployment_of_another_owner_is_locked_until_its_lease_ends(host: Host) -> None:
    host.engine.stage(request(V1), None)
    with pytest.raises(LockedError, match="deployed by alice"):
        host.engine.stage(request(V2, owner="bob"), None)
    with pytest.raises(LockedError, match="deployed by alice"):
        host.engine.phase("start", "bob")
    assert host.engine.stage(request(V2, owner="bob", superseded=("alice",)), None).changed
    with pytest.raises(LockedError, match="deployed by bob"):
        host.engine.phase("start", "alice")


def test_a_phase_in_the_wrong_state_is_refused(host: Host) -> None:
    with pytest.raises(RefusedError, match="No deployment of logbook is open"):
        host.engine.phase("start", None)
    host.engine.stage(request(V1), None)
    with pytest.raises(RefusedError, match="is staged; this phase needs it to be started"):
        host.engine.phase("switch", None)
    host.engine.phase("start", None)
    with pytest.raises(RefusedError, match="is started; this phase needs it to be switched"):
        host.engine.finish(None)


def test_an_unexpected_exception_undoes_the_deployment_and_its_message_is_not_shown(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployed(host, V1)

    def mistaken(*_: object, **__: object) -> manifest.Manifest:
        raise KeyError("".join(["c4n", "4ry"]))  # not in the source, which a traceback shows

    monkeypatch.setattr(build, "build", mistaken)
    with pytest.raises(FailedError, match=r"a defect: KeyError in .*v1-111111111111 serves as before") as caught:
        deployed(host, V2)
    kept = next(crash.HOST_DIRECTORY.iterdir())
    assert str(kept) in str(caught.value)
    assert "in mistaken" in kept.read_text()
    assert "c4n4ry" not in f"{kept.read_text()} {caught.value} {caught.value.detail}"
    assert deployment.load(host.settings.deployment) is None


@pytest.mark.parametrize("interrupted", [False, True])
def test_a_second_run_gets_the_owner_before_anything_is_open(
    host: Host, interrupted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if interrupted:
        host.engine.stage(request(V2), None)

    def meanwhile(*_: object) -> None:
        assert deployment.load(host.settings.deployment) is None
        host.engine.stage(request(V2, owner="bob"), None)

    monkeypatch.setattr(cutover, "check_environment", meanwhile)
    with pytest.raises(LockedError, match=r"deployed by alice \(v1, phase stage") as caught:
        host.engine.stage(request(V1), None)
    assert caught.value.holder == "alice"


def test_a_second_run_gets_the_running_phase(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def meanwhile(*_: object) -> float:
        with pytest.raises(LockedError) as caught:
            host.engine.stage(request(V2, owner="bob"), None)
        told.append(str(caught.value))
        return 0.1

    told: list[str] = []
    monkeypatch.setattr(cutover, "pass_gate", meanwhile)
    deployed(host, V1)
    assert ["phase start" in told[0], "phase switch" in told[1]] == [True, True]


def test_a_lease_without_an_open_deployment_locks_nobody_out(host: Host) -> None:
    with lock.hold(host.settings.lock, "logbook") as held:
        held.renew("bob", "", "stage", "v2", 300)
    deployed(host, V1)
    assert host.results() == [("deploy", "v1", "succeeded")]


def test_a_phase_of_another_owners_deployment_is_refused(host: Host) -> None:
    host.engine.stage(request(V1, owner="bob"), None)
    with lock.hold(host.settings.lock, "logbook") as held:
        held.end_lease()
    with pytest.raises(RefusedError, match="now belongs to bob, not to alice"):
        host.engine.phase("migrate", "alice")
    assert host.engine.phase("migrate", None).release == "v1-111111111111"


def test_a_failed_drain_does_not_undo_the_release(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    deployed(host, V1)

    def fail(*_: object) -> None:
        raise FailedError("ss does not list the sockets.")

    monkeypatch.setattr(cutover, "drain", fail)
    deployed(host, V2)
    assert host.results()[-1] == ("deploy", "v2", "succeeded")
    line = next(item for item in reversed(journal.read(host.settings.journal)) if item.phase == "drain")
    assert (line.outcome, line.message) == ("failed", "ss does not list the sockets.")


def test_every_deploy_prunes_releases_beyond_keep_releases(host: Host) -> None:
    host.engine.settings = replace(host.settings, keep_releases=2)
    deployed(host, V1, V2, V3)
    assert sorted(path.name[:2] for path in host.settings.releases.iterdir()) == ["v2", "v3"]


def test_the_command_prune_keeps_the_release_of_the_open_deployment(host: Host) -> None:
    deployed(host, V1, V2)
    host.engine.settings = replace(host.settings, keep_releases=1)
    host.engine.stage(request(V3), None)
    assert host.engine.prune().deleted == []
    assert host.engine.phase("migrate", "alice").tag == "v3"


@pytest.mark.parametrize("is_there", [True, False])
def test_a_run_that_waited_opens_nothing_when_its_client_has_disconnected(
    host: Host, monkeypatch: pytest.MonkeyPatch, is_there: bool
) -> None:
    monkeypatch.setattr(lock, "CLIENT_SECONDS", 0.01)
    deployed(host, V1)
    host.engine.report = host.engine.report if is_there else gone()
    held, waits = threading.Event(), threading.Event()

    def hold() -> None:
        with lock.hold(host.settings.lock, "logbook"):
            held.set()
            waits.wait(10)

    other = threading.Thread(target=hold)
    other.start()
    held.wait(10)
    threading.Timer(0.2, waits.set).start()
    try:
        deploy = request(V2, superseded=("bob",))
        if is_there:
            assert host.engine.stage(deploy, None).open
        else:
            with pytest.raises(FailedError, match="The client disconnected while this command waited"):
                host.engine.stage(deploy, None)
            assert deployment.load(host.settings.deployment) is None
    finally:
        other.join()
