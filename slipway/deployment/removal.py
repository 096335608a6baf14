"""Takes an app away from its host: first what serves it, its data only on demand, after a dump of its database.

Both can be given again after an interruption: each step looks at what is there. The settings file goes last, as it is
what says that the app is here.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from slipway.base import files, process
from slipway.base import settings as config
from slipway.base.errors import FailedError, RefusedError
from slipway.deployment import lock
from slipway.schema import database, mariadb

_SECONDS = 120.0  # for systemd to stop all of an app's units: a worker may have a request under way
_DUMP_SECONDS = 6 * 3600.0
_ACCOUNTS = ("", "_build", "_migrate")
_ROLES = ("", "_migrate", "_owner")
# What stands behind the name in a unit of somebody else's that is called like the app, such as shop.service.
_KINDS = ("service", "socket", "timer", "target", "path", "mount", "slice")
_PSQL = ("psql", "--no-psqlrc", "--set=ON_ERROR_STOP=1")
CLUSTERS = Path("/etc/postgresql")
MARIADB = Path("/etc/mysql/mariadb.conf.d/90-slipway.cnf")  # there where site.yml has installed it
_MARIADB = ("--no-defaults", "--user=root", f"--socket={mariadb.SOCKET}")
_SQLITE = b"SQLite format 3\0"


@dataclass(frozen=True)
class Places:
    """Where an app has its files. `top` is the host's root."""

    app: str
    top: Path = Path("/")

    @property
    def settings(self) -> Path:
        return self.top / f"etc/slipway/{self.app}.toml"

    @property
    def root(self) -> Path:
        return self.top / f"srv/{self.app}"

    @property
    def data(self) -> Path:
        return self.top / f"var/lib/{self.app}"

    @property
    def backups(self) -> Path:
        return self.top / f"var/backups/slipway/{self.app}"

    @property
    def secrets(self) -> Path:
        """The values that the host has made."""
        return self.top / f"etc/slipway/{self.app}.generated.env"

    @property
    def passwords(self) -> Path:
        """Those of its database, which this host has for others."""
        return self.top / f"etc/slipway/{self.app}.database"

    @property
    def units(self) -> Path:
        return self.top / "etc/systemd/system"

    def serving(self) -> list[Path]:
        """What goes when the app is absent, the settings last."""
        kept = {self.secrets, self.passwords, self.settings}
        return [
            *self._units(),
            *sorted((self.root / "slots").glob("*/*")),
            self.root / "live",
            self.root / "deployment.json",
            self.top / f"run/slipway/{self.app}.standby.json",
            self.top / f"etc/{self.app}",
            self.top / f"etc/nginx/{self.app}.htpasswd",
            self.top / f"etc/redis/slipway-{self.app}.conf",
            self.top / f"etc/ssl/slipway/{self.app}",
            self.top / f"var/lib/slipway/certificates/{self.app}",
            self.top / f"etc/tmpfiles.d/slipway-{self.app}.conf",
            *sorted(path for path in (self.top / "etc/slipway").glob(f"{self.app}.*") if path not in kept),
            self.settings,
        ]

    def keeping(self) -> list[Path]:
        """What goes when the app is purged."""
        return [
            self.root,
            self.data,
            self.top / f"var/lib/{self.app}.redis",
            self.top / f"var/cache/slipway/{self.app}",
            *sorted((self.top / "var/log/nginx").glob(f"{self.app}.access.log*")),
            self.secrets,
            self.passwords,
            self.top / f"etc/sysusers.d/slipway-{self.app}.conf",
        ]

    def _units(self) -> list[Path]:
        """Unit files, drop-ins and what starts them at boot."""
        found = [path for path in (*self.units.glob("*"), *self.units.glob("*.wants/*")) if self.is_unit(path.name)]
        return sorted(found, key=lambda path: (path.parent == self.units, path.name))

    def is_unit(self, name: str) -> bool:
        """Whether a unit is the app's: its slots (shop@blue), its processes (shop.worker@blue), and our own for it."""
        own = ("recover@", "certificate@", "redis@")
        if name.startswith((f"{self.app}@", *(f"slipway-{word}{self.app}." for word in own))):
            return True
        if name.startswith((f"slipway-standby-{self.app}.", f"slipway-guard-{self.app}.")):
            return True
        # A job may be called like a kind of unit: shop.path.timer is the app's, and shop.path is not.
        part = name.removeprefix(f"{self.app}.")
        return part != name and part.removesuffix(".d") not in _KINDS


