"""Environment files, read in the same way as systemd reads them. A shell reads what is written here alike."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from pathlib import Path

from slipway.base import files
from slipway.base.errors import RefusedError
from slipway.base.settings import Settings

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

# Where a text has one of the host's own secrets.
_HOLE = re.compile(r"\{([A-Z_]+)\}")

# Variables that Slipway itself sets, whose values are words and paths that messages need.
PUBLIC = frozenset(("ENV", "SSL_CERT_FILE", "STATE_DIRECTORY"))

# One entry: a comment, or a name with its value, which may be of several lines where it stands in quotes.
_ENTRY = re.compile(
    r"""
    [^\S\n]* (?:
        [#;] [^\n]*
      | (?P<name>[^=\n]*?) [^\S\n]* = [^\S\n]*
        (?: "(?P<double>(?:[^"\\]|\\.)*)" | '(?P<single>[^']*)' | (?P<bare>(?!["'])(?:[^\n\\]|\\.)*) )
    )? [^\S\n]* (?:\n|\Z)
    """,
    re.DOTALL | re.VERBOSE,
)
_IN_DOUBLE_QUOTES = re.compile(r'\\(["\\$`\n])')
_BARE = re.compile(r"\\(.)", re.DOTALL)


def parse(text: str, source: str = "environment file") -> dict[str, str]:
    r"""Read `KEY=value`: `#` and `;` comments, bare, 'single' or "double" quoted values.

    A value in quotes may have several lines. Inside double quotes `"`, `\`, `$` and a backtick are escaped with a
    backslash. RefusedError names the line, but never its value: that may be a secret.
    """
    values: dict[str, str] = {}
    position = 0
    while position < len(text):
        where = f"{source}, line {text.count(chr(10), 0, position) + 1}"
        entry = _ENTRY.match(text, position)
        if entry is None:
            assigned = "=" in text[position:].partition("\n")[0]
            what = "the quote is not closed, or something follows it" if assigned else "not of the form NAME=value"
            raise RefusedError(f"{where}: {what}.")
        if (name := entry["name"]) is not None:
            if not NAME.fullmatch(name):
                raise RefusedError(f"{where}: not of the form NAME=value.")
            values[name] = _value(entry)
        position = entry.end()
    return values


def _value(entry: re.Match[str]) -> str:
    if entry["single"] is not None:
        return entry["single"]
    if entry["double"] is not None:
        return _IN_DOUBLE_QUOTES.sub(_unescaped, entry["double"])
    return _BARE.sub(_unescaped, entry["bare"].strip())


def _unescaped(match: re.Match[str]) -> str:
    return match[1].replace("\n", "")  # an escaped line break continues the line


def render(values: Mapping[str, str]) -> str:
    """The inverse of `parse`: one double-quoted value per variable, in the given order."""
    return "".join(f'{name}="{_quote(value)}"\n' for name, value in values.items())


def _quote(value: str) -> str:
    return re.sub(r'(["\\$`])', r"\\\1", value)


def read(path: Path) -> dict[str, str]:
    """The variables of the file `path`; RefusedError when it is missing or malformed."""
    try:
        return parse(files.read_bytes(path).decode(), str(path))
    except FileNotFoundError:
        raise RefusedError(f"{path} is missing. Run site.yml to write it.") from None
    except UnicodeDecodeError:
        raise RefusedError(f"{path} is not in UTF-8. Run site.yml to write it.") from None


def previous(name: str) -> str:
    """The name of the variable with the value that a rotated one had before."""
    return f"{name}_PREVIOUS"


def of_host(settings: Settings) -> dict[str, str]:
    """The values that were made on the host, also those that the app does not ask for any more."""
    return read(settings.generated_env_file) if settings.generated_env_file.exists() else {}


def of_app(settings: Settings) -> dict[str, str]:
    """The environment of the app: what its inventory says, and the values made on the host that it asks for."""
    asked = {wanted for name in settings.generated_env for wanted in (name, previous(name))}
    known = of_host(settings)
    return {
        **{name: value for name, value in known.items() if name in asked},
        **filled(settings.filled_env, known),
        **read(settings.env_file),
    }


def filled(variables: Mapping[str, str], known: Mapping[str, str]) -> dict[str, str]:
    """The variables with the passwords that the host has made in place of their names in braces.

    Those whose password is not there yet are left out: what lacks them says so.
    """
    found = {}
    for name, text in variables.items():
        wanted = _HOLE.findall(text)
        if all(known.get(secret) for secret in wanted):
            found[name] = _HOLE.sub(lambda hole: known[hole[1]], text)
    return found


def of_migrations(settings: Settings) -> dict[str, str]:
    """The environment of alembic: that of the app, overridden by the values for the migration role."""
    values = of_app(settings) | filled(settings.filled_migrate_env, of_host(settings))
    if settings.migrate_env_file.exists():
        values |= read(settings.migrate_env_file)
    return values


def of_builds(settings: Settings) -> dict[str, str]:
    """The variables of what builds releases, which no other file has."""
    return read(settings.build_env_file)


def all_of(settings: Settings) -> dict[str, str]:
    """The variables of an app whose values are to be kept out of messages; as many as can be read."""
    found: dict[str, str] = {}
    sources = (settings.build_env_file, settings.generated_env_file, settings.env_file, settings.migrate_env_file)
    for path in sources:
        with contextlib.suppress(RefusedError, OSError, ValueError):
            found |= {f"{name} in {path.name}" if name in found else name: value for name, value in read(path).items()}
    # Nor is the word for the environment one, whatever the variable is called.
    return {
        name: value for name, value in found.items() if name.partition(" ")[0] not in PUBLIC and value != "production"
    }


def missing(values: dict[str, str], required: list[str]) -> list[str]:
    """The required names that are not set or empty, in the order of `required`."""
    return [name for name in required if not values.get(name)]
