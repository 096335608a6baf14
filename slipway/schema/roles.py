"""Passwords of the roles by which an app reaches the host's own PostgreSQL or MariaDB over TCP."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re

from slipway.base import process
from slipway.base.errors import FailedError
from slipway.base.settings import Settings
from slipway.schema import database, mariadb
from slipway.slot import envfile

_ITERATIONS = 4096  # PostgreSQL's own number; the passwords are random, and too long to be guessed
SALT_BYTES = 16
_VERIFIER = re.compile(r"SCRAM-SHA-256\$([0-9]+):([A-Za-z0-9+/=]+)\$[A-Za-z0-9+/=]+:[A-Za-z0-9+/=]+")
_SOCKET = "/run/postgresql"


def verifier(password: str, salt: bytes, iterations: int = _ITERATIONS) -> str:
    """What PostgreSQL keeps of a password, so that the password itself is in no statement and no log of it."""
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    client = hmac.digest(salted, b"Client Key", "sha256")
    parts = (salt, hashlib.sha256(client).digest(), hmac.digest(salted, b"Server Key", "sha256"))
    encoded, stored, server = (base64.b64encode(part).decode() for part in parts)
    return f"SCRAM-SHA-256${iterations}:{encoded}${stored}:{server}"


def is_of(password: str, kept: str) -> bool:
    """Whether PostgreSQL keeps this password."""
    match = _VERIFIER.fullmatch(kept)
    return match is not None and hmac.compare_digest(
        verifier(password, base64.b64decode(match[2]), int(match[1])), kept
    )


def statement(role: str, password: str, salt: bytes) -> str:
    """The SQL that gives a role a password. Names of apps, and with them of roles, have no quotes."""
    return f"ALTER ROLE \"{role}\" PASSWORD '{verifier(password, salt)}';"


def give_passwords(settings: Settings) -> list[str]:
    """Give the roles of the database the passwords that the host has made; the roles that had another one, or none."""
    if not settings.database_passwords:
        return []
    known = envfile.of_host(settings)
    wanted = {role: known[name] for role, name in settings.database_passwords.items()}
    if settings.database == "mysql":
        return mariadb.give_passwords(wanted)
    listed = ", ".join(f"'{role}'" for role in wanted)  # names of apps, and with them of roles, have no quotes
    rows = _ask(f"SELECT rolname, rolpassword FROM pg_authid WHERE rolname IN ({listed})").splitlines()  # noqa: S608
    kept = dict(row.split("\t", 1) for row in rows)
    if absent := [role for role in wanted if role not in kept]:
        raise FailedError(f"PostgreSQL has no role {absent[0]}. Run site.yml.")
    other = [role for role, password in wanted.items() if not is_of(password, kept[role])]
    if other:
        _ask("".join(statement(role, wanted[role], os.urandom(SALT_BYTES)) for role in other))
    return other


def _ask(statements: str) -> str:
    command = [database.psql(), "--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--field-separator=\t"]
    result = process.run(
        [*command, "--set=ON_ERROR_STOP=1", "--file=-"],
        user="postgres",
        environment={"PGHOST": _SOCKET, "PGDATABASE": "postgres", "PGAPPNAME": "slipway", "PGCONNECT_TIMEOUT": "10"},
        given=statements,
        timeout=30,
    )
    if result.returncode != 0:
        raise FailedError("PostgreSQL does not take the passwords of the app's roles.", process.tail(result.stderr, 5))
    return result.stdout