def is_ours(app: str) -> bool:
    """Whether the account of that name is one that site.yml has made for an app."""
    with contextlib.suppress(KeyError):
        return pwd.getpwnam(app).pw_gecos == f"runs {app}"
    return False


def remove(app: str, places: Places | None = None) -> list[str]:
    """Stop the app, and take away all but its data; the paths that are gone. LockedError while it is being deployed."""
    config.check_app_name(app)
    places = places or Places(app)
    found = [path for path in places.serving() if os.path.lexists(path)]
    if not found and not is_ours(app) and not places.passwords.exists():
        return []
    with _alone(app, places):
        _stop(places)
        _lock_out(app)
        for path in found:
            _delete(path)
        if found:
            process.run(["systemctl", "daemon-reload"])
    return [str(path) for path in found]


def purge(app: str, places: Places | None = None) -> tuple[list[str], list[str]]:
    """Take the app away with its data; what was dumped or kept before, and what is gone.

    RefusedError when nothing of that name is an app of ours; FailedError, and nothing is deleted, without a dump.
    """
    config.check_app_name(app)
    places = places or Places(app)
    if not is_ours(app) and not places.settings.exists() and not places.passwords.exists():
        raise RefusedError(f"'{app}' is no app of this host, so there is nothing to purge. Type the name of one.")
    gone = remove(app, places)
    stamp = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    kept = [str(path) for path in _keep(places, stamp)]
    _drop(app)
    for path in places.keeping():
        if os.path.lexists(path):
            _delete(path)
            gone.append(str(path))
    for suffix in _ACCOUNTS:
        with contextlib.suppress(KeyError):
            pwd.getpwnam(f"{app}{suffix}")
            process.run(["userdel", f"{app}{suffix}"])
    return kept, gone


@contextlib.contextmanager
def _alone(app: str, places: Places) -> Iterator[None]:
    """Hold the app's lock; LockedError while somebody's deployment is open."""
    path = config.RUN_DIRECTORY / f"{app}.lock" if places.top == Path("/") else places.top / f"run/slipway/{app}.lock"
    with lock.hold(path, app) as held:
        lease = held.lease()
        if lease is not None and lease.is_held_against("", (), lock.clock()):
            raise lock.busy(app, path, lease)
        yield
    path.unlink(missing_ok=True)


def _stop(places: Places) -> None:
    """Stop every unit of the app, timers and sockets first, so that nothing is started again."""
    patterns = [f"{places.app}@*", f"{places.app}.*", f"slipway-*{places.app}.*"]
    shown = process.run(["systemctl", "list-units", "--all", "--plain", "--no-legend", "--full", *patterns]).stdout
    units = [line.split()[0] for line in shown.splitlines() if line.split()]
    mine = sorted(unit for unit in units if places.is_unit(unit))
    for kind in (".timer", ".socket", ".service"):
        chosen = [unit for unit in mine if unit.endswith(kind)]
        if not chosen:
            continue
        with contextlib.suppress(FailedError):  # a service can ask for more time again and again
            process.run(["systemctl", "stop", *chosen], timeout=_SECONDS)
        process.run(["systemctl", "kill", "--signal=SIGKILL", *chosen])
        process.run(["systemctl", "reset-failed", *chosen])


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _keep(places: Places, stamp: str) -> list[Path]:
    """Put the databases, earlier dumps, and the secrets that they were written with, aside; for root alone."""
    app, target = places.app, places.backups
    target.mkdir(mode=0o700, parents=True, exist_ok=True)
    kept = []
    if _has_postgresql(app):
        kept.append(_dump(target / f"{app}-{stamp}.dump", ["pg_dump", "--format=custom", app], "postgres"))
    if _has_mariadb(app):
        command = ["mariadb-dump", *_MARIADB, "--single-transaction", "--routines", "--databases", app]
        kept.append(_dump(target / f"{app}-{stamp}.sql", command, None))
    for number, path in enumerate(_sqlite_files(places.data)):
        kept.append(_copy_sqlite(path, target / f"{app}-{stamp}-{number}-{path.name}"))
    for path in (*sorted((places.root / "backups").glob("*.dump")), places.secrets):
        if path.exists():
            # Dumps have their time in their names; the secrets of an app that was purged before belong to its dumps.
            copy = target / (f"{path.name}-{stamp}" if path == places.secrets else path.name)
            descriptor = os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
            with os.fdopen(descriptor, "wb") as file, path.open("rb") as source:
                shutil.copyfileobj(source, file)
            kept.append(copy)
    files.sync_directory(target)
    return kept


