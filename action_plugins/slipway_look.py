"""Asks a host by a script of sh: the module `raw`, but for what the shell of the user adds to its answer.

    - name: Look for Nginx
      slipway_look:
        script: nginx -v 2>&1
      register: __nginx_found

It returns `stdout`, `stdout_lines` and `rc` of the script. Nothing is changed on the host, so it also runs in check
mode, and never fails because of the script's code: it fails when the host gives no answer at all.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase

PROJECT = Path(__file__).resolve().parents[1]
if str(PROJECT) not in sys.path:  # where Ansible loads this file, it is not
    sys.path.append(str(PROJECT))

from playbooks.look.ask import ask  # noqa: E402  # the path comes first


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible ships no types
    """See above."""

    _VALID_ARGS = frozenset({"script"})
    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        known = task_vars or {}
        answer = ask(self, str(self._task.args["script"]), known.get("inventory_hostname", "the host"))
        lines = answer.text.splitlines()
        said = {"rc": answer.code, "stdout": answer.text, "stdout_lines": lines}
        return {**result, "changed": False, "failed": False, **said}  # whatever the code: it is part of the answer
