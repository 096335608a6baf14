"""The engine's decisions over real files, links, locks and journals.

systemd, uv, PostgreSQL and the app are stand-ins here (a unit test has no host to start units on); the same
commands run against the real ones in tests/acceptance and molecule.
"""

from __future__ import annotations

import io
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from slipway.base import settings as config
from slipway.base.errors import FailedError, LockedError, RefusedError
from slipway.deployment import lock
from slipway.deployment.engine import Engine
from slipway.records import deployment, journal, manifest
from slipway.records.deployment import Request
from slipway.release import build, git, store
from slipway.slot import cutover, slots, watch
from slipway.slot.connections import Connections

from .fakes import V1, V2, V3, Host, deployed, gone, request, switched


def test_the_first_deploy_ends_with_one_live_slot_and_nothing_open(host: Host) -> None:
    deployed(host, V1)
    assert host.live() == "v1-111111111111"
    assert host.running == {"blue"}
    assert deployment.load(host.settings.deployment) is None
    assert lock.read(host.settings.lock) is None
    assert host.results() == [("deploy", "v1", "succeeded")]


def test_the_old_slot_is_live_until_the_switch_and_stops_after_it(host: Host) -> None:
    deployed(host, V1, V2)
    lines = [item for item in journal.read(host.settings.journal) if item.tag == "v2"]
    live = {item.phase: item.live for item in lines}
    assert live["stage"] == live["migrate"] == live["start"] == "v1-111111111111"
    assert live["switch"] == live["watch"] == live["drain"] == "v2-222222222222"
    assert host.calls[-6:] == ["start green", "gate green", "gate green", "watch", "drain blue", "stop blue"]
    assert host.running == {"green"}


