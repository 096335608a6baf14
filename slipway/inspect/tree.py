"""The files of a repository, as text: of bounded size, and none that a link leads to outside."""

from __future__ import annotations

import configparser
import json
import os
import subprocess
import tomllib
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from slipway.base.files import decoded

MAX_BYTES = 1_000_000
MAX_LOCK_BYTES = 30_000_000
MAX_FILES = 20_000
_NEVER = {
    ".git",
    ".venv",
    "venv",
    "node_modules",
    "__pycache__",
    ".mypy_cache",
    ".ruff_cache",
    ".pytest_cache",
    "site-packages",
}


class Tree:
    """A directory that is only read. Names are relative to it, with slashes."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        listed = _tracked(self.root)
        self.has_git = listed is not None
        names = _walked(self.root) if listed is None else listed
        # Between braces are the placeholders of a template of which a repository is yet to be made.
        self.template = any("{{" in name for name in names)
        self.files = [name for name in names if "{{" not in name and not _NEVER & set(name.split("/"))][:MAX_FILES]
        self._known = set(self.files)
        self._folders = {str(parent) for name in self.files for parent in PurePosixPath(name).parents} | {"."}

    def has(self, name: str) -> bool:
        return name in self._known

    def has_folder(self, name: str) -> bool:
        return (name.strip("/") or ".") in self._folders

    def named(self, *basenames: str) -> list[str]:
        """The files of these names in any folder, those nearest to the top first."""
        found = [name for name in self.files if name.rpartition("/")[2] in basenames]
        return sorted(found, key=lambda name: (name.count("/"), name))

    def within(self, folder: str) -> list[str]:
        return [name for name in self.files if not folder or name.startswith(f"{folder}/")]

    def text(self, name: str, limit: int = MAX_BYTES) -> str:
        """The content; empty where there is none, where it is too large, and where it lies outside."""
        if name not in self._known:
            return ""
        path = self.root / name
        try:
            real = path.resolve(strict=True)
            if not real.is_relative_to(self.root) or not real.is_file() or real.stat().st_size > limit:
                return ""
            return decoded(real.read_bytes(), "replace")
        except (OSError, RuntimeError):
            return ""

    def toml(self, name: str, limit: int = MAX_BYTES) -> dict[str, Any]:
        try:
            return tomllib.loads(self.text(name, limit))
        except (tomllib.TOMLDecodeError, RecursionError):
            return {}

    def yaml(self, name: str) -> dict[str, Any]:
        try:
            content = yaml.safe_load(self.text(name))
        except (yaml.YAMLError, RecursionError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}

    def json(self, name: str, limit: int = MAX_BYTES) -> dict[str, Any]:
        try:
            content = json.loads(self.text(name, limit))
        except (ValueError, RecursionError):
            return {}
        return content if isinstance(content, dict) else {}

    def ini(self, name: str) -> configparser.ConfigParser:
        parser = configparser.ConfigParser(interpolation=None, strict=False)
        try:
            parser.read_string(self.text(name))
        except configparser.Error:
            return configparser.ConfigParser(interpolation=None)
        return parser


def git(root: Path, *arguments: str) -> str | None:
    """What git says of a repository, whose own settings may start nothing; None where it is none."""
    command = ["git", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "-C", str(root), *arguments]
    environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0", "HOME": "/"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def _tracked(root: Path) -> list[str] | None:
    if not (root / ".git").exists():
        return None
    listed = git(root, "-c", "safe.directory=*", "ls-files", "-z")
    return None if listed is None else sorted(name for name in listed.split("\0") if name)


def _walked(root: Path) -> list[str]:
    found: list[str] = []
    for folder, folders, files in os.walk(root, followlinks=False):
        folders[:] = sorted(name for name in folders if name not in _NEVER)
        found += [(Path(folder) / name).relative_to(root).as_posix() for name in sorted(files)]
        if len(found) > MAX_FILES:
            break
    return found


@lru_cache(maxsize=4096)
def parent(name: str) -> str:
    """The folder of a file, empty for the top."""
    return name.rpartition("/")[0]


def joined(*parts: str) -> str | None:
    """Names put together, without dots; None where that leads out of the tree."""
    kept: list[str] = []
    for part in "/".join(parts).split("/"):
        if part in ("", "."):
            continue
        if part == "..":
            if not kept:
                return None
            kept.pop()
        else:
            kept.append(part)
    return "/".join(kept)
