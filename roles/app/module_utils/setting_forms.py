"""The forms of an entry of `apps`: unknown keys, nothing behind a key, wrong types and choices, a sentence each.

Each sentence begins with the key's path below the app, has the value where that is no secret, and says what is allowed.
Ansible's validator, which comes after this, has no words that name the path, the value and the nearest name.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ansible.module_utils.common.validation import (
    check_type_bool,
    check_type_dict,
    check_type_float,
    check_type_int,
    check_type_list,
)

# What people call a setting elsewhere.
OTHER_WORDS = {
    "app": "module",
    "apt": "packages",
    "branch": "accept",
    "certificate": "tls",
    "command": "processes",
    "commands": "processes",
    "cron": "schedule",
    "crons": "schedule",
    "db": "database",
    "entrypoint": "module",
    "environment": "env",
    "environment_variables": "env",
    "git": "repository",
    "health_check": "health",
    "healthcheck": "health",
    "host": "domains",
    "hostname": "domains",
    "jobs": "schedule",
    "max_body_size": "client_max_body_size",
    "memory": "memory_max_mb",
    "migrations": "migrate",
    "path": "directory",
    "port": "https_port",
    "postgres": "database",
    "redis": "services",
    "repo": "repository",
    "server_name": "domains",
    "ssl": "tls",
    "subdirectory": "directory",
    "url": "repository",
    "variables": "env",
    "vars": "env",
    "volumes": "data",
    "worker": "processes",
}
_CONVERT = {
    "int": (check_type_int, "a whole number"),
    "float": (check_type_float, "a number"),
    "bool": (check_type_bool, "true or false"),
    "list": (check_type_list, "a list"),
    "dict": (check_type_dict, "a mapping, with a name and a value on each line"),
}
_MOST_SHOWN = 60  # characters of a value in a sentence

Options = Mapping[str, Mapping[str, Any]]


def faults(options: Options, given: Mapping[Any, Any], where: str = "", *, secret: bool = False) -> Iterator[str]:
    """What is wrong with the forms of the settings `given`; `where` is the path of what they belong to."""
    for name, value in given.items():
        path = f"{where}{name}"
        if name not in options:
            yield unknown(path, str(name), options)
        elif value is None:
            if "default" in options[name]:  # else null is what is not given, in settings that are whole already
                yield f"{path} is null: nothing stands behind its colon. Give it a value, or leave it out."
        else:
            yield from _of_value(path, options[name], value, secret=secret or bool(options[name].get("no_log")))


def unknown(path: str, name: str, known: Iterable[str]) -> str:
    """The sentence about a key that nothing reads, with the nearest one of those that something does."""
    near = nearest(name, known)
    if near:
        return f"{path} is no setting. The nearest is '{near}': write that, or remove the line."
    return f"{path} is no setting. Remove it; docs/settings.md has all settings."


def nearest(word: str, known: Iterable[str]) -> str:
    """The one of `known` that a word nearly is, or that people call so; "" when there is none."""
    names = [str(name) for name in known]
    plain = word.lower().replace("-", "_")
    if OTHER_WORDS.get(plain) in names:
        return OTHER_WORDS[plain]
    return next(iter(difflib.get_close_matches(plain, names, n=1, cutoff=0.6)), "")


def shown(value: object, *, secret: bool = False) -> str:
    """A value in a sentence: `'text'`, or as JSON; cut where it is long, and left out where it is a secret."""
    if secret:
        return "something else"
    text = f"'{value}'" if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…"


def _of_value(path: str, option: Mapping[str, Any], value: object, *, secret: bool) -> Iterator[str]:
    kind = option.get("type", "str")
    if not _fits(kind, value):
        yield f"{path} is {shown(value, secret=secret)}, but must be {_CONVERT[kind][1]}."
        return
    if kind == "list":
        for number, item in enumerate(value if isinstance(value, list) else []):
            if item is None and option.get("elements") != "str":
                yield f"{path}[{number}] is null: nothing stands behind its dash. Give it a value, or remove it."
            elif option.get("elements") in _CONVERT and not _fits(option["elements"], item):
                wanted = _CONVERT[option["elements"]][1]
                yield f"{path}[{number}] is {shown(item, secret=secret)}, but must be {wanted}."
            elif isinstance(item, Mapping) and "options" in option:
                yield from faults(option["options"], item, f"{path}[{number}].", secret=secret)
            else:
                yield from _choice(f"{path}[{number}]", option, item, secret=secret)
        if not isinstance(value, list):
            for item in check_type_list(value):
                yield from _choice(path, option, item, secret=secret)
    elif isinstance(value, Mapping) and "options" in option:
        yield from faults(option["options"], value, f"{path}.", secret=secret)
    elif kind == "str":
        yield from _choice(path, option, value, secret=secret)


def _fits(kind: str, value: object) -> bool:
    if kind not in _CONVERT:
        return True  # texts are looked at in setting_texts.py, and `raw` where it is given its one form
    if kind in ("int", "float") and isinstance(value, bool):
        return False
    if kind in ("dict", "list") and isinstance(value, bool):
        return False
    if kind == "dict" and isinstance(value, str):
        return False  # the validator would take "a=b" for a mapping
    try:
        _CONVERT[kind][0](value)
    except (TypeError, ValueError):
        return False
    return True


def _choice(path: str, option: Mapping[str, Any], value: object, *, secret: bool) -> Iterator[str]:
    choices = option.get("choices")
    if not choices or value in choices or not isinstance(value, str):
        return
    near = nearest(value, choices)
    hint = f" The nearest is '{near}'." if near else ""
    yield f"{path} is {shown(value, secret=secret)}, but must be one of {', '.join(map(str, choices))}.{hint}"
