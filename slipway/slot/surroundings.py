"""Where whatever runs of a release finds its programs and modules: PATH, VIRTUAL_ENV and PYTHONPATH.

The web process, migrations, other processes and `slipway run` all have the same, so that what works in one of them
works in all.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from slipway.base import process
from slipway.base.settings import Settings
from slipway.records import manifest

# Directories that modules may be in beside the app's own, as the command `fastapi` takes them: `src` of projects that
# keep their packages apart from everything else, `app` of some whose files are no package.
SRC = "src"
PLACES = (SRC, "app")
# What a release serves of which nobody has said it: the default before it was found.
MODULE = "app.main:app"


def surroundings(settings: Settings, release: Path, at: Path | None = None) -> dict[str, str]:
    """The variables for a release in a directory; `at` is the path by which it runs, if that is another one."""
    place = at or release
    workdir = settings.workdir(place)
    below = place_of(settings.workdir(release), release, module_of(settings, manifest.read(release)))
    paths = [workdir, *([workdir / below] if below else [])]
    return {
        "PATH": f"{place / '.venv/bin'}:{process.PATH}",
        "VIRTUAL_ENV": str(place / ".venv"),
        "PYTHONPATH": ":".join(map(str, paths)),
    }


def complete(settings: Settings, release: Path, variables: Mapping[str, str], at: Path | None = None) -> dict[str, str]:
    """Variables with the surroundings of a release.

    They win over the surroundings, but the release's programs come first in PATH, and what PYTHONPATH has comes before
    the release's own directories and does not take them away.
    """
    found = surroundings(settings, release, at)
    whole = {**found, **variables}
    if own := variables.get("PATH"):
        whole["PATH"] = f"{found['PATH'].partition(':')[0]}:{own}"
    if own := variables.get("PYTHONPATH"):
        whole["PYTHONPATH"] = f"{own}:{found['PYTHONPATH']}"
    return whole


def module_of(settings: Settings, release: manifest.Manifest | None) -> str:
    """What a release serves: what was found or set when it was built, so that a rollback serves what it was."""
    return (release.module if release else "") or settings.module or MODULE


def place_of(workdir: Path, release: Path, module: str) -> str:
    """The directory of PLACES that a module such as `shop.main:app` is in; "" when it is found without one."""
    top = module.partition(":")[0].partition(".")[0]
    if has(workdir, top) or any(has(place, top) for place in packages(release)):
        return ""
    return next((name for name in PLACES if has(workdir / name, top)), "")


def packages(release: Path) -> list[Path]:
    """The directories that a release's packages are installed in."""
    return sorted(release.glob(".venv/lib/python*/site-packages"))


def has(directory: Path, name: str) -> bool:
    """Whether a directory has a module or a package of that name."""
    return (directory / name).is_dir() or (directory / f"{name}.py").is_file()
