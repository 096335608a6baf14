"""The engine's decisions over real files, links, locks and journals.

systemd, uv, PostgreSQL and the app are stand-ins here (a unit test has no host to start units on); the same
commands run against the real ones in tests/acceptance and molecule.
"""

from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import Any

import pytest

from slipway import config, cutover, database, deployment, files, journal, lock, manifest, slots, stage, systemd, watch
from slipway.deployment import Request
from slipway.engine import Engine
from slipway.errors import FailedError, LockedError, RefusedError
from slipway.output import Reporter

V1, V2, V3 = ("v1", "1" * 40), ("v2", "2" * 40), ("v3", "3" * 40)


class Host:
    """Which slots run, which releases can be built and pass the gate, where the database is."""

    def __init__(self, settings: config.Settings) -> None:
        self.settings = settings
        self.running: set[str] = set()
        self.bad_gate: set[str] = set()
        self.watch_reason = ""
        self.revision: str | None = "0001"
        self.heads = ["0001"]
        self.calls: list[str] = []
        self.stream = io.StringIO()
        self.engine = Engine(settings, Reporter(as_json=True, stream=self.stream))

    def state(self, _: str, slot: str) -> systemd.UnitState:
        active = "active" if slot in self.running else "inactive"
        return systemd.UnitState(active, "", 0)

    def start(self, _: str, slot: str) -> None:
        self.calls.append(f"start {slot}")
        self.running.add(slot)

    def stop(self, _: str, slot: str) -> None:
        if slot in self.running:
            self.calls.append(f"stop {slot}")
            self.running.discard(slot)

    def pass_gate(self, _: config.Settings, slot: str, sha: str) -> float:
        if sha in self.bad_gate:
            raise FailedError(f"logbook@{slot} crashed.", "Traceback: boom")
        self.calls.append(f"gate {slot}")
        return 0.1

    def build(self, settings: config.Settings, name: str, tag: str | None, sha: str) -> manifest.Manifest:
        revisions = [manifest.Revision(head, "") for head in self.heads]
        made = manifest.Manifest(name, tag, sha, "", "3.13", "", "", self.heads, revisions)
        path = settings.release(name)
        path.mkdir(exist_ok=True)
        (path / manifest.NAME).write_text(manifest.dump(made))
        (path / manifest.COMPLETE).touch()
        return made

    def watch(self, *_: Any) -> tuple[watch.Tally, str]:
        return watch.Tally(), self.watch_reason

    def drain_and_stop(self, settings: config.Settings, slot: str) -> str:
        self.stop(settings.app, slot)
        return "drained"

    def results(self) -> list[tuple[str, str, str]]:
        entries = journal.read(self.settings.journal)
        return [(item.action, item.tag or "", item.outcome) for item in entries if item.phase == journal.RESULT]

    def live(self) -> str | None:
        return slots.live_release(self.settings)


@pytest.fixture
def host(settings: config.Settings, monkeypatch: pytest.MonkeyPatch) -> Host:
    made = Host(settings)
    for name in ("state", "start", "stop"):
        monkeypatch.setattr(systemd, name, getattr(made, name))
    monkeypatch.setattr(cutover, "pass_gate", made.pass_gate)
    monkeypatch.setattr(cutover, "drain_and_stop", made.drain_and_stop)
    monkeypatch.setattr(stage, "build", made.build)
    monkeypatch.setattr(stage, "check_space", lambda _: None)
    monkeypatch.setattr(watch, "watch", made.watch)
    monkeypatch.setattr(database, "current_revision", lambda *_: made.revision)
    monkeypatch.setattr(Engine, "_obtain", lambda *_: None)  # git is tested in test_git
    return made


def _request(version: tuple[str, str], **values: Any) -> Request:
    return Request(tag=version[0], sha=version[1], **{"owner": "alice", **values})


def _deployed(host: Host, *versions: tuple[str, str]) -> None:
    for version in versions:
        host.engine.deploy(_request(version), None)


