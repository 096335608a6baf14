"""Warnings: what works elsewhere and would surprise here."""

from __future__ import annotations

import ast
import json
import re

from slipway.base import supported
from slipway.inspect import dotenv
from slipway.inspect.code import keyword, text_of
from slipway.inspect.facts import Facts
from slipway.inspect.proposal import Proposal
from slipway.inspect.tree import MAX_LOCK_BYTES, parent


def propose(facts: Facts, proposal: Proposal) -> None:
    committed = dotenv.committed(facts.tree)
    if committed:
        proposal.warn(
            f"{', '.join(committed[:3])} is in git: releases leave it out; put what is needed into env and secrets."
        )
    _alembic(facts, proposal)
    _web(facts, proposal)
    _servers(facts, proposal)
    if facts.lock and re.search(r"git\+|source = \{ git|type = \"git\"", facts.tree.text(facts.lock, MAX_LOCK_BYTES)):
        proposal.warn(f"{facts.lock} has dependencies from git: the host must reach them.")
    if facts.tree.has(".gitmodules"):
        proposal.warn("The repository has submodules, which a release does not get.")
    if facts.tree.template:
        proposal.warn("The repository is a template with placeholders in its names: make a project of it first.")
    given = proposal.lines.get("env", {})
    if "environment_variable" not in proposal.lines and "ENV" in facts.variables and "ENV" not in given:
        words = str(facts.variables["ENV"].default or "")
        proposal.warn(
            f"The app reads ENV ({words or 'no default'}); Slipway sets it to production unless env says otherwise."
        )


def _alembic(facts: Facts, proposal: Proposal) -> None:
    for name in facts.tree.named("alembic.ini"):
        if not facts.near(name):
            continue
        ini = facts.tree.ini(name)
        url = ini.get("alembic", "sqlalchemy.url", fallback="")
        location = ini.get("alembic", "script_location", fallback="").replace("%(here)s/", "").replace("%(here)s", "")
        folder = "/".join(part for part in (parent(name), location.strip("./")) if part)
        env = facts.tree.text(f"{folder}/env.py")
        sets = re.search(
            r"set_main_option|create_async_engine|create_engine|sqlalchemy\.url|database_url|url\s*=",
            env,
            re.IGNORECASE,
        )
        literal = "://" in url and not url.startswith("driver://")  # as alembic writes it
        if literal and not re.search(r"set_main_option|_url|url\s*=", env):
            proposal.warn(f"{name} has an address of a database in it, and env.py takes no other: migrations go there.")
        if sets and re.search(r"set_main_option\([^)]*url", env, re.IGNORECASE) and "%%" not in env:
            proposal.warn(
                f"{folder}/env.py does not double % in the address: with one in it, alembic fails and prints it."
            )
        _heads(facts, proposal, folder)


def _heads(facts: Facts, proposal: Proposal, folder: str) -> None:
    below: set[str] = set()
    known: set[str] = set()
    for name in facts.tree.within(folder):
        if name.endswith(".py") and "/versions/" in name:
            text = facts.tree.text(name)
            own = re.search(r"^revision(?:\s*:[^=]*)?\s*=\s*['\"]([\w.-]+)", text, re.MULTILINE)
            down = re.search(r"^down_revision(?:\s*:[^=]*)?\s*=\s*(\([^)]*\)|\[[^\]]*\]|.*)", text, re.MULTILINE)
            known |= {own[1]} if own else set()
            below |= set(re.findall(r"['\"]([\w.-]+)['\"]", down[1])) if down else set()
    heads = sorted(known - below)
    if len(heads) > 1:
        proposal.warn(
            f"{folder} has {len(heads)} heads ({', '.join(heads[:3])}): `alembic merge heads` before a deploy."
        )
    if not known and any(name.endswith("/env.py") for name in facts.tree.within(folder)):
        proposal.warn(
            f"{folder} has no revisions: alembic makes no tables. `alembic revision --autogenerate` makes one."
        )


def _web(facts: Facts, proposal: Proposal) -> None:
    for module in facts.web_modules:
        for call, name in module.calls():
            last = name.rpartition(".")[2]
            if last == "add_middleware" and call.args and "TrustedHost" in ast.unparse(call.args[0]):
                hosts = keyword(call, "allowed_hosts")
                if hosts is not None and "*" not in ast.unparse(hosts):
                    _trusted(facts, proposal, module.name, hosts)
            if last == "Limiter" and keyword(call, "default_limits") is not None:
                proposal.warn(f"{module.name} limits rates by default: exempt the health path, or set health.every.")
            root = keyword(call, "root_path") if last == "FastAPI" else None
            if root is not None and text_of(root):
                proposal.warn(f"{module.name}: root_path is {text_of(root)}, but Slipway serves the app at the top.")


def _trusted(facts: Facts, proposal: Proposal, where: str, hosts: ast.expr) -> None:
    """The domains as the value of the variable that the allowed hosts are read from, or a warning."""
    name = hosts.attr.upper() if isinstance(hosts, ast.Attribute) else ""
    found = next((one for one in facts.variables if name and one.upper().endswith(name)), "")
    if not found:
        proposal.warn(f"{where} has TrustedHostMiddleware: its domains have to be in {ast.unparse(hosts)[:60]}.")
    elif found not in proposal.lines.get("env", {}) and facts.variables[found].default != ["*"]:
        domains = json.dumps(proposal.lines["domains"])
        proposal.say("env", {found: domains}, f"TrustedHostMiddleware in {where}")


def _servers(facts: Facts, proposal: Proposal) -> None:
    """Servers among the app's packages that are too old for what Slipway starts them with."""
    for name, oldest in supported.SERVERS.items():
        version = facts.dependencies.get(name, "")
        numbers = tuple(int(one) for one in re.findall(r"\d+", version)[:2])
        if numbers and numbers < oldest:
            wanted = supported.text(oldest)
            proposal.warn(
                f"{facts.lock} has {name} {version}, and Slipway serves with {wanted} or later: raise it there."
            )
