"""The settings of an app that are texts or whole numbers: YAML must not have made something else of them.

A setting that is a text, or a list of texts, gets what was written, or one sentence asks for quotes. Without this, the
validator of Ansible would turn the number 1.1, for which 1.10 was written, into a text, and true into "True". A whole
number that is written as 010 would be 8.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from roles.app.module_utils import setting_forms, written


def faults(options: Mapping[str, Mapping[str, Any]], given: Mapping[Any, Any], where: str = "") -> Iterator[str]:
    """What is wrong with settings that `options` declare, a sentence each, without any value."""
    for name, value in given.items():
        option = options.get(name, {})
        path = f"{where}{name}"
        secret = bool(option.get("no_log"))
        if "options" in option:
            parts = enumerate(value) if isinstance(value, list) else [("", value)]
            for number, part in parts:
                if isinstance(part, Mapping):
                    index = f"[{number}]" if isinstance(value, list) else ""
                    yield from faults(option["options"], part, f"{path}{index}.")
        elif "str" in (option.get("type"), option.get("elements")) and value is not None:
            if isinstance(value, list) and option.get("type") != "list":
                yield f"{path} must be a text, and not {setting_forms.shown(value, secret=secret)}. Write it in quotes."
            else:
                yield from _of_texts(path, name, value, secret=secret)
        elif option.get("type") == "int" and isinstance(value, int):
            yield from written.spoilt(path, name, value)


def _of_texts(path: str, name: object, value: object, *, secret: bool) -> Iterator[str]:
    parts = (
        {f"{path}[{number}]": item for number, item in enumerate(value)} if isinstance(value, list) else {path: value}
    )
    others = [
        place for place, item in parts.items() if isinstance(item, bool) or not isinstance(item, str | int | float)
    ]
    if others:
        taken = setting_forms.shown(parts[others[0]], secret=secret)
        yield (
            f"{', '.join(others)} must be a text, and YAML takes it for {taken} (as it takes yes, no, on and off for "
            "true or false). Write it in quotes."
        )
    else:
        yield from written.spoilt(path, name, value)
