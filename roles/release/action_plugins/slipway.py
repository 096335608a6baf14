"""Runs the engine, on the host or on the controller, and turns its result into Ansible's.

Its options are documented in library/slipway.py.
"""

from __future__ import annotations

import contextlib
import io
import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.plugins.action import ActionBase

PROJECT = Path(__file__).resolve().parents[3]
sys.path.append(str(PROJECT))

# Little is imported here: all of it is read at the start of each run, before the first task.
from roles.release.module_utils.engine_call import Answer, command_line, read_events  # noqa: E402  # the path is first
from roles.release.module_utils.this_run import start_of, this_owner  # noqa: E402  # the path comes first
from slipway import PROTOCOL  # noqa: E402  # the path comes first
from slipway.base import crash  # noqa: E402  # the path comes first
from slipway.base.errors import SlipwayError  # noqa: E402  # the path comes first
from slipway.records import owner, phases  # noqa: E402  # the path comes first
from slipway.records.owner import Owner  # noqa: E402  # the path comes first

PROGRAM = "/usr/local/bin/slipway"
READ_ONLY = {"plan", "resolve", "compare", "status", "releases"}
OPENS = {"stage", "deploy", "rollback"}

Result = dict[str, Any]


def run_here(line: list[str]) -> Answer:
    """A command that runs in this process: to start another one would take longer than most of them."""
    from slipway.cli import parser

    output, errors = io.StringIO(), io.StringIO()
    with contextlib.chdir(PROJECT), contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        try:
            code = parser.main(line)
        except SystemExit as usage:  # of argparse
            code = int(usage.code or 0)
    return Answer(code, read_events(output.getvalue()), errors.getvalue())


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible ships no types
    """See library/slipway.py."""

    _VALID_ARGS = frozenset({"command", "app", "arguments", "options", "source", "where"})

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> Result:
        result: Result = super().run(tmp, task_vars)
        self._variables = task_vars or {}
        given = self._task.args
        command, where = given["command"], given.get("where", "host")
        if where not in ("host", "controller"):
            raise AnsibleActionFail(f"where is '{where}', but must be host or controller")
        options = dict(given.get("options") or {})
        arguments = [given["app"]] if "app" in given else []
        arguments += given.get("arguments") or []
        if command == "rollback" and self._is_check:
            options["plan"] = True
        reads = command in READ_ONLY or bool(options.get("plan"))
        try:
            if given.get("source"):
                return {**result, **self._deliver(command, arguments, options, given["source"])}
            if self._is_check and not reads:
                return {**result, "skipped": True, "msg": "check mode: nothing was changed"}
            if where == "controller":
                return {**result, **run_here(command_line(command, arguments, options)).fields()}
            answer = self._ask_host(command, arguments, options)
        except SlipwayError as error:  # of what ran on the controller
            detail = {"detail": error.detail.splitlines()} if error.detail else {}
            return {**result, "failed": True, "msg": str(error), "unchanged": True, **detail}
        except AnsibleError:
            raise  # Ansible's own, such as that the host cannot be reached
        except Exception as error:  # its own message may show the value of a variable
            return {**result, "failed": True, "msg": crash.explain(error)}
        return {**result, **self._result(command, answer, reads=reads)}

    @property
    def _is_check(self) -> bool:
        return bool(self._play_context.check_mode)

    def _deliver(self, command: str, arguments: list[Any], options: Result, source: dict[str, Any]) -> Result:
        """Give a command that needs a release: find its commit, ask what the host lacks, and send that along.

        In check mode, or when the host has nothing to do, only the host's plan is returned.
        """
        from roles.release.module_utils.commits import Commits

        # A commit that is given was found by a task before, which has looked at where it comes from.
        commits = Commits(source["repository"], PROJECT, source.get("accept") or "signed-tags")
        commit = source.get("commit") or asdict(commits.resolve(source.get("version", ""), source["accept"]))
        wanted = {"sha": commit["sha"], "tag": commit["tag"], "force": options.pop("force", False)}
        # What checks of the host say is only of interest when nothing follows: the command itself does them again.
        plan = self._ask_host("plan", arguments, {**wanted, "brief": not self._is_check})
        if plan.failed or self._is_check or not plan.final["needed"]:
            return {"live": None, **self._result("plan", plan, reads=True), "commit": commit}
        sent = {}
        if plan.final["needs_bundle"]:
            sent = {"bundle": commits.bundle(commit["sha"], commit["tag"], plan.final["known"])}
        answer = self._ask_host(command, arguments, {**wanted, **options}, **sent)
        return {**self._result(command, answer, reads=False), "commit": commit}

    def _ask_host(self, command: str, arguments: list[Any], options: Result, bundle: bytes = b"") -> Answer:
        """Run a command on the host. When a run that has ended holds the app, take over from it, and again as often
        as another dead one is found behind it."""
        options = {**options, "protocol": PROTOCOL}
        if bundle:
            options["bundle"] = "-"
        mine = this_owner()
        if command in phases.OWNED and not options.get("plan"):
            options["owner"] = str(mine)
        superseded: list[str] = []
        while True:
            answer = self._execute(command_line(command, arguments, {**options, "supersede": superseded}), bundle)
            if not takes_over(answer.holder, mine, superseded):
                return answer
            superseded.append(answer.holder)

    def _execute(self, line: list[str], sent: bytes) -> Answer:
        # Something on its standard input keeps ssh from opening a terminal, whose loss would hang up the engine.
        found = self._low_level_execute_command(shlex.join([PROGRAM, *line]), in_data=sent or b"\n")
        return Answer(found["rc"], read_events(found["stdout"]), found["stderr"] or found["stdout"])

    def _result(self, command: str, answer: Answer, *, reads: bool) -> Result:
        """What the task returns. `unchanged` says that it failed, and that no deployment is open for that."""
        found = answer.fields()
        if reads:
            found["changed"] = False
        if answer.failed and (reads or (command in OPENS and answer.is_refused)):
            found["unchanged"] = True
        if answer.is_absent:
            found["msg"] = f"This host was never provisioned: run `{self._site()}` first."
            found["failed"] = not self._is_check  # its plan can still be shown: all of it is new
        elif answer.is_older:
            host = self._variables["inventory_hostname"]
            found["msg"] = f"The engine on {host} is older than this controller: run `{self._site()}` first."
        return found

    def _site(self) -> str:
        group = self._templar.template(self._variables.get("release_environment", "<environment>"))
        return f"ansible-playbook site.yml -l {group}"


def takes_over(holder: str, mine: Owner, superseded: list[str]) -> bool:
    """Whether the command is to be given again, superseding `holder`; "" is nobody.

    An owner that was superseded already and still holds the app is not dead, whatever it looks like from here.
    """
    return bool(holder) and holder not in superseded and owner.is_dead(owner.parse(holder), mine, start_of)
