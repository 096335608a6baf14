"""Brings a host's new firewall and settings of sshd into force, and confirms them by a new login of this controller.

    - name: Bring the changes into force, and log in anew
      slipway_access:
        program: /usr/local/sbin/slipway-access
        seconds: 60

One task, so that each host is confirmed as soon as its change is in force, however many hosts there are. Without a new
login the host goes back by itself, and the task fails with one sentence.
"""

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleConnectionFailure
from ansible.plugins.action import ActionBase

PROJECT = Path(__file__).resolve().parents[1]
if str(PROJECT) not in sys.path:  # where Ansible loads this file, it is not
    sys.path.append(str(PROJECT))

from playbooks.look.ask import ask  # noqa: E402  # the path comes first

PAUSE = 2  # seconds between two attempts to log in
MARGIN = 10  # seconds before the end, after which no further attempt is begun
PATIENCE = 30  # seconds after the end in which the host has to be back


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible ships no types
    """See above."""

    _VALID_ARGS = frozenset({"program", "seconds"})
    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        if self._task.check_mode:
            return {**result, "changed": True}
        self._host = (task_vars or {}).get("inventory_hostname", "the host")
        self._program, seconds = str(self._task.args["program"]), int(self._task.args["seconds"])
        tried = ask(self, f"{self._program} try {seconds} 2>&1", self._host)
        if tried.code:
            raise AnsibleActionFail(
                f"{self._host} keeps its settings of SSH and firewall: {' '.join(tried.text.split())}"
            )
        end = time.monotonic() + seconds
        while reason := self._refused():
            if time.monotonic() > end - MARGIN:
                raise AnsibleActionFail(
                    f"The new settings of SSH and firewall would have locked this controller out of {self._host}: a "
                    f"new login failed ({reason[:300]}). {self._what_became_of_it(end)}. See access_ssh_ports, "
                    "access_ssh_older_clients and the key that this run logs in with; access_sshd: false or "
                    "access_firewall: false leaves one of the two out."
                )
            time.sleep(PAUSE)
        return {**result, "changed": True}

    def _refused(self) -> str:
        """Log in anew and confirm; why that was not possible, or nothing."""
        by_ssh = "ssh" in self._connection.transport or "paramiko" in self._connection.transport
        try:
            if by_ssh:
                self._connection.reset()  # the connection so far has been let in by what was in force before
            confirmed = ask(self, f"{self._program} confirm {'' if by_ssh else 'without-ssh'} 2>&1", self._host)
        except (AnsibleConnectionFailure, AnsibleActionFail) as error:
            return " ".join(str(error).split()) or "no answer"
        return " ".join(confirmed.text.split()) or "it was refused" if confirmed.code else ""

    def _what_became_of_it(self, end: float) -> str:
        """Whether the host is as it was, once it has had the time for that."""
        while time.monotonic() < end + PATIENCE:
            time.sleep(PAUSE)
            with contextlib.suppress(AnsibleConnectionFailure, AnsibleActionFail):
                self._connection.reset()
                if ask(self, "test ! -e /var/lib/slipway/access/before", self._host).code == 0:
                    return "The host has gone back to what it had, and this controller can log in"
        return "The host goes back by itself, but this controller has not been able to log in since"
