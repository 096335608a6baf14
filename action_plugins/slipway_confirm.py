"""Asks whoever runs a playbook for a yes, where a run does what cannot be taken back.

    - name: Ask before the deploy
      slipway_confirm:
        what: v2.0.0 to prod
        reasons: ["0005_drop.py drops the table orders"]

Without a reason nothing is asked. Without a terminal the task fails with the reasons and what to type.
"""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

try:  # neither belongs to what Ansible promises to keep
    from ansible.errors import AnsiblePromptInterrupt, AnsiblePromptNoninteractive
except ImportError:
    AnsiblePromptInterrupt = AnsiblePromptNoninteractive = AnsibleError


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible ships no types
    """See above."""

    _VALID_ARGS = frozenset({"what", "reasons"})
    TRANSFERS_FILES = False
    BYPASS_HOST_LOOP = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        given = self._task.args
        reasons = [str(reason) for reason in given.get("reasons") or []]
        if not reasons:
            return {**result, "changed": False, "reasons": reasons}
        question = f"{given['what']}: {'; '.join(reasons)}."
        try:
            answer = Display().prompt_until(f"{question}\nType yes to go on: ", private=False)
        except AnsiblePromptNoninteractive:
            return {
                **result,
                "failed": True,
                "msg": f"{question} There is no terminal to ask on: pass -e yes=true if that is meant.",
            }
        except AnsiblePromptInterrupt:
            answer = b""
        text = answer.decode(errors="replace") if isinstance(answer, bytes) else str(answer)
        if text.strip().lower() == "yes":
            return {**result, "changed": False, "reasons": reasons}
        return {**result, "failed": True, "msg": f"{question} The answer was not yes, so nothing was changed."}
