"""What is proposed: the lines of an entry, each with its reason, and what to look at."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

# The order in which an entry is read: where the app is, how it is served, what it needs, what else it runs.
ORDER = (
    "repository", "accept", "directory", "lock", "allow_unpinned", "extras", "groups", "python", "packages",
    "build_packages", "build",
    "domains", "module", "workers", "overlap", "health", "environment_variable", "database", "migrate",
    "after_migrate", "services", "env", "secrets", "required_env", "needs", "processes", "schedule", "data", "static",
)  # fmt: skip


class Template(str):
    """A text that the inventory is to work out: one of ours. What a repository has is never one."""

    __slots__ = ()


@dataclass
class Proposal:
    name: str
    lines: dict[str, Any] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    # Not needed where the entry gets too long: Slipway finds the same by itself.
    optional: set[str] = field(default_factory=set)
    made_up: list[str] = field(default_factory=list)  # variables whose values nobody has said

    def say(self, key: str, value: Any, reason: str) -> None:
        """Propose a line, or more for a line that is a list or a mapping."""
        old = self.lines.get(key)
        if isinstance(old, list) and isinstance(value, list):
            value = old + [one for one in value if one not in old]
        elif isinstance(old, dict) and isinstance(value, dict):
            value = {**value, **old}
        self.lines[key] = value
        said = self.reasons.get(key, "")
        if reason and reason not in said:
            self.reasons[key] = f"{said}; {reason}" if said else reason

    def warn(self, text: str) -> None:
        if text not in self.warnings:
            self.warnings.append(text)
