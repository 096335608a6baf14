"""Environment files, read in the same way as systemd reads them."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

from slipway.base.errors import RefusedError
from slipway.base.settings import Settings

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


def parse(text: str, source: str = "environment file") -> dict[str, str]:
    r"""Read `KEY=value` lines: `#` and `;` comments, bare, 'single' or "double" quoted values.

    Inside double quotes `"`, `\`, `$` and a backtick are escaped with a backslash. Values of several lines are not
    supported, as Ansible does not write any. RefusedError names the line, but never its value: that may be a secret.
    """
    values: dict[str, str] = {}
    for number, raw in enumerate(text.split("\n"), start=1):  # not splitlines(): a carriage return is part of a value
        line = raw.strip()
        if not line or line[0] in "#;":
            continue
        name, separator, value = line.partition("=")
        if not separator or not _NAME.fullmatch(name.strip()):
            raise RefusedError(f"{source}, line {number}: not of the form NAME=value.")
        values[name.strip()] = _unquote(value.strip(), f"{source}, line {number}")
    return values


def _unquote(value: str, where: str) -> str:
    if value[:1] not in ('"', "'"):
        return _ESCAPED.sub(r"\1", value)
    quote, body = value[0], value[1:]
    if quote == "'":
        if not body.endswith("'") or "'" in body[:-1]:
            raise RefusedError(f"{where}: the quote is not closed.")
        return body[:-1]
    if not re.fullmatch(r'(?:[^"\\]|\\.)*"', body):
        raise RefusedError(f"{where}: the quote is not closed.")
    return re.sub(r'\\(["\\$`])', r"\1", body[:-1])


def render(values: dict[str, str]) -> str:
    r"""The inverse of `parse`: one double-quoted line per variable, in the given order."""
    return "".join(f'{name}="{_quote(value)}"\n' for name, value in values.items())


def _quote(value: str) -> str:
    if "\n" in value:
        raise RefusedError("An environment variable has a line break in its value. Encode it, for example as base64.")
    return re.sub(r'(["\\$`])', r"\\\1", value)


def read(path: Path) -> dict[str, str]:
    """The variables of the file `path`; RefusedError when it is missing or malformed."""
    try:
        return parse(path.read_bytes().decode(), str(path))
    except FileNotFoundError:
        raise RefusedError(f"{path} is missing. Run site.yml to write it.") from None


def of_migrations(settings: Settings) -> dict[str, str]:
    """The environment of alembic: that of the app, overridden by the values for the migration role."""
    values = read(settings.env_file)
    if settings.migrate_env_file.exists():
        values |= read(settings.migrate_env_file)
    return values


def all_of(settings: Settings) -> dict[str, str]:
    """Every variable of an app, to be kept out of messages; as many as can be read."""
    found: dict[str, str] = dict(settings.build_env)
    for path in (settings.env_file, settings.migrate_env_file):
        with contextlib.suppress(RefusedError, OSError, ValueError):
            found |= {f"{name} in {path.name}" if name in found else name: value for name, value in read(path).items()}
    return found


def missing(values: dict[str, str], required: list[str]) -> list[str]:
    """The required names that are not set or empty, in the order of `required`."""
    return [name for name in required if not values.get(name)]
