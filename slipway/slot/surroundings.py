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

SRC = "src"  # the directory of projects that keep their packages apart from everything else


def surroundings(settings: Settings, release: Path, at: Path | None = None) -> dict[str, str]:
    """The variables for a release in a directory; `at` is the path by which it runs, if that is another one."""
    place = at or release
    workdir = settings.workdir(place)
    module = settings.module or _recorded(release)
    paths = [workdir, *([workdir / SRC] if is_in_src(settings.workdir(release), release, module) else [])]
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


def is_in_src(workdir: Path, release: Path, module: str) -> bool:
    """Whether a module such as `shop.main:app` is below `src/`, and would not be found without that directory."""
    top = module.partition(":")[0].partition(".")[0]
    if not top or _has(workdir, top):
        return False
    return _has(workdir / SRC, top) and not any(_has(place, top) for place in packages(release))


def packages(release: Path) -> list[Path]:
    """The directories that a release's packages are installed in."""
    return sorted(release.glob(".venv/lib/python*/site-packages"))


def _has(directory: Path, name: str) -> bool:
    return (directory / name).is_dir() or (directory / f"{name}.py").is_file()


def _recorded(release: Path) -> str:
    """The module that was found when the release was built."""
    made = manifest.read(release)
    return str(made.module) if made else ""
