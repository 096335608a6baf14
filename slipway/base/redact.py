"""What programs print, without the values of the app's variables: a traceback may show a password."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from urllib.parse import unquote

_SHORTEST = 6  # characters: shorter values (true, info, 5432) are words that any text has

# Up to the last @: a password may have any sign that somebody has forgotten to write as %40, %2F or %23.
_URL_PASSWORD = re.compile(r"(\w://[^\s/:@]*:)(?!\d+/)[^\s'\"<>]+(?=@)")

# What is left of such a password where a program takes a part of it for a port, a path or a fragment.
_SHORTEST_PART = 4
_SIGNS = re.compile(r"[#/?@:%&=\[\]\s]+")
_TAKEN_FOR_A_NUMBER = re.compile(
    r"(base 10: |integer value as |port number: |integer value |[Ii]nvalid port[^'\"]*)"
    r"(?P<quote>['\"])(?P<part>.*?)(?P=quote)"
)


def redact(text: str, variables: Mapping[str, str]) -> str:
    """`text` with each value, and each password of a URL in one, replaced by the name of its variable.

    Passwords of other URLs are left out as well.
    """
    for value, name in sorted(_secrets(variables).items(), key=lambda item: -len(item[0])):
        text = text.replace(value, f"[{name}]")
    passwords = [password for value in variables.values() for password in _passwords(value) if password]
    text = _TAKEN_FOR_A_NUMBER.sub(lambda found: _without_part(found, passwords), text)
    return _URL_PASSWORD.sub(r"\1[password]", text)


def _without_part(found: re.Match[str], passwords: Sequence[str]) -> str:
    """An error about a number, without a number that is the begin of a password."""
    is_part = found["part"] and any(password.startswith(found["part"]) for password in passwords)
    return f"{found[1]}[part of a password]" if is_part else found[0]


def _secrets(variables: Mapping[str, str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in variables.items():
        for part in (value, *_passwords(value), *value.splitlines()):
            if len(part) >= _SHORTEST:
                found.setdefault(part, name)
        for password in _passwords(value):
            parts = _SIGNS.split(password)
            for part in parts if len(parts) > 1 else []:
                if len(part) >= _SHORTEST_PART:
                    found.setdefault(part, name)
    return found


def _passwords(value: str) -> list[str]:
    """The password of a URL, as it is written and as it is meant; with a sign that ends it, also the whole of it."""
    _, separator, rest = value.partition("://")
    found = []
    for account, at, _ in (rest.partition("@"), rest.rpartition("@")):
        password = account.partition(":")[2]
        found += [password, unquote(password), password.replace("%", "%%")] if separator and at else []
    return found