def test_the_first_deploy_ends_with_one_live_slot_and_nothing_open(host: Host) -> None:
    _deployed(host, V1)
    assert host.live() == "v1-111111111111"
    assert host.running == {"blue"}
    assert deployment.load(host.settings.deployment) is None
    assert lock.read(host.settings.lock) is None
    assert host.results() == [("deploy", "v1", "succeeded")]


def test_the_old_slot_serves_until_the_switch_and_stops_after_it(host: Host) -> None:
    _deployed(host, V1, V2)
    lines = [item for item in journal.read(host.settings.journal) if item.tag == "v2"]
    live = {item.phase: item.live for item in lines}
    assert live["stage"] == live["migrate"] == live["warm"] == "v1-111111111111"
    assert live["switch"] == live["watch"] == live["drain"] == "v2-222222222222"
    assert host.calls[-4:] == ["start green", "gate green", "gate green", "stop blue"]
    assert host.running == {"green"}


def test_deploying_what_is_live_changes_nothing_until_its_settings_do(host: Host) -> None:
    _deployed(host, V1)
    again = host.engine.deploy(_request(V1), None)
    assert (again["changed"], again["action"]) == (False, "nothing")
    host.settings.env_file.write_text('SECRET_KEY="rotated"\n')
    assert host.engine.deploy(_request(V1), None)["changed"]
    assert slots.live_slot(host.settings) == "green"


def test_deploying_what_is_live_but_not_running_starts_it_again(host: Host) -> None:
    _deployed(host, V1)
    host.running.clear()
    assert host.engine.plan(_request(V1))["action"] == "deploy"


def test_a_release_that_fails_its_gate_leaves_the_old_one_and_the_evidence(host: Host) -> None:
    _deployed(host, V1)
    host.bad_gate.add(V2[1])
    with pytest.raises(FailedError, match="v1-111111111111 serves as before") as caught:
        _deployed(host, V2)
    assert "boom" in caught.value.detail
    assert host.live() == "v1-111111111111"
    assert host.running == {"blue"}
    assert host.results()[-1] == ("deploy", "v2", "failed")


