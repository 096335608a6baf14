"""What programs print, without the values of the app's variables: a traceback may show a password."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import unquote

_SHORTEST = 6  # characters: shorter values (true, info, 5432) are words that any text has

_URL_PASSWORD = re.compile(r"(\w://[^\s/:@]*:)[^\s/@]+(?=@)")


def redact(text: str, variables: Mapping[str, str]) -> str:
    """`text` with each value, and each password of a URL in one, replaced by the name of its variable.

    Passwords of other URLs are left out as well.
    """
    for value, name in sorted(_secrets(variables).items(), key=lambda item: -len(item[0])):
        text = text.replace(value, f"[{name}]")
    return _URL_PASSWORD.sub(r"\1[password]", text)


def _secrets(variables: Mapping[str, str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in variables.items():
        for part in (value, *_passwords(value), *value.splitlines()):
            if len(part) >= _SHORTEST:
                found.setdefault(part, name)
    return found


def _passwords(value: str) -> list[str]:
    """The password of a URL, as it is written and as it is meant."""
    _, separator, rest = value.partition("://")
    account, at, _ = rest.partition("@")
    password = account.partition(":")[2]
    return [password, unquote(password)] if separator and at else []
