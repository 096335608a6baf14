"""Commands as people write them for containers and platforms, taken apart: what they start in the end."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import Any

from slipway.inspect.tree import Tree, joined

SERVERS = {"uvicorn", "gunicorn", "hypercorn", "granian", "fastapi", "daphne"}
MODULES = SERVERS | {
    "celery",
    "arq",
    "dramatiq",
    "rq",
    "taskiq",
    "alembic",
    "aerich",
    "saq",
    "procrastinate",
    "faststream",
}
_RUNNERS = {"poetry", "uv", "pipenv", "pdm", "hatch", "rye"}
_SHELLS = {"sh", "bash", "dash", "ash"}
_DEPTH = 4


@dataclass(frozen=True)
class Command:
    """A simple command of the process `name`. `origin`: where it stands, `folder`: which part of the tree it is for."""

    name: str
    words: tuple[str, ...]
    origin: str
    folder: str = ""
    role: str = "service"  # service, process, web, release, cron: what the platform says that it is

    @property
    def text(self) -> str:
        return shlex.join(self.words)

    @property
    def program(self) -> str:
        return self.words[0] if self.words else ""

    @property
    def kind(self) -> str:
        """web, migrate, worker, monitor, wait or other."""
        words = self.words
        if not words:
            return "other"
        program, rest = words[0], words[1:]
        if program in SERVERS:
            return "web"
        if program in ("alembic", "aerich") and "upgrade" in rest:
            return "migrate"
        if program == "python" and rest[:1] and rest[0].endswith("manage.py") and "migrate" in rest:
            return "migrate"
        if program == "celery":
            if "flower" in rest:
                return "monitor"
            return "worker" if {"worker", "beat"} & set(rest) else "other"
        if program in ("arq", "dramatiq", "saq", "huey_consumer", "huey_consumer.py"):
            return "worker"
        if program in ("rq", "taskiq", "procrastinate", "faststream") and {"worker", "scheduler", "run"} & set(rest):
            return "worker"
        if re.search(r"wait[-_]for|pre_?start|^nc$|pg_isready|^sleep$|^until$|^while$|^do$|^done", " ".join(words)):
            return "wait"
        return "worker" if self.role == "process" else "other"

    def option(self, *names: str) -> str:
        """The value of an option, in either way of writing it."""
        for index, word in enumerate(self.words):
            for name in names:
                if word == name and index + 1 < len(self.words):
                    return self.words[index + 1]
                if word.startswith(f"{name}=") and name.startswith("--"):
                    return word.partition("=")[2]
        return ""


def simple(tree: Tree, command: Any, folder: str, depth: int = 0) -> list[tuple[str, ...]]:
    """The simple commands of one, those of scripts of the repository included, in their order."""
    if depth > _DEPTH:
        return []
    if isinstance(command, (list, tuple)):
        return _words(tree, [str(word) for word in command], folder, depth)
    found = []
    for line in _statements(str(command or "")):
        try:
            words = shlex.split(line, comments=True)
        except ValueError:
            continue
        found += _words(tree, words, folder, depth)
    return found


def _statements(text: str) -> list[str]:
    """The statements of a shell's text, with the variables that have a default in it put in."""
    values: dict[str, str] = {}
    lines = []
    for line in re.sub(r"\\\n", " ", text).splitlines():
        stripped = line.strip()
        if stripped.startswith("#"):
            continue
        assigned = re.fullmatch(r"(?:export\s+|readonly\s+)?([A-Za-z_]\w*)=(\"[^\"]*\"|'[^']*'|\S*)", stripped)
        if assigned:
            values[assigned[1]] = _filled(assigned[2].strip("\"'"), values)
            continue
        lines.append(_filled(line, values))
    quoted = re.compile(r"""("[^"]*"|'[^']*')|(&&|\|\||;|\n)""", re.DOTALL)
    return [part.strip() for part in quoted.sub(lambda m: m[1] or "\0", "\n".join(lines)).split("\0") if part.strip()]


