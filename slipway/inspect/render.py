"""A proposal as YAML: a line a setting, its reason behind it."""

from __future__ import annotations

import re
from typing import Any

import yaml

from slipway.inspect.proposal import ORDER, Proposal, Template

WIDTH = 120
LINES = 12
_PLAIN = re.compile(r"^[A-Za-z_./][\w./@+-]*(?: [\w./@+:=-]+)*$")
_WORDS = {"true", "false", "yes", "no", "on", "off", "null", "y", "n", "none"}


def entry(proposal: Proposal) -> str:
    """The entry below `apps:`, and the warnings as comments below it."""
    keys = [key for key in ORDER if key in proposal.lines]
    if len(keys) > LINES and {"environment_variable", "env"} <= set(keys):
        keys.remove("environment_variable")
        proposal.say("env", {proposal.lines.pop("environment_variable"): "production"}, "")
    for key in sorted(proposal.optional):
        if len(keys) > LINES and key in keys:
            keys.remove(key)
    rows = [(f"    {key}: {flow(proposal.lines[key])}", proposal.reasons.get(key, "")) for key in keys]
    lines = ["apps:", f"  {proposal.name}:"]
    for text, reason in rows:
        reason = _in_one_line(reason)
        if not reason:
            lines.append(text)
        elif len(text) + len(reason) + 4 <= WIDTH:
            lines.append(f"{text}  # {reason}")
        else:
            lines += [f"    # {line}" for line in _wrapped(reason)] + [text]
    for warning in proposal.warnings:
        first, *more = _wrapped(_in_one_line(warning))
        lines += [f"# Warning: {first}", *(f"#   {line}" for line in more)]
    return "\n".join(lines) + "\n"


def _in_one_line(text: str) -> str:
    """A comment has names of the repository's files in it, and a terminal may obey what is in them."""
    return "".join(one if one.isprintable() else "?" for one in " ".join(text.split()))


def _wrapped(text: str) -> list[str]:
    lines, line = [], ""
    for word in text.split():
        if line and len(line) + len(word) + 1 > WIDTH - 14:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}".strip()
    return [*lines, line]


def flow(value: Any) -> str:
    """A value on one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_key(key)}: {flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(flow(item) for item in value) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    text = str(value)
    if not isinstance(value, Template) and re.search(r"\{[{%#]", text):
        # Ansible would run what stands there, and it is the repository's.
        return '!unsafe "' + "".join(_escaped(one) for one in text) + '"'
    if (
        _PLAIN.match(text)
        and text.lower() not in _WORDS
        and ": " not in text
        and " #" not in text
        and not text.endswith(":")
    ):
        return text if _is_text(text) else f'"{text}"'
    if text == "none":
        return text
    if '"' in text and "'" not in text and text.isprintable():
        return f"'{text}'"
    return '"' + "".join(_escaped(one) for one in text) + '"'


def _escaped(one: str) -> str:
    if one in '"\\':
        return "\\" + one
    return one if one.isprintable() else f"\\u{ord(one):04x}" if ord(one) < 0x10000 else f"\\U{ord(one):08x}"


def _is_text(text: str) -> bool:
    """Whether YAML reads it as text, also between brackets."""
    try:
        return bool(yaml.safe_load(f"[{text}]") == [text])
    except yaml.YAMLError:
        return False


def _key(key: Any) -> str:
    text = str(key)
    return text if re.fullmatch(r"[A-Za-z_/][\w./-]*", text) and text.lower() not in _WORDS else flow(text)
