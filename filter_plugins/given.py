"""What is passed on the command line (-e version=v1.2.0 -e force=true): in its types, and what is wrong with it.

Nothing else of the playbooks looks at the form of these values.
"""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ansible import context
from ansible.parsing.dataloader import DataLoader
from ansible.utils.vars import load_extra_vars

FLAGS = ("force", "allow_data_loss", "adopt", "yes", "confirm", "full")
NAMES = ("app", "version", "without", "state", "hold", "secret", "purge", "from", "command", *FLAGS)
# Names of the inventory, which are no misspelling of these.
OTHERS = ("apps", "app_defaults", "environments", "more_environments", "all")
# What people call a version elsewhere.
OTHER_WORDS = {"tag": "version", "ref": "version", "release": "version", "commit": "version", "revision": "version"}

_TRUE = ("true", "yes", "on", "1", "t", "y")
_FALSE = ("false", "no", "off", "0", "f", "n")


def flag(value: Any) -> bool:
    """Whether a flag is set; `faults` refuses what is neither a yes nor a no."""
    return _word(value) in _TRUE


def _word(value: Any) -> str:
    return "" if isinstance(value, float) else str(value).strip().lower()


def version(value: Any) -> str:
    """A version without blanks around it."""
    return str(value).strip()


def command(value: Any) -> str:
    """The command that run.yml is asked for, as it was typed.

    Of -e command='python -m app' the shell takes the quotes away, and Ansible would read no more than the first word.
    """
    typed = _typed_command()
    if typed is None:
        return str(value).strip()
    try:
        words = shlex.split(typed)
    except ValueError:
        return typed
    return words[0].strip() if len(words) == 1 else typed  # in two pairs of quotes


def _typed_command() -> str | None:
    texts = [str(text) for text in context.CLIARGS.get("extra_vars", ())]
    return next((text.removeprefix("command=").strip() for text in texts if text.startswith("command=")), None)


def faults(variables: Mapping[str, Any], passed: Mapping[str, Any] | None = None) -> list[str]:
    """What is wrong with those of a host's variables that the command line has, a sentence each.

    `passed` are the variables of the command line itself.
    """
    given = {name: variables[name] for name in NAMES if name in variables}
    return [*_unknown(_passed() if passed is None else passed), *_version(given), *_flags(given)]


def _passed() -> Mapping[str, Any]:
    """What was passed with -e; Ansible has read it before, and keeps it."""
    found: Mapping[str, Any] = load_extra_vars(DataLoader())
    return found


def _unknown(passed: Mapping[str, Any]) -> Iterator[str]:
    """Names that nothing reads, and that are nearly one which is read: the run would do something else."""
    for name in passed:
        if name == "_raw_params" and _typed_command() is not None:
            continue  # words of the command
        if name == "_raw_params":
            yield "-e has a word without '='. Pass -e NAME=VALUE, such as -e version=v1.2.0."
        elif name not in (*NAMES, *OTHERS) and (meant := _meant(name)):
            yield f"There is no variable '{name}'. Pass -e {meant}=, or leave it out."


def _meant(name: str) -> str:
    word = name.lower().replace("-", "_")
    return OTHER_WORDS.get(word) or next(iter(difflib.get_close_matches(word, NAMES, n=1, cutoff=0.8)), "")


def _version(given: Mapping[str, Any]) -> Iterator[str]:
    if "version" not in given:
        return
    value = given["version"]
    if not isinstance(value, str):
        what = "empty" if value is None else f"{value}, which is no text"
        yield f"version is {what}. Pass a tag, such as -e version=v1.2.0; in a file or in JSON, write it in quotes."
    elif not version(value):
        yield "version is empty. Pass a tag, such as -e version=v1.2.0, or leave it out."
    elif version(value).startswith("-"):
        yield f"version is '{value}', and no tag begins with a dash. Pass a tag, such as -e version=v1.2.0."


def _flags(given: Mapping[str, Any]) -> Iterator[str]:
    for name in FLAGS:
        if name in given and _word(given[name]) not in (*_TRUE, *_FALSE):
            yield f"{name} is '{given[name]}'. Pass -e {name}=true or leave it out."
    if "state" in given and _word(given["state"]) not in (*_TRUE, *_FALSE):
        yield f"state is '{given['state']}'. Pass -e state=on or -e state=off."


class FilterModule:
    """Makes them known to Ansible."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"given_faults": faults, "given_flag": flag, "given_version": version, "given_command": command}
