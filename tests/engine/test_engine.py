"""The engine's decisions over real files, links, locks and journals.

systemd, uv, PostgreSQL and the app are stand-ins here (a unit test has no host to start units on); the same
commands run against the real ones in tests/acceptance and molecule.
"""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest

from slipway import deployment, git, journal, lock, releases, slots, stage
from slipway.deployment import Request
from slipway.errors import FailedError, RefusedError
from slipway.output import Reporter

from .fakes import V1, V2, V3, Host, deployed, request, switched


def test_the_first_deploy_ends_with_one_live_slot_and_nothing_open(host: Host) -> None:
    deployed(host, V1)
    assert host.live() == "v1-111111111111"
    assert host.running == {"blue"}
    assert deployment.load(host.settings.deployment) is None
    assert lock.read(host.settings.lock) is None
    assert host.results() == [("deploy", "v1", "succeeded")]


def test_the_old_slot_serves_until_the_switch_and_stops_after_it(host: Host) -> None:
    deployed(host, V1, V2)
    lines = [item for item in journal.read(host.settings.journal) if item.tag == "v2"]
    live = {item.phase: item.live for item in lines}
    assert live["stage"] == live["migrate"] == live["warm"] == "v1-111111111111"
    assert live["switch"] == live["watch"] == live["drain"] == "v2-222222222222"
    assert host.calls[-6:] == ["start green", "gate green", "gate green", "watch", "drain blue", "stop blue"]
    assert host.running == {"green"}


def test_deploying_what_is_live_changes_nothing_until_its_settings_do(host: Host) -> None:
    deployed(host, V1)
    again = host.engine.deploy(request(V1), None)
    assert (again["changed"], again["action"]) == (False, "nothing")
    host.settings.env_file.write_text('SECRET_KEY="rotated"\n')
    assert host.engine.deploy(request(V1), None)["changed"]
    assert slots.live_slot(host.settings) == "green"


def test_deploying_what_is_live_but_not_running_starts_it_again(host: Host) -> None:
    deployed(host, V1)
    host.running.clear()
    assert host.engine.plan(request(V1))["action"] == "deploy"
    assert host.engine.deploy(request(V1), None)["changed"]
    assert host.running == {"green"}
    assert slots.live_slot(host.settings) == "green"


def test_a_release_that_fails_its_gate_leaves_the_old_one_and_the_evidence(host: Host) -> None:
    deployed(host, V1)
    host.bad_gate.add(V2[1])
    with pytest.raises(FailedError, match="v1-111111111111 serves as before") as caught:
        deployed(host, V2)
    assert "boom" in caught.value.detail
    assert host.live() == "v1-111111111111"
    assert host.running == {"blue"}
    assert host.results()[-1] == ("deploy", "v2", "failed")


def test_a_release_over_its_budget_is_sent_back(host: Host) -> None:
    deployed(host, V1)
    host.watch_reason = "9 of 20 requests were answered with a server error"
    with pytest.raises(FailedError, match="9 of 20"):
        deployed(host, V2)
    assert host.live() == "v1-111111111111"
    assert host.running == {"blue"}


def test_a_first_release_over_its_budget_leaves_nothing_live(host: Host) -> None:
    host.watch_reason = "3 health requests failed"
    with pytest.raises(FailedError, match="no release before"):
        deployed(host, V1)
    assert host.live() is None
    assert host.running == set()


def test_rollback_returns_to_the_release_before_without_touching_the_schema(host: Host) -> None:
    deployed(host, V1, V2)
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
    deployed(host, V1)
    with pytest.raises(RefusedError, match=r"v9 was never live.*was live: v1"):
        host.engine.rollback(Request(owner="alice"), "v9")


