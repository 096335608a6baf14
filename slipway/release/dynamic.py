"""The version of a project that takes it from git: a release has no `.git`, so the build is told what the tag says.

Each tool has a variable for that. A project with a `.git_archival.txt`, which git fills in, needs none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from slipway.base import files
from slipway.records import versions

ARCHIVAL = ".git_archival.txt"

# By a word in what the build requires: the variables that its tool reads, for the project NAME alone where it can.
_VARIABLES = {
    "setuptools-scm": ("SETUPTOOLS_SCM_PRETEND_VERSION_FOR_{name}",),
    "hatch-vcs": ("SETUPTOOLS_SCM_PRETEND_VERSION_FOR_{name}", "SETUPTOOLS_SCM_PRETEND_VERSION"),
    "flit-scm": ("SETUPTOOLS_SCM_PRETEND_VERSION",),
    "vcs-versioning": ("VCS_VERSIONING_PRETEND_VERSION_FOR_{name}",),
    "uv-dynamic-versioning": ("UV_DYNAMIC_VERSIONING_BYPASS",),
    "poetry-dynamic-versioning": ("POETRY_DYNAMIC_VERSIONING_BYPASS",),
    "pdm-backend": ("PDM_BUILD_SCM_VERSION",),
    "pbr": ("PBR_VERSION",),
}
_WITHOUT_ARCHIVAL = {"pdm-backend", "pbr"}  # they do not read .git_archival.txt
_PRERELEASE = {"0": ".dev", "a": "a", "b": "b", "rc": "rc"}


def variables(release: Path, declared: Mapping[str, Any], tag: str | None, sha: str) -> dict[str, str]:
    """What the build of an unpacked release is told of its version; nothing when it does not take it from git.

    `declared` is the project's pyproject.toml.
    """
    project, tools = declared.get("project", {}), declared.get("tool", {})
    if "version" not in project.get("dynamic", []) and "poetry-dynamic-versioning" not in tools:
        return {}
    required = declared.get("build-system", {}).get("requires", [])
    words = {re.split(r"[^A-Za-z0-9._-]", str(item), maxsplit=1)[0].lower().replace("_", "-") for item in required}
    if _is_filled_in(release / ARCHIVAL):
        words &= _WITHOUT_ARCHIVAL
    name = re.sub(r"[-_.]+", "_", str(project.get("name", ""))).upper()
    told = [variable.format(name=name) for word in sorted(words) for variable in _VARIABLES.get(word, ())]
    return dict.fromkeys(told, version(tag, sha))


def _is_filled_in(archival: Path) -> bool:
    return archival.is_file() and "$Format:" not in files.read_text(archival, inside=archival.parent, errors="replace")


def version(tag: str | None, sha: str) -> str:
    """A tag as a version by PEP 440; without one that is a version, the hash is the local part."""
    found = versions.parse(tag) if tag is not None else None
    if found is None:
        return f"0.0.0+g{sha[:12]}"
    number = ".".join(str(int(part)) for part in re.split(r"[.-]", found.number))
    word, count = _word(found), next((part[1] for part in found.suffix if part[0] == 0), 0)
    if found.is_stable:
        return f"{number}.post{count}" if found.stage > versions.AT else number
    return f"{number}{_PRERELEASE[word]}{count}" if word in _PRERELEASE else f"{number}.dev0+{word}.g{sha[:12]}"


def _word(found: versions.Version) -> str:
    return next((part[2] for part in found.suffix if part[2]), "")
