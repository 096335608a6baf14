"""Copies of databases that are files, or have no pgBackRest: each of one moment, for restic to take with the files.

SQLite's are copied by SQLite itself as the user of the app, since what the app has written is not root's to open.
MariaDB's are dumped. The copies are root's alone, and gone when the snapshot is made.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from slipway.backup import settings as backups
from slipway.base import process
from slipway.base import settings as config
from slipway.base.errors import FailedError

PLACE = backups.STATE / "copies"
_SECONDS = 3600.0
_MARIADB_SOCKET = Path("/run/mysqld/mysqld.sock")

# Run as the app's user, with directories as arguments: the databases below them, each ended by a null byte.
_FIND = r"""
import os, sys
for top in sys.argv[1:]:
    for directory, below, names in os.walk(top):
        below.sort()
        for name in sorted(names):
            path = os.path.join(directory, name)
            if os.path.isfile(path) and not os.path.islink(path):
                with open(path, "rb") as file:
                    if file.read(16) == b"SQLite format 3\0":
                        sys.stdout.buffer.write(os.fsencode(path) + b"\0")
"""
# Run as the app's user, with a database as its argument: a whole copy of it on the standard output.
_COPY = r"""
import contextlib, shutil, sqlite3, sys, tempfile, urllib.parse
with tempfile.NamedTemporaryFile(dir="/var/tmp") as kept:
    uri = "file:" + urllib.parse.quote(sys.argv[1]) + "?mode=ro"
    with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=60)) as source:
        with contextlib.closing(sqlite3.connect(kept.name)) as copy:
            source.backup(copy)
    with open(kept.name, "rb") as file:
        shutil.copyfileobj(file, sys.stdout.buffer)
"""


@dataclass
class Copies:
    """What was copied, and what could not be: a sentence each."""

    made: list[Path] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


@contextlib.contextmanager
def made(apps: Iterable[config.Settings]) -> Iterator[Copies]:
    """The copies of the apps' databases, for as long as the block runs."""
    shutil.rmtree(PLACE, ignore_errors=True)  # of a backup that was killed
    PLACE.mkdir(mode=0o700, parents=True)
    try:
        copies = Copies()
        for app in apps:
            _sqlite(app, copies)
            _mariadb(app, copies)
        yield copies
    finally:
        shutil.rmtree(PLACE, ignore_errors=True)


def _sqlite(app: config.Settings, copies: Copies) -> None:
    directories = [str(path) for path in (app.data_directory, *map(Path, app.writable_paths)) if path.is_dir()]
    found = process.run([sys.executable, "-I", "-c", _FIND, *directories], user=app.user, timeout=_SECONDS)
    if found.returncode != 0:
        copies.problems.append(f"What {app.app} has written could not be looked through for databases of SQLite.")
    for number, path in enumerate(filter(None, found.stdout.split("\0"))):
        target = PLACE / f"{app.app}-{number}-{Path(path).name}"
        command = [sys.executable, "-I", "-c", _COPY, path]
        _write(target, command, app.user, f"The database of SQLite {path} of {app.app}", copies)


def _mariadb(app: config.Settings, copies: Copies) -> None:
    if not _MARIADB_SOCKET.exists() or app.database != "mysql":
        return
    query = f"SELECT 1 FROM information_schema.schemata WHERE schema_name = '{app.app}'"  # noqa: S608  # a name has no quotes
    here = process.run(["mariadb", "--batch", "--skip-column-names", f"--execute={query}"], timeout=60)
    if here.returncode == 0 and not here.stdout.strip():
        return  # the app's database is on another server
    dump = ["mariadb-dump", "--single-transaction", "--routines", "--databases", app.app]
    _write(PLACE / f"{app.app}.mariadb.sql", dump, None, f"The database of MariaDB of {app.app}", copies)


def _write(target: Path, command: list[str], user: str | None, what: str, copies: Copies) -> None:
    with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as file:
        try:
            done = process.run(command, user=user, timeout=_SECONDS, output=file)
            why = next(iter(done.stderr.strip().splitlines()[-1:]), f"exit code {done.returncode}")
            failed = done.returncode != 0
        except FailedError as error:
            why, failed = str(error), True
    if failed:
        copies.problems.append(f"{what} could not be copied ({why.rstrip('.')}).")
        target.unlink()
    else:
        copies.made.append(target)
