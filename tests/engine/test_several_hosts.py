"""A deployment of several hosts, on one of them: it is never finished forward without the controller."""

from __future__ import annotations

import pytest

from slipway.base.errors import RefusedError
from slipway.deployment import lock
from slipway.records import deployment, phases
from slipway.records.deployment import Request

from .fakes import V1, V2, Host, deployed, request

FLEET = ("app-1", "app-2")
ORDER = ["migrate", "start", "switch", "watch"]


def _up_to(host: Host, name: str) -> None:
    """v1 is live; the deploy of v2 on several hosts has come to the end of a phase."""
    deployed(host, V1)
    host.engine.stage(request(V2, fleet=FLEET), None)
    for phase in ORDER[: ORDER.index(name) + 1]:
        host.engine.phase(phase, "alice")


@pytest.mark.parametrize("name", ORDER)
def test_after_a_reboot_the_old_release_is_live_and_the_deployment_stays_open(host: Host, name: str) -> None:
    _up_to(host, name)
    host.running.clear()
    lock.read(host.settings.lock)
    message = host.engine.recover().message
    assert "on several hosts (app-1, app-2) was interrupted. v1-111111111111 is live here until" in message
    assert (host.live(), host.running) == ("v1-111111111111", {"blue"})
    found = deployment.load(host.settings.deployment)
    assert found is not None
    assert found.state == phases.SUSPENDED
    assert host.results()[-1] == ("deploy", "v1", "succeeded"), "nothing has ended yet"
    with pytest.raises(RefusedError, match="is suspended"):
        host.engine.finish("alice")


@pytest.mark.parametrize("name", ORDER)
def test_the_next_run_undoes_a_suspended_deployment_and_deploys_again(host: Host, name: str) -> None:
    _up_to(host, name)
    host.running.clear()
    host.engine.recover()
    host.engine.recover()  # the host is restarted once more
    host.engine.deploy(request(V2, superseded=("alice",), owner="bob"), None)
    assert host.results()[-2:] == [("deploy", "v2", "reverted"), ("deploy", "v2", "succeeded")]
    assert (host.live(), host.running) == ("v2-222222222222", {"green"})


@pytest.mark.parametrize("name", ORDER)
def test_a_run_that_takes_over_from_a_dead_controller_does_not_finish_one_host_alone(host: Host, name: str) -> None:
    _up_to(host, name)
    host.engine.stage(request(V2, superseded=("alice",), owner="bob", fleet=FLEET), None)
    assert host.results()[-1] == ("deploy", "v2", "reverted")
    assert host.live() == "v1-111111111111"


def test_after_finish_has_begun_a_reboot_finishes_the_deployment(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    _up_to(host, "watch")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("slipway.slot.cutover.drain", killed)
    with pytest.raises(KeyboardInterrupt):
        host.engine.finish("alice")
    monkeypatch.setattr("slipway.slot.cutover.drain", host.drain)
    host.running.clear()
    host.engine.recover()
    assert host.live() == "v2-222222222222"
    assert host.results()[-1] == ("deploy", "v2", "succeeded")


def test_the_first_deploy_of_several_hosts_leaves_nothing_live_after_a_reboot(host: Host) -> None:
    host.engine.stage(request(V1, fleet=FLEET), None)
    for phase in ORDER[:3]:
        host.engine.phase(phase, "alice")
    host.engine.recover()
    assert (host.live(), host.running) == (None, set())


def test_a_rollback_of_several_hosts_is_suspended_as_well(host: Host) -> None:
    deployed(host, V1, V2)
    host.engine.open_rollback(Request(owner="alice", fleet=FLEET))
    for phase in ("start", "switch"):
        host.engine.phase(phase, "alice")
    host.engine.recover()
    assert host.live() == "v2-222222222222"