def _filled(text: str, values: dict[str, str]) -> str:
    text = re.sub(r"\$\{(\w+):?-([^}]*)\}", lambda m: values.get(m[1], m[2].strip("\"'")), text)
    return re.sub(r"\$\{?(\w+)\}?", lambda m: values.get(m[1], m[0]), text)


def _words(tree: Tree, words: list[str], folder: str, depth: int) -> list[tuple[str, ...]]:
    while words and (
        words[0] in ("exec", "then", "else", "time", "nohup", "sudo", "&") or re.match(r"^[A-Za-z_]\w*=", words[0])
    ):
        words = words[1:]
    if words and words[0] in _RUNNERS and "run" in words[:3]:
        words = _behind_options(words[words.index("run") + 1 :])
    if "--" in words and words[0] in ("watchmedo", "dockerize", "tini", "dumb-init", "watchfiles", "wait-for-it.sh"):
        words = words[words.index("--") + 1 :]
    elif words and words[0] in ("watchfiles", "watchmedo") and any(" " in word for word in words):
        return simple(tree, next(word for word in words if " " in word), folder, depth + 1)
    if words and re.search(r"wait-for|wait_for", words[0]) and "--" in words:
        words = words[words.index("--") + 1 :]
    if not words:
        return []
    program = words[0].rpartition("/")[2]
    if program in _SHELLS:
        if len(words) > 2 and re.fullmatch(r"-\w*c", words[1]):
            return simple(tree, words[2], folder, depth + 1)
        rest = _behind_options(words[1:])
        return _script(tree, rest, folder, depth) if rest else []
    if re.fullmatch(r"python(3(\.\d+)?)?", program):
        rest = [word for word in words[1:] if word not in ("-u", "-O", "-B")]
        if rest[:1] == ["-m"] and rest[1:2] and rest[1] in MODULES:
            return [tuple(rest[1:])]
        return [("python", *rest)]
    if program in MODULES or program.startswith("huey_consumer"):
        return [(program, *words[1:])]
    if _file(tree, words[0], folder):
        return _script(tree, words, folder, depth)
    return [(words[0], *words[1:])]


def _script(tree: Tree, words: list[str], folder: str, depth: int) -> list[tuple[str, ...]]:
    name = _file(tree, words[0], folder)
    if not name:
        return [tuple(words)]
    if name.endswith(".py"):
        return [("python", *words)]
    content = tree.text(name)
    found = [one for one in simple(tree, content, folder, depth + 1) if one[0] not in ("set", "cd", "echo", "fi", "if")]
    if re.search(r"exec \"?\$@|^\"?\$@", content, re.MULTILINE) and len(words) > 1:
        found = [one for one in found if "$@" not in one[0]] + simple(tree, words[1:], folder, depth + 1)
    return found


def _file(tree: Tree, word: str, folder: str) -> str:
    """The file of the repository that a word names, also by the place where an image has it; empty if there is none."""
    for place in (folder, ""):
        name = joined(place, word) if not word.startswith("/") else None
        if name and tree.has(name):
            return name
    base = word.rpartition("/")[2]
    if "/" in word and base:
        tail = word.strip("./")
        ends = [name for name in tree.files if name == tail or name.endswith("/" + tail)]
        same = ends or [name for name in tree.named(base) if name.startswith(f"{folder}/" if folder else "")]
        if not same and word.startswith("/"):  # as images name them: COPY start.sh /start
            same = [name for name in tree.files if name.rpartition("/")[2] in (f"{base}.sh", base)]
        return same[0] if same else ""
    return ""


def _behind_options(words: list[str]) -> list[str]:
    valued = {"--package", "--group", "--extra", "--with", "--project", "--directory", "-p", "--python"}
    while words and words[0].startswith("-"):
        words = words[2:] if words[0] in valued else words[1:]
    return words
