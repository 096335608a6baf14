"""Commands of an app that are run for its database, in the release: those that migrate, and those that come after."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from slipway.base import confined, process
from slipway.base.errors import FailedError
from slipway.base.settings import Settings
from slipway.records.manifest import Manifest
from slipway.release import store
from slipway.schema import url
from slipway.slot import envfile, slots, surroundings

_TITLE = 80  # characters of a command in the title of its unit
_HERE = ("", "localhost", "127.0.0.1", "::1")


def check(settings: Settings, release: Manifest) -> None:
    """FailedError when the release has not got a program that one of the commands begins with."""
    wanted = {
        "migrate": settings.migrate if settings.migrates == "commands" else [],
        "after_migrate": settings.after_migrate,
    }
    place = settings.release(release.release)
    path = surroundings.surroundings(settings, place)["PATH"]
    for setting, commands in wanted.items():
        for command in commands:
            program = shlex.split(command)[0]
            # A path is one from the directory that it runs in, whatever the engine's own is.
            found = settings.workdir(place) / program if "/" in program else shutil.which(program, path=path)
            if found is None or not Path(found).exists():
                raise FailedError(
                    f"apps.{settings.app}.{setting} has '{command}', but neither the release nor the host has the "
                    f"program '{program}'. Add it to the dependencies of the app, or correct the command."
                )


def after_migrations(settings: Settings, release: Manifest) -> str:
    """Run the commands that come after the migrations, as the app's user; what was done. FailedError if one fails."""
    environment = {**envfile.of_app(settings), "HOME": str(settings.data_directory)}
    for command in settings.after_migrate:
        problem = run(settings, release, shlex.split(command), settings.user, environment)
        if problem is not None:
            raise FailedError(f"'{command}' of after_migrate failed.", problem)
    return f"{len(settings.after_migrate)} command(s) after it"


def run(
    settings: Settings,
    release: Manifest,
    command: Sequence[str],
    user: str,
    environment: Mapping[str, str],
    directory: str = "",
) -> str | None:
    """Run a command in a release, in a unit of its own that can write the app's data; its last lines if it fails.

    `environment` are the variables that it has beside the surroundings of the release, `directory` is that of the
    release in which it runs; "" is the app's.
    """
    place = settings.release(release.release)
    shown = " ".join(" ".join(command[1:3] if command[1:2] == ["-m"] else command).split())
    unit = confined.Unit(
        f"slipway-{settings.app}_migration",
        f"'{shown.removeprefix('-m ')[:_TITLE]}' of {settings.app}",
        user,
        writable=(settings.data_directory, *map(Path, settings.writable_paths)),
        properties=store.alone(settings),
    )
    try:
        result = confined.run(
            unit,
            command,
            environment=surroundings.complete(
                settings, place, {**environment, **slots.identity(release.tag, release.sha)}
            ),
            directory=place / directory if directory else settings.workdir(place),
            timeout=settings.migrate_timeout,
        )
    except FailedError as error:  # a timeout; the caller checks what was done until then
        return f"{error.detail}\n{error}".strip()
    said = process.tail(result.printed)
    if result.signal:
        name = command[2] if command[1:2] == ["-m"] else Path(command[0]).name
        return f"{said}\n{name} was killed by signal {result.signal}".strip()
    return None if result.returncode == 0 else said or f"it ended with the exit code {result.returncode}"


def _host(address: str) -> str:
    """The host in a URL; "" if there is none, or it cannot be read."""
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""


def is_done_elsewhere(settings: Settings) -> bool:
    """Whether the database is on another machine: what one host of a run has done there, the others have not to do."""
    variables = envfile.of_migrations(settings)
    if settings.database == "postgresql":
        connection = url.connection(settings, variables)
        hosts = (connection.get("PGHOSTADDR") or connection.get("PGHOST", "")).split(",")
    elif settings.database == "mysql" and settings.database_url:
        hosts = [_host(variables.get(settings.database_url, ""))]
    elif settings.database == "mysql":
        hosts = [variables.get(settings.database_parts.get("host", ""), "")]
    else:
        hosts = []
    return any(host not in _HERE and not host.startswith("/") for host in hosts)
