"""What is known of a repository, gathered once for all signs."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cached_property

from slipway.inspect import docker, dotenv, place, platforms
from slipway.inspect.code import Code, Module
from slipway.inspect.commands import Command
from slipway.inspect.settings import Variable, collect
from slipway.inspect.tree import Tree, joined


@dataclass(frozen=True)
class _Server:
    """By what an address of one is known, and the variables that may have it."""

    address: str
    names: str
    drivers: frozenset[str]


_SERVERS = (
    _Server(
        r"(postgres(ql)?|mysql|mariadb)(\+\w+)?://",
        r"(DATABASE|DB|POSTGRES|PG|SQL|MARIA)\w*(URL|URI|DSN|HOST|SERVER|ADDRESS|CONNECTION)",
        frozenset(
            [
                "asyncpg",
                "psycopg",
                "psycopg2",
                "psycopg2-binary",
                "psycopg-binary",
                "aiomysql",
                "pymysql",
                "mysqlclient",
            ]
        ),
    ),
    _Server(r"rediss?://", r"REDIS|BROKER|CACHE", frozenset(["redis", "aioredis", "arq", "rq"])),
)


@dataclass
class Facts:
    tree: Tree
    code: Code
    images: list[docker.Dockerfile]
    platforms: platforms.Platforms
    commands: list[Command]
    examples: dict[str, tuple[str, str]]
    app: place.App
    year: int = 0  # of the newest commit; 0 if that is not known
    dependencies: dict[str, str] = field(default_factory=dict)  # name -> version, empty if that is not known
    locked: dict[str, list[str]] = field(default_factory=dict)  # name -> names of its files in the lock
    lock: str = ""

    @cached_property
    def modules(self) -> list[Module]:
        """What the application imports, and what a migration of its database runs."""
        found = self.code.reachable(self.app.file, self.app.root)
        names = {one.name for one in found}
        started = [self.code.file_of(module, self.app.root) for one in self.commands for module in _modules(one)]
        envs = [name for name in self.code.modules if name.endswith("/env.py") and self.near(name)]
        for name in [*started, *envs]:
            if name and name not in names:
                more = [one for one in self.code.reachable(name, self.app.root) if one.name not in names]
                found += more
                names |= {one.name for one in more}
        return found

    @cached_property
    def web_modules(self) -> list[Module]:
        return self.code.reachable(self.app.file, self.app.root)

    @cached_property
    def variables(self) -> dict[str, Variable]:
        found = collect(self.modules)
        known = " ".join(found).upper()
        for name, (value, origin) in self.platforms.env.items():
            # Read by a library such as Dynaconf perhaps, where the code has no name that may be one for such a server.
            kind = next((one for one in _SERVERS if re.match(one.address, value)), None)
            if kind and kind.drivers & set(self.dependencies) and not re.search(kind.names, known):
                found[name] = Variable(name, required=True, default=None, annotation="str", origin=origin)
        return found

    def near(self, name: str) -> bool:
        """Whether a file is the app's, as opposed to that of another app of the repository."""
        return not self.app.directory or name.startswith(f"{self.app.directory}/")

    def here(self, name: str) -> str | None:
        """A file of the tree as it is called from the app's directory; None if it is outside."""
        if not self.app.directory:
            return name
        inside = name.startswith(f"{self.app.directory}/")
        return name[len(self.app.directory) + 1 :] if inside else None

    def at(self, path: str) -> str | None:
        """A path from the app's directory, as it is called in the tree."""
        return joined(self.app.directory, path)

    def example(self, name: str) -> tuple[str, str]:
        """The value that platforms or examples give a variable, and where; empty if none does."""
        for known, (value, origin) in {**self.examples, **self.platforms.env}.items():
            if known.upper() == name.upper():
                if value.startswith("${") or not value:
                    value = self.examples.get(known, ("", ""))[0] or _default(value)
                if value:
                    return value, origin
        return "", ""


def _default(value: str) -> str:
    inner = value[2:].rstrip("}") if value.startswith("${") else ""
    return inner.partition(":-")[2] or ""


def _modules(command: Command) -> list[str]:
    if command.kind != "worker":
        return []
    words = [command.option("-A", "--app"), *command.words[1:3]]
    found = []
    for word in words:
        module = word.partition(":")[0]
        if module and not module.startswith("-"):
            found += [module, module.rpartition(".")[0]]
    return [one for one in found if one]


def gather(tree: Tree, year: int = 0) -> Facts | None:
    """None where no application is found."""
    code = Code(tree)
    found = platforms.find(tree)
    images = docker.find(tree)
    commands = list(found.commands)
    for image in images:
        commands += [
            one for one in platforms.of_dockerfile(tree, image) if one.words not in {old.words for old in commands}
        ]
    app = place.find(tree, code, commands)
    if app is None:
        return None
    return Facts(tree, code, images, found, commands, dotenv.find(tree), app, year)
