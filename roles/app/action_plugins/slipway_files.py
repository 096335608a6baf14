"""Renders the files of an app, and has those written that the host does not have so. See library/slipway_files.py."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.plugins.loader import lookup_loader


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible ships no types
    """See above."""

    _VALID_ARGS = frozenset({"files", "found"})
    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        known = task_vars or {}
        found = set(self._task.args.get("found") or [])
        files = [self._whole(item, known) for item in self._task.args["files"] if item.get("wanted", True)]
        wanted = [item for item in files if not is_there(item, found)]
        if not wanted:
            return {**result, "changed": False, "written": []}
        done: dict[str, Any] = self._execute_module(
            module_name="slipway_files", module_args={"files": json.dumps(wanted)}, task_vars=known, tmp=tmp
        )
        if self._task.diff and not done.get("failed"):
            done["diff"] = [{"after_header": item["dest"], "before": "", "after": item["content"]} for item in wanted]
        return {**result, **done}

    def _whole(self, item: dict[str, Any], known: dict[str, Any]) -> dict[str, Any]:
        """A file with its content, owner, group and mode."""
        if "content" in item:
            content = str(item["content"])
        elif "src" in item:
            template = lookup_loader.get("ansible.builtin.template", loader=self._loader, templar=self._templar)
            (content,) = template.run([item["src"]], variables={**known, "item": item})
        else:
            raise AnsibleActionFail(f"{item['dest']} has neither content nor src.")
        return {
            "dest": str(item["dest"]),
            "content": str(content),
            "owner": str(item.get("owner", "root")),
            "group": str(item.get("group", "root")),
            "mode": str(item.get("mode", "644")),
        }


def is_there(item: dict[str, Any], found: set[str]) -> bool:
    """Whether the host has the file with this content, owner and mode, by what it has said of itself."""
    digest = hashlib.sha256(item["content"].encode()).hexdigest()
    attributes = f"f {item['owner']}:{item['group']} {item['mode'].lstrip('0')} {item['dest']}"
    return attributes in found and f"{digest}  {Path(item['dest'])}" in found
