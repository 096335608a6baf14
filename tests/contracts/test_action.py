"""The action plugin on a task, with an engine that gives the answers of a script."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from roles.release.action_plugins import slipway as plugin
from roles.release.module_utils.engine_call import Answer
from slipway import PROTOCOL
from slipway.cli import parser
from tests.engine.conftest import GitRepository

DEAD = "root@a1b2c3 (pid 7, start 345, namespace 1, run ci-77)"
DEAD_TOO = "root@d4e5f6 (pid 8, start 345, namespace 1, run ci-77)"
Given = list[Any]
Run = Callable[..., dict[str, Any]]


def result(outcome: str = "ok", **fields: Any) -> Answer:
    codes = {"ok": 0, "failed": 1, "refused": 3, "locked": 4}
    event = {"event": "result", "outcome": outcome, "message": outcome, "detail": "", "changed": outcome == "ok"}
    return Answer(codes[outcome], [{**event, **fields}])


def plan(**fields: Any) -> Answer:
    return result(**{"needed": True, "needs_bundle": True, "known": [], "live": None, "changed": False, **fields})


@pytest.fixture
def given() -> Given:
    """The command lines that the engine was given, as it parses them, each with what was sent along."""
    return []


@pytest.fixture
def run(given: Given, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a task; the engine gives these answers in turn."""
    monkeypatch.setenv("SLIPWAY_RUN", "ci-77")

    def run_task(*answers: Answer, check: bool = False, **arguments: Any) -> dict[str, Any]:
        script = iter(answers)

        def execute(_: object, line: list[str], sent: bytes) -> Answer:
            given.append((parser.parser().parse_args(line), sent))
            return next(script)

        monkeypatch.setattr(plugin.ActionModule, "_execute", execute)
        action = plugin.ActionModule(
            task=SimpleNamespace(args={"app": "logbook", **arguments}, async_val=0, check_mode=check, diff=False),
            connection=SimpleNamespace(_shell=SimpleNamespace(tmpdir="none is made")),
            play_context=SimpleNamespace(check_mode=check),
            loader=None,
            templar=SimpleNamespace(template=lambda value: value),
            shared_loader_obj=None,
        )
        found: dict[str, Any] = action.run(task_vars={"inventory_hostname": "app-1", "release_environment": "prod"})
        assert list(script) == [], "the engine was asked less often than that"
        return found

    return run_task


def test_a_run_takes_over_until_no_dead_owner_is_left(run: Run, given: Given) -> None:
    found = run(
        result("locked", holder=DEAD), result("locked", holder=DEAD_TOO), result(), command="rollback", options={}
    )
    assert not found["failed"]
    assert [options.supersede for options, _ in given] == [[], [DEAD], [DEAD, DEAD_TOO]]
    assert {options.protocol for options, _ in given} == {PROTOCOL}


def test_an_owner_that_holds_on_although_it_was_superseded_is_left_alone(run: Run, given: Given) -> None:
    found = run(result("locked", holder=DEAD), result("locked", holder=DEAD, message="busy"), command="finish")
    assert (found["failed"], found["msg"], len(given)) == (True, "busy", 2)


def test_an_owner_that_may_be_alive_is_not_taken_over_from(run: Run, given: Given) -> None:
    found = run(result("locked", holder="bob@elsewhere (pid 7)"), command="stage", options={"sha": "0" * 40})
    assert (found["failed"], found["unchanged"], len(given)) == (True, True, 1)


def test_a_phase_that_fails_may_have_left_something_open(run: Run) -> None:
    assert "unchanged" not in run(result("failed"), command="start")
    assert "unchanged" not in run(result("refused"), command="start")
    assert "unchanged" not in run(result("failed"), command="rollback")
    assert run(result("refused"), command="rollback")["unchanged"]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (Answer(127, [], "sh: 1: /usr/local/bin/slipway: not found"), "This host was never provisioned: run "),
        (
            Answer(2, [], "slipway: error: unrecognized arguments: --protocol 2"),
            "The engine on app-1 is older than this controller: run ",
        ),
    ],
)
def test_a_host_without_the_engine_of_this_controller_is_to_be_provisioned_first(
    run: Run, answer: Answer, message: str
) -> None:
    found = run(answer, command="rollback")
    assert (found["failed"], found["unchanged"]) == (True, True)
    assert found["msg"] == f"{message}`ansible-playbook site.yml -l prod` first."


