"""Whether a release that was built earlier fits the host as it is now: its Python, owners, modes and packages."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from slipway.base import files, process
from slipway.base.errors import FailedError
from slipway.base.settings import Settings
from slipway.records.manifest import Manifest
from slipway.release import kept, locks

_PROVIDED = Path("/opt/slipway/python")  # where site.yml puts the Pythons that uv provides
_PATIENCE = 20.0  # seconds for a look at a release, or for a Python to say its version
_VERSION = "import sys; print(sys.version.split()[0])"


def misfit(settings: Settings, release: Manifest, directory: Path | None = None) -> str:
    """Why the service could not run a release on this host; "" when it can. `directory`: where it is for now.

    A release is judged as the app's user, who must be able to read all of it and to write none of it. After an upgrade
    of the distribution its Python may be gone, or another one.
    """
    directory = directory or settings.release(release.release)
    try:
        return (
            _modes(settings, directory)
            or _interpreter(settings, directory, release)
            or _settings(settings, directory, release)
            or _lock(directory, settings, release)
            or _chosen(settings, release)
        )
    except (OSError, FailedError) as error:
        return f"it cannot be looked at ({getattr(error, 'strerror', None) or error})"


def _settings(settings: Settings, directory: Path, release: Manifest) -> str:
    """What of a release depends on settings that were changed since it was built."""
    if settings.migrates == "alembic" and release.migrates not in ("alembic", ""):
        return "alembic was not asked for its migrations when it was built, as `migrate` was another one"
    return kept.misfit(settings, directory, release.data)


def python_version(settings: Settings) -> str:
    """The version of the host's Python that releases are built with; "" if it does not run."""
    return _ask(settings.python, settings.build_user)


def same_minor(one: str, other: str) -> bool:
    """Whether packages for one version of Python can be used with the other: 3.11.2 and 3.11.9."""
    return one.split(".")[:2] == other.split(".")[:2]


def digest(release: Path, directory: str, named: str = "") -> str:
    """The SHA-256 digest of a release's lock file, in hex; "" without one. `directory` is the app's in the release."""
    found = locks.find(directory, lambda path: (release / path).is_file(), named)
    return hashlib.sha256(files.read_bytes(release / found, inside=release)).hexdigest() if found else ""


def _interpreter(settings: Settings, directory: Path, release: Manifest) -> str:
    """Nothing of the release is run for this: its virtualenv names a Python of the host, and that one is asked."""
    python = (directory / ".venv/bin/python").resolve()
    if python.is_relative_to(settings.releases.resolve()):
        return "its Python is a file of its own, and not the host's"
    found = _ask(python, settings.user)
    if not found:
        return f"its Python {release.python} does not run"
    if release.python and not same_minor(found, release.python):
        return f"it was built with Python {release.python}, and runs {found} now"
    minor = ".".join(found.split(".")[:2])
    if not (directory / f".venv/lib/python{minor}/site-packages").is_dir():
        return "its Python does not find its packages"
    wanted = python_version(settings)
    if wanted and not same_minor(found, wanted):
        return f"it was built with Python {found}, and releases are built with {wanted} now"
    return _other_python(python, settings.python.resolve())


def _other_python(python: Path, wanted: Path) -> str:
    """Two Pythons of uv that are of one minor version are as good as each other, as an upgrade of uv brings another."""
    if python == wanted or (python.is_relative_to(_PROVIDED) and wanted.is_relative_to(_PROVIDED)):
        return ""
    return f"it runs on {python}, and releases are built with {wanted} now"


def _ask(python: Path, user: str) -> str:
    """The version of a Python, which starts without the packages that it has; "" if it does not run."""
    found = process.run([python, "-I", "-S", "-c", _VERSION], user=user, timeout=_PATIENCE)
    return found.stdout.strip() if found.returncode == 0 else ""


def _modes(settings: Settings, directory: Path) -> str:
    """Whether the app's user can read each file, enter each directory, and write neither."""
    readable = ["-type", "d", "!", "(", "-readable", "-executable", ")", "-o", "-type", "f", "!", "-readable"]
    writable = ["-o", "!", "-type", "l", "-writable"] if settings.user not in ("root", settings.build_user) else []
    builders = ["-o", "-user", settings.build_user] if settings.build_user != "root" else []
    found = process.run(
        ["find", ".", "(", *readable, *writable, *builders, ")", "-printf", "%p", "-quit"],
        user=settings.user,
        directory=directory,
        timeout=_PATIENCE,
    )
    if found.returncode == 0 and not found.stdout:
        return ""
    place = found.stdout.removeprefix(".").removeprefix("/") or "its directory"
    return f"{place} has an owner or a mode with which {settings.user} cannot use it, or could change it"


def _lock(release: Path, settings: Settings, built: Manifest) -> str:
    if not built.lock_sha256 or digest(release, settings.directory, settings.lock_file) == built.lock_sha256:
        return ""
    return "its lock file is not the one that it was built from"


def chosen(settings: Settings) -> str:
    """The settings by which a release is built, as a digest; "" of those that every release had once."""
    values = [
        *(settings.directory, settings.lock_file, settings.extras, settings.groups, settings.allow_unpinned),
        *(settings.build, settings.artefacts),
    ]
    return hashlib.sha256(json.dumps(values).encode()).hexdigest() if any(values) else ""


def _chosen(settings: Settings, built: Manifest) -> str:
    return "" if built.built_with == chosen(settings) else "it was built with other settings"
