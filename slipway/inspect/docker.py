"""Dockerfiles: what the last image has, and what it starts."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from typing import Any

from slipway.inspect.tree import Tree, parent


@dataclass
class Dockerfile:
    name: str
    python: str = ""
    workdir: str = ""
    command: Any = ""
    entrypoint: Any = ""
    env: dict[str, str] = field(default_factory=dict)
    runs: list[str] = field(default_factory=list)
    health: str = ""
    copies: list[tuple[str, str, str]] = field(default_factory=list)  # stage that it is from, source, destination

    @property
    def folder(self) -> str:
        return parent(self.name)

    @property
    def packages(self) -> list[str]:
        """What apt-get installs, without versions."""
        found: list[str] = []
        for run in self.runs:
            for part in re.split(r"&&|;|\|\|", run):
                words = part.split()
                if "install" in words and any(word in ("apt-get", "apt") for word in words[: words.index("install")]):
                    names = words[words.index("install") + 1 :]
                    found += [
                        name.partition("=")[0] for name in names if re.fullmatch(r"[a-z0-9][a-z0-9.+=:~-]+", name)
                    ]
        return found


def find(tree: Tree) -> list[Dockerfile]:
    names = [name for name in tree.files if re.search(r"(^|/)([\w.-]*\.)?[Dd]ockerfile(\.[\w.-]+)?$", name)]
    usable = [
        name
        for name in names
        if not re.search(r"test|\.dev|devcontainer|\.dockerignore|playwright", name, re.IGNORECASE)
    ]
    return [
        read(tree, name) for name in sorted(usable, key=lambda name: (name.count("/"), "prod" not in name, name))[:20]
    ]


def read(tree: Tree, name: str) -> Dockerfile:
    text = re.sub(r"^\s*#.*\n", "", tree.text(name), flags=re.MULTILINE)
    text = re.sub(r"\\\s*\n", " ", text)
    arguments: dict[str, str] = {}
    stages: dict[str, Dockerfile] = {}
    current = Dockerfile(name)
    for line in text.splitlines():
        word, _, rest = line.strip().partition(" ")
        rest = re.sub(r"\$\{?(\w+)\}?", lambda m: arguments.get(m[1], m[0]), rest.strip())
        match word.upper():
            case "ARG":
                key, _, value = rest.partition("=")
                arguments.setdefault(key.strip(), value.strip("\"'"))
            case "FROM":
                current = _stage(name, rest, stages)
            case "WORKDIR":
                current.workdir = rest if rest.startswith("/") else f"{current.workdir}/{rest}"
            case "CMD":
                current.command = _command(rest)
            case "ENTRYPOINT":
                current.entrypoint = _command(rest)
            case "HEALTHCHECK":
                current.health = rest
            case "RUN":
                current.runs.append(re.sub(r"--mount=\S+", "", rest))
            case "ENV":
                pairs = re.findall(r"(\w+)=(\"[^\"]*\"|'[^']*'|\S*)", rest)
                for key, value in pairs or [tuple(rest.split(None, 1))] if len(rest.split(None, 1)) == 2 else pairs:
                    current.env[key] = arguments[key] = value.strip("\"'")
            case "COPY" | "ADD":
                stage = re.search(r"--from=(\S+)", rest)
                words = [part for part in rest.split() if not part.startswith("--")]
                current.copies += [(stage[1] if stage else "", one, words[-1]) for one in words[:-1]]
    return current


def _stage(name: str, rest: str, stages: dict[str, Dockerfile]) -> Dockerfile:
    words = [word for word in rest.split() if not word.startswith("--")]
    base = words[0] if words else ""
    inherited = stages.get(base.lower())
    stage = Dockerfile(name)
    if inherited:
        stage = replace(inherited, env=dict(inherited.env), runs=list(inherited.runs), copies=list(inherited.copies))
    found = re.search(r"python:?-?(\d+\.\d+(?:\.\d+)?)", base)
    if found:
        stage.python = found[1]
    if len(words) == 3 and words[1].lower() == "as":
        stages[words[2].lower()] = stage
    return stage


def _command(rest: str) -> Any:
    if rest.startswith("["):
        try:
            return [str(word) for word in json.loads(rest)]
        except ValueError:
            return rest
    return rest