def test_auth_check_stops_a_deploy_but_not_a_rollback(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def check(_: config.Settings, slot: str, release: manifest.Manifest) -> str:
        if release.tag != "v2":
            raise FailedError(f"{release.tag} answered with 404.")
        return f"; {slot} turns strangers away"

    deployed(host, V1)
    monkeypatch.setattr(cutover, "check_authentication", check)
    deployed(host, V2)
    assert any("green turns strangers away" in item.message for item in journal.read(host.settings.journal))
    with pytest.raises(FailedError, match="v3 answered with 404"):
        deployed(host, V3)
    assert host.live() == "v2-222222222222"
    host.engine.rollback(Request(owner="alice"))
    assert host.live() == "v1-111111111111"


def test_deploying_the_live_release_changes_nothing_until_its_settings_change(host: Host) -> None:
    deployed(host, V1)
    again = host.engine.deploy(request(V1), None)
    assert (again.changed, again.open) == (False, False)
    host.settings.env_file.write_text('SECRET_KEY="rotated"\n')
    assert host.engine.deploy(request(V1), None).changed
    assert slots.live_slot(host.settings) == "green"


def test_deploying_the_live_release_starts_it_again_if_it_does_not_run(host: Host) -> None:
    deployed(host, V1)
    host.running.clear()
    assert host.engine.plan(request(V1)).needed
    assert host.engine.deploy(request(V1), None).changed
    assert host.running == {"green"}
    assert slots.live_slot(host.settings) == "green"


def test_a_brief_plan_leaves_the_checks_of_the_host_to_the_deploy_that_follows(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: object) -> str:
        raise RefusedError("the host cannot take a release")

    deployed(host, V1)
    monkeypatch.setattr("slipway.deployment.preflight.check_host", refuse)
    plan = host.engine.plan(request(V2), brief=True)
    assert (plan.needed, plan.needs_bundle, plan.known) == (True, False, [V1[1]])
    with pytest.raises(RefusedError, match="cannot take a release"):
        host.engine.plan(request(V2))


def test_a_release_that_fails_its_gate_is_undone_with_its_log(host: Host) -> None:
    deployed(host, V1)
    host.bad_gate.add(V2[1])
    with pytest.raises(FailedError, match="v1-111111111111 serves as before") as caught:
        deployed(host, V2)
    assert "boom" in caught.value.detail
    assert host.live() == "v1-111111111111"
    assert host.running == {"blue"}
    assert host.results()[-1] == ("deploy", "v2", "failed")


def test_a_release_over_its_error_budget_is_undone(host: Host) -> None:
    deployed(host, V1)
    host.watch_reason = "9 of 20 requests were answered with a server error"
    with pytest.raises(FailedError, match="9 of 20"):
        deployed(host, V2)
    assert host.live() == "v1-111111111111"
    assert host.running == {"blue"}


def test_a_first_release_over_its_error_budget_leaves_nothing_live(host: Host) -> None:
    host.watch_reason = "3 health requests failed"
    with pytest.raises(FailedError, match="no release before"):
        deployed(host, V1)
    assert host.live() is None
    assert host.running == set()


def test_rollback_goes_to_the_release_before_and_keeps_the_schema(host: Host) -> None:
    deployed(host, V1, V2)
    host.revision = "0002"  # the schema is ahead of v1 now
    result = host.engine.rollback(Request(owner="alice"))
    assert result.tag == "v1"
    assert host.live() == "v1-111111111111"
    assert host.results()[-1] == ("rollback", "v1", "succeeded")
    assert any("ahead" in item.message for item in journal.read(host.settings.journal))
    assert not any(item.phase == "migrate" for item in journal.read(host.settings.journal) if item.action == "rollback")


def test_rollback_to_a_release_that_was_never_live_is_refused(host: Host) -> None:
    with pytest.raises(RefusedError, match="no release before"):
        host.engine.rollback(Request(owner="alice"))
    deployed(host, V1)
    with pytest.raises(RefusedError, match=r"v9 was never live.*live before: v1"):
        host.engine.rollback(Request(owner="alice"), "v9")


def test_a_rollback_requires_a_signed_tag(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    deployed(host, V1, V2)
    host.engine.settings = replace(host.settings, accept="signed-tags", allowed_signers="/etc/logbook/signers")
    monkeypatch.setattr(git, "signature_problem", lambda *_: "no principal matched")
    with pytest.raises(RefusedError, match="'v1' is not signed by anyone in /etc/logbook/signers") as caught:
        host.engine.rollback(Request(owner="alice"))
    assert caught.value.detail == "no principal matched"
    assert deployment.load(host.settings.deployment) is None


def test_a_rollback_checks_required_variables_before_it_opens(host: Host) -> None:
    deployed(host, V1, V2)
    host.settings.env_file.write_text("OTHER=1\n")
    with pytest.raises(RefusedError, match="SECRET_KEY is required"):
        host.engine.open_rollback(Request(owner="alice"))
    assert host.results()[-1] == ("deploy", "v2", "succeeded")


def test_a_rollback_checks_disk_space_only_if_the_release_was_pruned(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployed(host, V1, V2)

    def refuse(_: object) -> None:
        raise RefusedError("12 MB free")

    monkeypatch.setattr(build, "check_space", refuse)
    store.delete(host.settings.release("v1-111111111111"))
    with pytest.raises(RefusedError, match="12 MB free"):
        host.engine.open_rollback(Request(owner="alice"))
    assert deployment.load(host.settings.deployment) is None
    host.build(host.settings, "v1-111111111111", *V1)
    assert host.engine.open_rollback(Request(owner="alice")).changed


def test_a_moved_tag_is_refused_unless_forced(host: Host) -> None:
    deployed(host, V1)
    moved = ("v1", "3" * 40)
    with pytest.raises(RefusedError, match="Create a new tag"):
        host.engine.plan(request(moved))
    with pytest.raises(RefusedError, match="Create a new tag"):
        deployed(host, moved)
    assert host.engine.deploy(request(moved, force=True), None).changed


def test_commits_are_refused_unless_the_environment_accepts_them(host: Host) -> None:
    with pytest.raises(RefusedError, match="prod deploys tags only"):
        host.engine.stage(Request(sha="4" * 40, owner="alice"), None)
    host.engine.settings = replace(host.settings, accept="commits")
    assert host.engine.stage(Request(sha="4" * 40, owner="alice"), None).changed


def test_a_missing_variable_is_refused_before_anything_is_changed(host: Host) -> None:
    host.settings.env_file.write_text("SECRET_KEY=\n")
    with pytest.raises(RefusedError, match=r"SECRET_KEY is required by logbook.*site\.yml"):
        host.engine.stage(request(V1), None)
    assert deployment.load(host.settings.deployment) is None
    assert journal.read(host.settings.journal) == []
    assert lock.read(host.settings.lock) is None


def test_a_full_disk_is_refused_before_anything_is_sent_or_opened(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: object) -> None:
        raise RefusedError("12 MB free")

    monkeypatch.setattr(build, "check_space", refuse)
    monkeypatch.setattr(build, "receive", lambda *_: pytest.fail("the bundle was received"))
    host.has_commit = False
    with pytest.raises(RefusedError, match="12 MB free"):
        host.engine.stage(request(V1), _sent(tmp_path))
    assert journal.read(host.settings.journal) == []


def _sent(directory: Path) -> Path:
    bundle = directory / "bundle"
    bundle.write_text("no bundle at all")
    return bundle


def test_the_received_bundle_is_deleted_before_the_phases_that_follow_on_stage(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left: list[list[Path]] = []

    def start(*_: object) -> str:
        left.append(list(host.settings.root.glob("incoming-*")))
        return "ready"

    monkeypatch.setattr(cutover, "start", start)
    monkeypatch.setattr(build, "receive", lambda *_: None)
    host.engine.deploy(request(V1), _sent(tmp_path))
    assert left == [[]]


def test_the_received_bundle_is_deleted_even_if_it_is_damaged(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def torn(_: object, bundle: Path, __: str) -> None:
        assert bundle.read_text() == "no bundle at all"
        raise FailedError("git fetch failed")

    monkeypatch.setattr(build, "receive", torn)
    host.has_commit = False
    with pytest.raises(FailedError, match="git fetch failed"):
        host.engine.stage(request(V1), _sent(tmp_path))
    assert list(host.settings.root.glob("incoming-*")) == []
    assert deployment.load(host.settings.deployment) is None


def test_a_bundle_is_not_used_if_the_host_has_the_commit(host: Host, tmp_path: Path) -> None:
    assert host.engine.stage(request(V1), _sent(tmp_path)).changed


@pytest.mark.slow
def test_a_bundle_on_standard_input_is_read_before_the_lock_is_taken(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = io.BytesIO(b"no bundle at all")
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=sent))
    host.settings.lock.parent.mkdir()
    with lock.hold(host.settings.lock, "logbook"), pytest.raises(LockedError):
        host.engine.stage(request(V1), build.STANDARD_INPUT)
    assert sent.read() == b""


def test_a_commit_without_a_bundle_is_refused_with_the_option(host: Host) -> None:
    host.has_commit = False
    with pytest.raises(RefusedError, match=r"v1 \(111111111111\) is not on this host; pass it with --bundle"):
        host.engine.stage(request(V1), None)


def test_finish_watches_unless_the_watch_was_done_before(host: Host) -> None:
    switched(host)
    watches = host.calls.count("watch")
    host.engine.phase("watch", "alice")
    host.engine.finish("alice")
    assert host.calls.count("watch") == watches + 1
    host.engine.stage(request(V3), None)
    host.engine.phase("start", "alice")
    host.engine.phase("switch", "alice")
    host.engine.finish("alice")
    assert host.calls.count("watch") == watches + 2


def test_a_release_over_its_error_budget_is_undone_by_the_command_watch(host: Host) -> None:
    switched(host)
    host.watch_reason = "9 of 20 requests were answered with a server error"
    with pytest.raises(FailedError, match=r"v2 took traffic, but 9 of 20.*v1-111111111111 serves as before"):
        host.engine.phase("watch", "alice")
    assert host.results()[-1] == ("deploy", "v2", "failed")


def test_a_branched_history_is_refused_and_an_older_release_is_not(host: Host) -> None:
    deployed(host, V1, V2)
    host.revision = "0002"  # of a release that is not on this host any more
    deployed(host, V1)  # its head, 0001, was reached before
    assert host.live() == "v1-111111111111"
    host.heads = ["0002b"]
    host.history.append(manifest.Revision("0002b", ""))
    with pytest.raises(
        FailedError, match=r"at 0002, which v3 does not have, and it never was at the head of v3, 0002b\."
    ):
        deployed(host, V3)


def test_json_output_has_one_object_per_line(host: Host) -> None:
    deployed(host, V1)
    events = [json.loads(line) for line in host.stream.getvalue().splitlines()]
    assert [item["phase"] for item in events] == ["stage", "migrate", "start", "switch", "watch", "drain", "prune"]


def test_a_client_that_disconnects_does_not_stop_the_work() -> None:
    report = gone()
    report.result("ok", "done")
    assert not report.has_client


def test_a_deploy_whose_client_disconnected_is_undone_before_the_switch(host: Host) -> None:
    deployed(host, V1)
    host.engine.report = gone()
    with pytest.raises(FailedError, match=r"disconnected before the switch\. v1-111111111111 serves as before"):
        host.engine.deploy(request(V2), None)
    assert host.live() == "v1-111111111111"
    assert host.running == {"blue"}
    assert host.results()[-1] == ("deploy", "v2", "reverted")


# Old code on the new schema


@pytest.fixture
def expanding(host: Host) -> Host:
    """v1 is live at revision 0001. The next release has the migration 0002."""
    deployed(host, V1)
    host.history = [manifest.Revision("0001", ""), manifest.Revision("0002", "add notes")]
    host.heads = ["0002"]
    host.calls.clear()
    return host


def test_the_live_release_must_be_ready_before_and_after_a_migration(expanding: Host) -> None:
    deployed(expanding, V2)
    assert expanding.calls[:4] == ["ask blue", "upgrade", "ask blue", "start green"]


def test_a_live_release_that_is_not_ready_on_the_new_schema_stops_the_deploy(
    expanding: Host,
) -> None:
    expanding.not_ready = "HTTP 503: no column name"
    sentence = r"schema is at 0002 now, and v1, which is live, is not ready on it: HTTP 503: no column name\. "
    with pytest.raises(FailedError, match=f"{sentence}Run deploy.yml again to deploy v2"):
        deployed(expanding, V2)
    assert expanding.live() == "v1-111111111111"
    assert expanding.running == {"blue"}
    deployed(expanding, V2)
    assert expanding.live() == "v2-222222222222"


def test_on_incompatible_continue_goes_on_and_reports_it(expanding: Host) -> None:
    expanding.engine = Engine(replace(expanding.settings, on_incompatible="continue"), expanding.engine.report)
    expanding.not_ready = "HTTP 503: no column name"
    deployed(expanding, V2)
    assert expanding.live() == "v2-222222222222"
    migrated = next(item for item in journal.read(expanding.settings.journal) if item.message.startswith("to 0002"))
    assert migrated.message == "to 0002; v1 is not ready on it (HTTP 503: no column name), the deploy goes on"


def test_a_live_release_that_was_not_ready_before_does_not_stop_the_deploy(
    expanding: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cutover, "why_not_ready", lambda *_: "it crashed long ago")
    deployed(expanding, V2)
    assert expanding.live() == "v2-222222222222"


@pytest.fixture
def contracting(expanding: Host) -> Host:
    """As above, and 0002 needs code that has it."""
    expanding.history[1] = replace(expanding.history[1], oldest_compatible="0002")
    return expanding


def test_a_migration_that_the_live_release_cannot_run_on_is_not_run(contracting: Host) -> None:
    with pytest.raises(FailedError, match=r"It is live, so nothing was migrated\. .* or set on_incompatible: continue"):
        deployed(contracting, V2)
    assert "upgrade" not in contracting.calls
    contracting.engine = Engine(replace(contracting.settings, on_incompatible="continue"), contracting.engine.report)
    deployed(contracting, V2)
    assert contracting.revision == "0002"


@pytest.fixture
def contracted(contracting: Host) -> Host:
    """v2 is live, on a schema that v1 cannot run on."""
    allowing = replace(contracting.settings, on_incompatible="continue")
    contracting.engine = Engine(allowing, contracting.engine.report)
    deployed(contracting, V2)
    contracting.calls.clear()
    return contracting


def test_a_rollback_to_code_that_cannot_run_on_the_schema_is_refused_before_anything_is_open(contracted: Host) -> None:
    for attempt in (contracted.engine.plan_rollback, contracted.engine.open_rollback):
        with pytest.raises(RefusedError, match=r"v1 cannot run on the schema .*pass -e allow_data_loss=true"):
            attempt(Request(owner="alice"))
    assert contracted.calls == []
    assert deployment.load(contracted.settings.deployment) is None


def test_a_pruned_release_that_cannot_run_on_the_schema_is_refused_after_its_build(contracted: Host) -> None:
    store.delete(contracted.settings.release("v1-111111111111"))
    contracted.heads = ["0001"]
    with pytest.raises(FailedError, match=r"v1 cannot run on the schema .*v2-222222222222 serves as before"):
        contracted.engine.rollback(Request(owner="alice"))
    assert contracted.calls == []


def test_a_deploy_of_code_that_cannot_run_on_the_schema_is_refused(contracted: Host) -> None:
    contracted.heads = ["0001"]
    with pytest.raises(FailedError, match="v1 cannot run on the schema"):
        deployed(contracted, V1)
    assert contracted.live() == "v2-222222222222"


def test_allow_data_loss_downgrades_the_schema_before_the_start(contracted: Host) -> None:
    plan = contracted.engine.plan_rollback(Request(owner="alice"), allow_data_loss=True)
    assert plan.message == "v1 would be live again, after a dump and a downgrade from 0002."
    contracted.engine.rollback(Request(owner="alice"), allow_data_loss=True)
    assert contracted.calls[:2] == ["downgrade", "start blue"]
    assert contracted.live() == "v1-111111111111"


def test_a_rollback_that_fails_after_the_downgrade_upgrades_the_schema_again(contracted: Host) -> None:
    contracted.bad_gate.add(V1[1])
    with pytest.raises(FailedError, match="v2-222222222222 serves as before"):
        contracted.engine.rollback(Request(owner="alice"), allow_data_loss=True)
    assert contracted.calls[:3] == ["downgrade", "start blue", "restore"]


def test_allow_data_loss_does_not_downgrade_without_need(expanding: Host) -> None:
    deployed(expanding, V2)
    expanding.calls.clear()
    expanding.engine.rollback(Request(owner="alice"), allow_data_loss=True)
    assert "downgrade" not in expanding.calls


# The receipt


def test_a_deploy_ends_with_its_receipt_as_a_sentence_and_in_the_journal(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployed(host, V1)

    def watched(*_: object) -> tuple[watch.Tally, str]:
        return watch.Tally(requests=400, errors=1, probes=12, milliseconds=[2.0] * 11 + [9.0]), ""

    monkeypatch.setattr(watch, "watch", watched)
    host.left = Connections(2, 0)
    message = host.engine.deploy(request(V2), None).message
    assert message.startswith("v1 → v2 in 0.")
    assert message.endswith(" s, 3 of 412 requests failed (p50 2 ms, p99 9 ms).")
    closing = journal.results(journal.read(host.settings.journal), 1)[0]
    assert closing.message == message
    written = closing.detail["receipt"]
    assert (written["sent"], written["failed"], written["cut"], written["p99_ms"]) == (412, 3, 2, 9.0)
    assert list(written["phases"]) == ["stage", "migrate", "start", "switch", "watch", "drain"]