def test_a_full_disk_is_a_failure_like_any_other(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    _deployed(host, V1)

    def full(*_: object) -> manifest.Manifest:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(stage, "build", full)
    monkeypatch.setattr(journal, "append", full)
    with pytest.raises(FailedError, match=r"No space left on device.*v1-111111111111 serves as before"):
        _deployed(host, V2)
    assert deployment.load(host.settings.deployment) is None
    assert host.running == {"blue"}


def test_a_release_over_its_budget_is_sent_back(host: Host) -> None:
    _deployed(host, V1)
    host.watch_reason = "9 of 20 requests were answered with a server error"
    with pytest.raises(FailedError, match="9 of 20"):
        _deployed(host, V2)
    assert host.live() == "v1-111111111111"
    assert host.running == {"blue"}


def test_a_first_release_over_its_budget_leaves_nothing_live(host: Host) -> None:
    host.watch_reason = "3 health requests failed"
    with pytest.raises(FailedError, match="no release before"):
        _deployed(host, V1)
    assert host.live() is None
    assert host.running == set()


def test_rollback_returns_to_the_release_before_without_touching_the_schema(host: Host) -> None:
    _deployed(host, V1, V2)
    host.revision = "0002"  # the schema is ahead of v1 now
    result = host.engine.rollback(Request(owner="alice"))
    assert result["tag"] == "v1"
    assert host.live() == "v1-111111111111"
    assert host.results()[-1] == ("rollback", "v1", "succeeded")
    assert any("ahead" in item.message for item in journal.read(host.settings.journal))
    assert not any(item.phase == "migrate" for item in journal.read(host.settings.journal) if item.action == "rollback")


def test_rollback_to_what_was_never_live_is_refused_and_says_what_was(host: Host) -> None:
    with pytest.raises(RefusedError, match="no release before"):
        host.engine.rollback(Request(owner="alice"))
    _deployed(host, V1)
    with pytest.raises(RefusedError, match=r"v9 was never live.*was live: v1"):
        host.engine.rollback(Request(owner="alice"), "v9")


def test_a_moved_tag_is_refused_unless_forced(host: Host) -> None:
    _deployed(host, V1)
    moved = ("v1", "3" * 40)
    with pytest.raises(RefusedError, match="Make a new tag"):
        host.engine.plan(_request(moved))
    with pytest.raises(RefusedError, match="Make a new tag"):
        _deployed(host, moved)
    assert host.engine.deploy(_request(moved, force=True), None)["changed"]


def test_only_tags_deploy_unless_the_environment_takes_commits(host: Host) -> None:
    with pytest.raises(RefusedError, match="prod deploys tags only"):
        host.engine.stage(Request(sha="4" * 40, owner="alice"), None)
    host.engine.settings = replace(host.settings, accept="commits")
    assert host.engine.stage(Request(sha="4" * 40, owner="alice"), None)["changed"]


def test_a_missing_secret_is_named_before_anything_changes(host: Host) -> None:
    host.settings.env_file.write_text("SECRET_KEY=\n")
    with pytest.raises(RefusedError, match=r"SECRET_KEY is required by logbook.*site\.yml"):
        host.engine.stage(_request(V1), None)
    assert deployment.load(host.settings.deployment) is None
    assert journal.read(host.settings.journal) == []


def test_another_owners_open_deployment_is_respected_until_its_lease_ends(host: Host) -> None:
    host.engine.stage(_request(V1), None)
    with pytest.raises(LockedError, match="deployed by alice"):
        host.engine.stage(_request(V2, owner="bob"), None)
    with pytest.raises(LockedError, match="deployed by alice"):
        host.engine.warm("bob")
    assert host.engine.stage(_request(V2, owner="bob", superseded=("alice",)), None)["changed"]
    with pytest.raises(LockedError, match="deployed by bob"):
        host.engine.warm("alice")


def test_phases_keep_their_order(host: Host) -> None:
    with pytest.raises(RefusedError, match="No deployment of logbook is open"):
        host.engine.warm(None)
    host.engine.stage(_request(V1), None)
    with pytest.raises(RefusedError, match="is staged; this phase follows on warm"):
        host.engine.switch(None)
    host.engine.warm(None)
    with pytest.raises(RefusedError, match="is warm; this phase follows on switched"):
        host.engine.settle(None)


@pytest.mark.parametrize("phases", [[], ["migrate"], ["migrate", "warm"]])
def test_what_was_interrupted_before_the_switch_is_undone(host: Host, phases: list[str]) -> None:
    _deployed(host, V1)
    host.engine.stage(_request(V2), None)
    for name in phases:
        getattr(host.engine, name)("alice")
    host.engine.recover()
    assert host.live() == "v1-111111111111"
    assert host.running == {"blue"}
    assert host.results()[-1] == ("deploy", "v2", "reverted")
    assert host.engine.recover()["changed"] is False


def test_what_was_interrupted_after_the_switch_is_finished(host: Host) -> None:
    _deployed(host, V1)
    host.engine.stage(_request(V2), None)
    host.engine.warm("alice")
    host.engine.switch("alice")
    host.engine.recover()
    assert host.live() == "v2-222222222222"
    assert host.running == {"green"}
    assert host.results()[-1] == ("deploy", "v2", "succeeded")


def test_a_crash_between_the_rename_and_its_record_counts_as_switched(host: Host) -> None:
    """The link is the truth: the state file still says warm."""
    _deployed(host, V1)
    host.engine.stage(_request(V2), None)
    host.engine.warm("alice")
    files.link_atomically(host.settings.live, "slots/green")
    host.engine.recover()
    assert host.live() == "v2-222222222222"
    assert host.running == {"green"}


def test_the_same_deploy_again_ends_one_that_was_killed_after_its_switch(host: Host) -> None:
    _deployed(host, V1)
    host.engine.stage(_request(V2), None)
    host.engine.warm("alice")
    host.engine.switch("alice")
    assert host.engine.plan(_request(V2))["action"] == "deploy"
    again = host.engine.deploy(_request(V2), None)
    assert (again["changed"], again["action"]) == (True, "nothing")
    assert host.running == {"green"}
    assert host.results()[-1] == ("deploy", "v2", "succeeded")
    assert lock.read(host.settings.lock) is None


@pytest.mark.parametrize("switched", [False, True])
def test_the_same_rollback_again_goes_where_the_killed_one_went(host: Host, switched: bool) -> None:
    _deployed(host, V1, V2, V3)
    host.engine.open_rollback(Request(owner="alice"))
    host.engine.warm("alice")
    if switched:
        host.engine.switch("alice")
    assert host.engine.plan_rollback(Request(owner="alice"))["release"] == "v2-222222222222"
    host.engine.rollback(Request(owner="alice"))
    assert host.live() == "v2-222222222222"
    assert host.results()[-1] == ("rollback", "v2", "succeeded")


def test_an_undoing_that_was_killed_is_finished_and_not_taken_for_a_success(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    _deployed(host, V1)
    host.watch_reason = "9 of 20 requests were answered with a server error"

    def killed(*_: object) -> str:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(cutover, "go_back", killed)
        with pytest.raises(KeyboardInterrupt):
            _deployed(host, V2)
    assert host.live() == "v2-222222222222"
    host.engine.recover()
    assert host.live() == "v1-111111111111"
    assert host.running == {"blue"}
    assert host.results()[-1] == ("deploy", "v2", "reverted")


def test_a_way_back_that_fails_is_told_with_what_began_it(host: Host) -> None:
    _deployed(host, V1)
    host.watch_reason = "9 of 20 requests were answered with a server error"
    host.engine.stage(_request(V2), None)
    host.engine.warm("alice")
    host.engine.switch("alice")
    host.running.discard("blue")  # the old release died meanwhile,
    host.bad_gate.add(V1[1])  # and does not come back
    with pytest.raises(FailedError, match=r"9 of 20.*way back failed: logbook@blue crashed.*slipway revert logbook"):
        host.engine.settle("alice")
    assert host.live() == "v2-222222222222"


def test_a_branched_history_is_refused_and_an_older_release_is_not(host: Host) -> None:
    _deployed(host, V1, V2)
    host.revision = "0002"  # of a release that is not on this host any more
    _deployed(host, V1)  # its head, 0001, was reached before
    assert host.live() == "v1-111111111111"
    host.heads = ["0002b"]
    with pytest.raises(FailedError, match=r"at 0002, which v3 does not know, and its own head 0002b was never reached"):
        _deployed(host, V3)


def test_boot_starts_the_live_slot_and_only_that(host: Host) -> None:
    _deployed(host, V1, V2)
    host.running.clear()
    host.engine.recover()
    assert host.running == {"green"}


def test_revert_after_the_switch_sends_traffic_back(host: Host) -> None:
    _deployed(host, V1)
    host.engine.stage(_request(V2), None)
    host.engine.warm("alice")
    host.engine.switch("alice")
    assert host.engine.revert("alice")["changed"]
    assert host.live() == "v1-111111111111"
    assert host.running == {"blue"}
    assert host.engine.revert("alice")["changed"] is False


def test_events_are_one_json_object_a_line(host: Host) -> None:
    _deployed(host, V1)
    events = [json.loads(line) for line in host.stream.getvalue().splitlines()]
    assert [item["phase"] for item in events] == ["stage", "migrate", "warm", "switch", "watch", "drain", "prune"]


def test_a_reader_that_goes_away_does_not_stop_the_work() -> None:
    class Gone(io.StringIO):
        def write(self, _: str) -> int:
            raise BrokenPipeError

    Reporter(as_json=True, stream=Gone()).result("ok", "done")
