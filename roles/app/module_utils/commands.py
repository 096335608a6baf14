"""Settings with commands of an app, which are run without a shell: one whole form, and what is wrong with it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any

from slipway.base.errors import RefusedError

ALEMBIC = "alembic"  # in the place of a command: what Slipway itself asks alembic for
_USUAL = (ALEMBIC, f"{ALEMBIC} upgrade head", f"{ALEMBIC} upgrade heads")
_NEEDS_A_SHELL = ("&&", "||", ";", "|", ">", ">>", "<", "&")


def whole(setting: str, value: Any) -> list[str]:
    """The commands of a setting, also of one that is given as text. RefusedError says what it must be."""
    commands = [value] if isinstance(value, str) else value
    if commands in (None, [""]):
        return []
    if not isinstance(commands, list) or not all(isinstance(command, str) for command in commands):
        raise RefusedError(f"{setting} is {value!r}, but must be a list of commands, such as [python app/seed.py].")
    return list(commands)


def whole_migrate(value: Any) -> list[str]:
    """How an app is migrated: ["alembic"], by commands, or not at all ([])."""
    if value is True:
        raise RefusedError(
            "migrate is true. Leave it out for alembic, set it to the command that migrates, such as 'aerich upgrade', "
            "or to false for an app without migrations."
        )
    if value is False or value in ("false", "no", "none"):
        return []
    if value in (None, ""):
        return [ALEMBIC]
    commands = whole("migrate", value)
    return [ALEMBIC] if len(commands) == 1 and " ".join(commands[0].split()) in _USUAL else commands


def faults(where: str, commands: list[str]) -> Iterator[str]:
    """What is wrong with commands; `where` is the setting of the app."""
    for command in commands:
        try:
            words = shlex.split(command)
        except ValueError:
            yield f"{where} has {command!r}, in which a quote is not closed. Close it."
            continue
        if not words or not words[0]:
            yield f"{where} has an empty command. Remove it."
        elif found := next((word for word in words if word in _NEEDS_A_SHELL), None):
            yield (
                f"{where} has {command!r}, but no shell runs it, which '{found}' needs. Make several commands of it, "
                "or write sh -c '...' around it."
            )