def _has_postgresql(app: str) -> bool:
    """Whether the host's own PostgreSQL has the app's database; FailedError when it does not answer."""
    return _has(f"SELECT 1 FROM pg_database WHERE datname = '{app}'")  # noqa: S608  # the name of an app needs no quotes


def _has(query: str) -> bool:
    if not database.PROGRAMS.exists() or not any(CLUSTERS.glob("*/*")):
        return False
    return _asked([*_PSQL, "--tuples-only", "--no-align", f"--command={query}"], "postgres").strip() == "1"


def _sql(*statements: str) -> None:
    _asked([*_PSQL, "--quiet", *(f"--command={statement}" for statement in statements)], "postgres")


def _has_mariadb(app: str) -> bool:
    """Whether the host's own MariaDB has the app's database; FailedError when it does not answer."""
    return app in _told_mariadb("SHOW DATABASES").split()


def _told_mariadb(statements: str) -> str:
    """What MariaDB answers to root; "" where the host has none that Slipway has installed."""
    if not MARIADB.exists() or shutil.which("mariadbd", path=process.PATH) is None:
        return ""
    return _asked(["mariadb", *_MARIADB, "--batch", "--skip-column-names", f"--execute={statements}"], None)


def _asked(command: list[str], user: str | None) -> str:
    done = process.run(command, user=user, timeout=60)
    if done.returncode != 0:
        raise FailedError(
            f"{command[0]} does not answer, so there would be no dump. Nothing of its data was deleted.",
            process.tail(done.stderr),
        )
    return done.stdout


def _dump(target: Path, command: list[str], user: str | None) -> Path:
    """Write a dump, complete or not at all."""
    partial = files.unfinished(target)
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with os.fdopen(os.open(partial, flags, 0o600), "wb") as file:
            done = process.run(command, user=user, output=file, timeout=_DUMP_SECONDS)
            os.fsync(file.fileno())
        if done.returncode != 0 or partial.stat().st_size == 0:
            raise FailedError(
                "The database could not be dumped. Nothing of its data was deleted.", process.tail(done.stderr)
            )
        partial.rename(target)
    finally:
        partial.unlink(missing_ok=True)
    return target


def _sqlite_files(data: Path) -> list[Path]:
    """The databases of SQLite in the app's data directory, whose links nobody follows."""
    found = []
    for directory, _, names in os.walk(data):
        for name in names:
            path = Path(directory) / name
            if path.is_symlink() or not path.is_file():
                continue
            with path.open("rb") as file:
                if file.read(len(_SQLITE)) == _SQLITE:
                    found.append(path)
    return sorted(found)


def _copy_sqlite(path: Path, target: Path) -> Path:
    """A whole copy, with what still stands in its write-ahead log."""
    os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600))
    try:
        with (
            contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as source,
            contextlib.closing(sqlite3.connect(target)) as copy,
        ):
            source.backup(copy)  # the name may have any sign, also one that would end a path in a URI
    except sqlite3.Error:
        shutil.copyfile(path, target)  # it is damaged: as it is
    return target


def _drop(app: str) -> None:
    """Drop the databases, which have been dumped, and their roles."""
    if _has_postgresql(app):
        _sql(f'DROP DATABASE "{app}" WITH (FORCE)')
    for role in (f"{app}{end}" for end in _ROLES):
        if _has(f"SELECT 1 FROM pg_roles WHERE rolname = '{role}'"):  # noqa: S608  # as above
            _sql(f'DROP ROLE "{role}"')
    if _has_mariadb(app):
        _told_mariadb(f"DROP DATABASE `{app}`")
    for host in _mariadb_hosts(app):
        _told_mariadb(f"DROP USER '{app}'@'{host}'")


def _mariadb_hosts(app: str) -> list[str]:
    """The hosts, as MariaDB calls them, that the app's user may come from."""
    found = _told_mariadb(f"SELECT Host FROM mysql.global_priv WHERE User = '{app}'")  # noqa: S608  # the name of an app has no quotes
    return found.split()


def _lock_out(app: str) -> None:
    """Take the right to log in from the app's roles; site.yml gives it back when the app is present."""
    for role in (f"{app}{end}" for end in _ROLES):
        if _has(f"SELECT 1 FROM pg_roles WHERE rolname = '{role}' AND rolcanlogin"):  # noqa: S608  # as above
            _sql(f'ALTER ROLE "{role}" NOLOGIN')
    for host in _mariadb_hosts(app):
        _told_mariadb(f"ALTER USER '{app}'@'{host}' ACCOUNT LOCK")
