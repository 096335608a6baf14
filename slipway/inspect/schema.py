"""Migrations, and what is run after them."""

from __future__ import annotations

import ast
import re

from slipway.inspect.code import Module
from slipway.inspect.commands import Command, simple
from slipway.inspect.facts import Facts
from slipway.inspect.proposal import Proposal


def propose(facts: Facts, proposal: Proposal) -> None:
    has_database = proposal.lines.get("database") != "none"
    alembic = list(facts.tree.named("alembic.ini")) + [
        name for name in facts.tree.named("pyproject.toml") if "alembic" in (facts.tree.toml(name).get("tool") or {})
    ]
    aerich_started = next((module.name for module in facts.web_modules if _starts_aerich(module)), "")
    started = next((f"{name} in {module.name}" for module in facts.web_modules for _, name in module.calls()
                    if name.endswith("command.upgrade")), "")  # fmt: skip
    aerich = any("aerich" in (facts.tree.toml(name).get("tool") or {}) for name in facts.tree.named("pyproject.toml"))
    commands = [one for one in facts.commands if one.kind == "migrate"]
    manage = next((one for one in commands if one.program == "python"), None)
    if not has_database:
        if alembic:
            proposal.say("migrate", False, "no database")
    elif aerich_started:
        proposal.say("migrate", False, f"the app does it when it starts: aerich in {aerich_started}")
        proposal.say("data", ["migrations/"], f"{aerich_started}: aerich writes there")
    elif started:
        proposal.say("migrate", False, f"the app does it when it starts: {started}")
    elif manage:
        proposal.say("migrate", manage.text, manage.origin)
    elif aerich and not alembic:
        proposal.say("migrate", "aerich upgrade", "[tool.aerich] of pyproject.toml")
    _after(facts, proposal)


def _starts_aerich(module: Module) -> bool:
    """Whether a module makes and applies migrations by aerich's own class."""
    imported = any(
        isinstance(node, ast.ImportFrom) and node.module == "aerich" and "Command" in {one.name for one in node.names}
        for node in module.nodes
    )
    return imported and any(name.endswith((".upgrade", ".init_db")) for _, name in module.calls())


def _after(facts: Facts, proposal: Proposal) -> None:
    """The commands that stand behind the migration where the app is started, or in a script of its own."""
    groups: dict[str, list[Command]] = {}
    for command in facts.commands:
        groups.setdefault(command.origin, []).append(command)
    for name in facts.tree.files:
        base = name.rpartition("/")[2]
        if re.fullmatch(
            r"(pre_?-?start|release|init|entrypoint|docker-entrypoint|start|migrate|deploy|startup)\.sh", base
        ) and facts.near(name):
            groups.setdefault(
                name,
                [
                    Command(base, words, name)
                    for words in simple(facts.tree, facts.tree.text(name), facts.app.directory)
                ],
            )
    for origin, commands in groups.items():
        kinds = [one.kind for one in commands]
        if "migrate" not in kinds:
            continue
        for command in commands[kinds.index("migrate") + 1 :]:
            if command.kind == "other" and command.program == "python" and _is_run(facts, command):
                proposal.say("after_migrate", [command.text], f"behind the migration in {origin}")


def _is_run(facts: Facts, command: Command) -> bool:
    """Whether it is a module of the repository, and not the one that serves."""
    words = command.words[1:]
    if words[:1] == ("-m",) and len(words) > 1:
        file = facts.code.file_of(words[1], facts.app.directory) or facts.code.file_of(words[1], facts.app.root)
        file = file or facts.code.file_of(f"{words[1]}.__main__", facts.app.root)
    else:
        file = facts.at(words[0]) or "" if words else ""
    if not file or not facts.tree.has(file) or file == facts.app.file:
        return False
    module = facts.code.modules.get(file)
    return module is None or not any(name in ("uvicorn.run", "gunicorn.run") for _, name in module.calls())
