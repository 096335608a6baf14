"""The values of environment variables: what a value of the inventory is for the app, and which ones cannot be given.

This is the only place where a value of YAML becomes the text of a variable:

- a text stays as it is, whatever characters and lines it has;
- null (nothing, `~`, null) leaves the variable out, and "" gives an empty one;
- a boolean is `true` or `false`, and a number is as it is written;
- a list or a mapping is JSON without spaces, which pydantic-settings reads;
- `{generate: true}` is a value that the host makes and keeps (`slipway/slot/secrets.py`), and no text here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from roles.app.module_utils import written
from slipway.slot import envfile

# The kernel takes no longer entry of an environment, with its name and the zero byte after it (MAX_ARG_STRLEN).
MOST_BYTES = 32 * 4096


def texts(variables: Mapping[str, Any]) -> dict[str, str]:
    """The variables that are set here, each with its text."""
    return {
        str(name): text(value) for name, value in variables.items() if value is not None and not _is_generated(value)
    }


def generated(variables: Mapping[str, Any]) -> list[str]:
    """The names of the variables whose values the host makes."""
    return [str(name) for name, value in variables.items() if _is_generated(value)]


def _is_generated(value: Any) -> bool:
    return isinstance(value, Mapping) and "generate" in value


def text(value: Any) -> str:
    """A value, which is not null, as the text that the app gets."""
    if isinstance(value, str):
        return str(value)
    return json.dumps(_plain(value), ensure_ascii=False, separators=(",", ":"), default=str)


def _plain(value: Any) -> Any:
    """Without Ansible's own classes, of which JSON does not know all."""
    if isinstance(value, Mapping):
        return {item if isinstance(item, str) else text(item): _plain(part) for item, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return str(value) if isinstance(value, str) else value


def faults(where: str, variables: Mapping[Any, Any]) -> Iterator[str]:
    """What is wrong with variables that are declared at `where`, a sentence each, without any value."""
    for name, value in variables.items():
        if not isinstance(name, str):
            kind = "true or false" if isinstance(name, bool) else "a number or a date"
            yield f"{where} has a variable whose name YAML takes for {kind}. Write the name in quotes."
        elif not envfile.NAME.fullmatch(name):
            yield (
                f"{where}.{name} cannot be the name of a variable: use letters, digits and underscores, and no digit "
                "at the beginning."
            )
        elif _is_generated(value):
            if dict(value) != {"generate": True}:
                yield f"{where}.{name}: a value that the host makes is written {{generate: true}}, with nothing else."
        elif isinstance(value, str):
            yield from _of_text(f"{where}.{name}", name, value)
        else:
            spoilt = list(written.spoilt(f"{where}.{name}", name, value))
            yield from spoilt or _of_text(f"{where}.{name}", name, text(value))


def _of_text(where: str, name: str, value: str) -> Iterator[str]:
    if "\0" in value:
        yield f"{where} has a NUL character, which no variable can have. Encode the value, for example as base64."
        return
    try:
        size = len(f"{name}={value}".encode()) + 1
    except UnicodeEncodeError:
        yield f"{where} is not valid Unicode. Encode the value, for example as base64."
        return
    if size > MOST_BYTES:
        yield (
            f"{where} has {size} bytes, and the kernel takes at most {MOST_BYTES} for a variable. "
            "Put the value into a file, and the path of the file into the variable."
        )