def test_an_id_that_cannot_be_that_of_a_run_is_refused_before_the_host_is_asked(
    run: Run, given: Given, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLIPWAY_RUN", "a b")
    found = run(command="rollback")
    assert (found["failed"], found["unchanged"], given) == (True, True, [])
    assert "SLIPWAY_RUN is 'a b'" in found["msg"]


# Commands that need a release


@pytest.fixture
def source(tmp_path: Path) -> dict[str, Any]:
    """A repository with two tags, and which of them is wanted."""
    repository = GitRepository(tmp_path / "source")
    for tag in ("v1.0.0", "v2.0.0"):
        repository.commit({"app.py": tag}, tag)
    return {"repository": str(repository.path), "version": "v2.0.0", "accept": "tags"}


def test_a_release_is_found_planned_and_sent(run: Run, given: Given, source: dict[str, Any]) -> None:
    found = run(plan(), result(), command="deploy", source=source, options={"force": False})
    (planned, nothing), (deploy, sent) = given
    assert (planned.command, planned.tag, planned.brief, nothing) == ("plan", "v2.0.0", True, b"")
    assert (deploy.command, deploy.sha, deploy.tag, str(deploy.bundle)) == ("deploy", planned.sha, "v2.0.0", "-")
    assert sent.startswith(b"# v2 git bundle")
    assert deploy.owner.endswith(", run ci-77)")
    assert (found["commit"]["sha"], found["changed"]) == (planned.sha, True)


def test_a_host_that_has_the_commit_is_sent_nothing(run: Run, given: Given, source: dict[str, Any]) -> None:
    run(plan(needs_bundle=False), result(), command="stage", source=source, options={"fleet": ["app-1", "app-2"]})
    deploy, sent = given[1]
    assert (deploy.bundle, sent, deploy.fleet) == (None, b"", ["app-1", "app-2"])


def test_hosts_of_one_run_get_the_same_commit(run: Run, given: Given, source: dict[str, Any]) -> None:
    commit = {"sha": "0" * 40, "tag": "v0.1.0"}
    wanted = {"repository": source["repository"], "commit": commit}
    found = run(plan(needs_bundle=False), result(), command="stage", source=wanted)
    assert {(options.sha, options.tag) for options, _ in given} == {("0" * 40, "v0.1.0")}
    assert found["commit"] == commit


def test_nothing_is_given_where_nothing_is_needed(run: Run, given: Given, source: dict[str, Any]) -> None:
    found = run(plan(needed=False, message="live already"), command="deploy", source=source)
    assert (found["msg"], found["changed"], found["failed"], len(given)) == ("live already", False, False, 1)


def test_in_check_mode_there_is_only_the_plan_with_all_its_checks(
    run: Run, given: Given, source: dict[str, Any]
) -> None:
    found = run(plan(message="would be deployed"), check=True, command="deploy", source=source)
    assert (found["msg"], found["changed"], given[0][0].brief) == ("would be deployed", False, False)
    run(result(), check=True, command="rollback")
    assert given[1][0].plan
    assert run(check=True, command="start")["skipped"]
    assert len(given) == 2


def test_in_check_mode_a_fresh_host_is_shown_all_that_would_be_new(run: Run, source: dict[str, Any]) -> None:
    found = run(Answer(127, []), check=True, command="deploy", source=source)
    assert (found["failed"], found["live"], found["commit"]["tag"]) == (False, None, "v2.0.0")


def test_a_version_that_does_not_exist_is_refused_before_the_host_is_asked(
    run: Run, given: Given, source: dict[str, Any]
) -> None:
    found = run(command="deploy", source={**source, "version": "v2.0.1"})
    assert (found["failed"], found["unchanged"], given) == (True, True, [])
    assert "No tag 'v2.0.1'" in found["msg"]
