"""Looks at a host before anything is changed, and fails with all that is in the way, in one message.

    - name: Look at the host
      slipway_obstacles:
        ports: [80, 443]         # that Nginx is to have
        databases: true          # whether PostgreSQL is to be on the host
        timezone: Etc/UTC        # that the host is to have; empty is its own
        adopt: false             # take over what Nginx and PostgreSQL hold of others
        patience: 900            # seconds to wait for whoever installs packages

The facts come from playbooks/look/host.sh, the decisions from playbooks/look/obstacles.py.
"""

from __future__ import annotations

import shlex
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

PROJECT = Path(__file__).resolve().parents[1]
if str(PROJECT) not in sys.path:  # where Ansible loads this file, it is not
    sys.path.append(str(PROJECT))

from playbooks.look import obstacles  # noqa: E402  # the path comes first
from playbooks.look.ask import ask  # noqa: E402  # the path comes first

LATE = 3  # times that mirrors and DNS are asked, which may come up after the host does
PAUSE = 3  # seconds between two looks


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible ships no types
    """See above."""

    _VALID_ARGS = frozenset({"ports", "databases", "timezone", "adopt", "patience"})
    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        host = (task_vars or {}).get("inventory_hostname", "the host")
        given = self._task.args
        wanted = obstacles.Wanted(
            ports=tuple(int(port) for port in given["ports"]),
            has_databases=bool(given["databases"]),
            timezone=str(given["timezone"]),
            adopt=bool(given["adopt"]),
        )
        facts = self._wait(host, wanted, float(given["patience"]))
        found = obstacles.obstacles(facts, wanted, datetime.now(UTC))
        result["warnings"] = [f"{host}: {caution}" for caution in obstacles.cautions(facts)]
        if found:
            return {**result, "failed": True, "msg": message(host, found)}
        return {**result, "changed": False}

    def _wait(self, host: str, wanted: obstacles.Wanted, patience: float) -> obstacles.Facts:
        """The facts, once nobody else installs packages and the network answers; AnsibleActionFail after `patience`."""
        began, asked, said = time.monotonic(), 1, ""
        while True:
            facts = self._look(host, wanted)
            if busy := obstacles.busy_with_packages(facts):
                waited = time.monotonic() - began
                if waited > patience:
                    raise AnsibleActionFail(
                        f"{host} is not ready, and nothing was changed. {' and '.join(busy)} installs packages "
                        f"still after {waited / 60:.0f} minutes. Wait until it has ended, and run the command again."
                    )
                if (text := ", ".join(busy)) != said:
                    said = text
                    limit = f"{patience / 60:.0f} minutes at most"
                    Display().display(f"{host}: waiting for {text}, which installs packages, {limit}")
            elif not (obstacles.may_pass(facts) and asked < LATE):
                return facts
            else:
                asked += 1
            time.sleep(PAUSE)

    def _look(self, host: str, wanted: obstacles.Wanted) -> obstacles.Facts:
        """The facts as root; without root's rights as far as anybody can see them, with the reason for that."""
        ports = " ".join(str(port) for port in (*wanted.ports, wanted.postgresql_port))
        inputs = f"ports={shlex.quote(ports)} timezone={shlex.quote(wanted.timezone)}\n"
        script = inputs + (PROJECT / "playbooks/look/host.sh").read_text()
        user = str(self._get_remote_user() or "root")
        # What the shell prints before the answer of sudo, Ansible drops with the line of that answer: ask without sudo.
        greeting = ask(self, ":", host, becomes=False).greeting
        refused = ""
        try:
            answer = ask(self, script, host)
        except AnsibleActionFail as error:
            refused = str(error)
            answer = ask(self, script, host, becomes=False)
        return obstacles.read(answer.text, user, refused, greeting)


def message(host: str, found: list[str]) -> str:
    """What the operator reads."""
    if len(found) == 1:
        return f"{host} is not ready, and nothing was changed. {found[0]}"
    listed = "\n".join(f"{number}. {sentence}" for number, sentence in enumerate(found, 1))
    return f"{host} is not ready, and nothing was changed. {len(found)} things are in the way:\n{listed}"