def test_a_rollback_wants_a_tag_that_is_signed(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    deployed(host, V1, V2)
    host.engine.settings = replace(host.settings, accept="signed-tags", allowed_signers="/etc/logbook/signers")
    monkeypatch.setattr(git, "signature_problem", lambda *_: "no principal matched")
    with pytest.raises(RefusedError, match="'v1' is not signed by anyone in /etc/logbook/signers") as caught:
        host.engine.rollback(Request(owner="alice"))
    assert caught.value.detail == "no principal matched"
    assert deployment.load(host.settings.deployment) is None


def test_a_rollback_wants_the_variables_before_it_opens(host: Host) -> None:
    deployed(host, V1, V2)
    host.settings.env_file.write_text("OTHER=1\n")
    with pytest.raises(RefusedError, match="SECRET_KEY is required"):
        host.engine.open_rollback(Request(owner="alice"))
    assert host.results()[-1] == ("deploy", "v2", "succeeded")


def test_a_rollback_wants_space_only_where_the_release_was_pruned(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    deployed(host, V1, V2)

    def refuse(_: object) -> None:
        raise RefusedError("12 MB free")

    monkeypatch.setattr(stage, "check_space", refuse)
    releases.delete(host.settings.release("v1-111111111111"))
    with pytest.raises(RefusedError, match="12 MB free"):
        host.engine.open_rollback(Request(owner="alice"))
    assert deployment.load(host.settings.deployment) is None
    host.build(host.settings, "v1-111111111111", *V1)
    assert host.engine.open_rollback(Request(owner="alice"))["changed"]


def test_a_moved_tag_is_refused_unless_forced(host: Host) -> None:
    deployed(host, V1)
    moved = ("v1", "3" * 40)
    with pytest.raises(RefusedError, match="Make a new tag"):
        host.engine.plan(request(moved))
    with pytest.raises(RefusedError, match="Make a new tag"):
        deployed(host, moved)
    assert host.engine.deploy(request(moved, force=True), None)["changed"]


def test_only_tags_deploy_unless_the_environment_takes_commits(host: Host) -> None:
    with pytest.raises(RefusedError, match="prod deploys tags only"):
        host.engine.stage(Request(sha="4" * 40, owner="alice"), None)
    host.engine.settings = replace(host.settings, accept="commits")
    assert host.engine.stage(Request(sha="4" * 40, owner="alice"), None)["changed"]


def test_a_missing_secret_is_named_before_anything_changes(host: Host) -> None:
    host.settings.env_file.write_text("SECRET_KEY=\n")
    with pytest.raises(RefusedError, match=r"SECRET_KEY is required by logbook.*site\.yml"):
        host.engine.stage(request(V1), None)
    assert deployment.load(host.settings.deployment) is None
    assert journal.read(host.settings.journal) == []
    assert lock.read(host.settings.lock) is None


def test_a_full_file_system_refuses_before_anything_is_sent_or_opened(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: object) -> None:
        raise RefusedError("12 MB free")

    monkeypatch.setattr(stage, "check_space", refuse)
    monkeypatch.setattr(stage, "receive", lambda *_: pytest.fail("the bundle was received"))
    host.has_commit = False
    with pytest.raises(RefusedError, match="12 MB free"):
        host.engine.stage(request(V1), Path("bundle"))
    assert journal.read(host.settings.journal) == []


def test_a_bundle_is_used_up_also_when_it_is_torn(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def torn(*_: object) -> None:
        raise FailedError("git fetch failed")

    monkeypatch.setattr(stage, "receive", torn)
    host.has_commit = False
    bundle = tmp_path / "bundle"
    bundle.touch()
    with pytest.raises(FailedError, match="git fetch failed"):
        host.engine.stage(request(V1), bundle)
    assert not bundle.exists()
    assert deployment.load(host.settings.deployment) is None


def test_a_bundle_with_what_the_host_has_is_not_read(host: Host, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    bundle.write_text("no bundle at all")
    assert host.engine.stage(request(V1), bundle)["changed"]
    assert not bundle.exists()


def test_a_commit_that_nobody_sent_is_refused_with_the_option(host: Host) -> None:
    host.has_commit = False
    with pytest.raises(RefusedError, match=r"v1 \(111111111111\) is not on this host; pass it with --bundle"):
        host.engine.stage(request(V1), None)


def test_what_was_watched_is_not_watched_again_and_settle_alone_watches(host: Host) -> None:
    switched(host)
    watches = host.calls.count("watch")
    host.engine.watch("alice")
    host.engine.settle("alice")
    assert host.calls.count("watch") == watches + 1
    host.engine.stage(request(V3), None)
    host.engine.warm("alice")
    host.engine.switch("alice")
    host.engine.settle("alice")
    assert host.calls.count("watch") == watches + 2


def test_a_release_over_its_budget_is_sent_back_by_a_watch_of_its_own(host: Host) -> None:
    switched(host)
    host.watch_reason = "9 of 20 requests were answered with a server error"
    with pytest.raises(FailedError, match=r"v2 took traffic, but 9 of 20.*v1-111111111111 serves as before"):
        host.engine.watch("alice")
    assert host.results()[-1] == ("deploy", "v2", "failed")


def test_a_branched_history_is_refused_and_an_older_release_is_not(host: Host) -> None:
    deployed(host, V1, V2)
    host.revision = "0002"  # of a release that is not on this host any more
    deployed(host, V1)  # its head, 0001, was reached before
    assert host.live() == "v1-111111111111"
    host.heads = ["0002b"]
    with pytest.raises(FailedError, match=r"at 0002, which v3 does not know, and its own head 0002b was never reached"):
        deployed(host, V3)


def test_events_are_one_json_object_a_line(host: Host) -> None:
    deployed(host, V1)
    events = [json.loads(line) for line in host.stream.getvalue().splitlines()]
    assert [item["phase"] for item in events] == ["stage", "migrate", "warm", "switch", "watch", "drain", "prune"]


def test_a_reader_that_goes_away_does_not_stop_the_work() -> None:
    class Gone(io.StringIO):
        def write(self, _: str) -> int:
            raise BrokenPipeError

    Reporter(as_json=True, stream=Gone()).result("ok", "done")
