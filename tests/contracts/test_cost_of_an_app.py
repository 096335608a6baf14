"""What each app more costs a site.yml that has nothing to do, counted: a call of a module takes a third of a second.

A question by `slipway_look` takes a fortieth, and `slipway_files` calls nothing where the host has what it should have.
`make bench PARTS=apps` measures the seconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from hosts.scratch import PROJECT

Task = dict[str, Any]
WORDS = {"name", "when", "loop", "loop_control", "vars", "register", "notify", "no_log", "become", "become_user"}
WORDS |= {"changed_when", "failed_when", "check_mode", "delegate_to", "run_once", "retries", "until", "delay", "diff"}
# What runs on the controller alone.
FREE = {f"ansible.builtin.{name}" for name in ("assert", "debug", "meta", "include_tasks", "include_role")}
FREE |= {"slipway_files"}
LOOK = "slipway_look"
# True on every host in every run: a task with such a condition alone is one without a condition.
ALWAYS = {"not ansible_check_mode"}


def flat(role: str, file: str) -> Iterator[Task]:
    for task in yaml.safe_load((PROJECT / f"roles/{role}/tasks/{file}.yml").read_text()) or []:
        yield from _parts(role, task, [])


def _parts(role: str, task: Task, conditions: list[str]) -> Iterator[Task]:
    given = task.get("when", [])
    known = [*conditions, *(given if isinstance(given, list) else [given])]
    if "block" in task:
        for part in task["block"]:
            yield from _parts(role, part, known)
    elif "ansible.builtin.import_tasks" in task:
        for part in flat(role, task["ansible.builtin.import_tasks"].removesuffix(".yml")):
            yield from _parts(role, part, known)
    else:
        yield {**task, "when": known}


def module(task: Task) -> str:
    (found,) = set(task) - WORDS
    return found


def calls(tasks: list[Task]) -> list[str]:
    """The tasks that call a module on the host in every run."""
    return [
        task["name"]
        for task in tasks
        if module(task) not in FREE | {LOOK} and set(task["when"]) <= ALWAYS and "delegate_to" not in task
    ]


def of_each_app() -> list[tuple[str, str]]:
    """What site.yml includes once for each app, as role and file."""
    plays = yaml.safe_load((PROJECT / "site.yml").read_text())
    included = [
        task for play in plays for task in play.get("tasks", []) if "prepared_apps" in str(task.get("loop", ""))
    ]
    roles = [task["ansible.builtin.include_role"] for task in included]
    return [(role["name"], role.get("tasks_from", "main")) for role in roles]


# The files that hold for every app; the others are for those with values of the host's, with files or an authority.
EACH = [("certificate", "preflight"), ("app", "preflight_host"), ("app", "main"), ("certificate", "main")]
SOME = [("certificate", "preflight_host"), ("app", "generate"), ("certificate", "request")]


def test_what_is_included_for_each_app_is_known() -> None:
    assert sorted(of_each_app()) == sorted(EACH + SOME)


def test_an_app_costs_one_call_and_few_questions() -> None:
    tasks = [task for role, file in EACH for task in flat(role, file)]
    assert calls([task for task in tasks if "loop" not in task]) == ["Pair | Install certificate and key"]
    asked = [task["name"] for task in tasks if module(task) == LOOK and set(task["when"]) <= ALWAYS]
    assert len(asked) <= 3, asked
    assert len(tasks) <= 30, "each task takes a thirtieth of a second, also one that is skipped"


def test_what_only_some_apps_have_is_one_call_each() -> None:
    assert [len(calls(list(flat(role, file)))) <= 1 for role, file in SOME] == [True] * len(SOME)


def test_a_loop_for_an_app_is_over_what_few_apps_have() -> None:
    """Each turn is a task of its own."""
    loops = {task["name"] for role, file in EACH for task in flat(role, file) if "loop" in task}
    assert loops == {"Writable paths | Create the directories that are not there"}


@pytest.mark.parametrize("role", ["host", "postgresql", "mariadb", "redis", "nginx", "access"])
def test_a_role_that_is_for_all_apps_at_once_calls_nothing_for_each(role: str) -> None:
    loops = [task for task in flat(role, "main") if "loop" in task and module(task) not in FREE]
    assert calls(loops) == []
