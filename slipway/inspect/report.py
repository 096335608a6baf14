"""From a repository to the entry that is printed."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from slipway.base.errors import FailedError
from slipway.inspect import (
    cautions,
    data,
    database,
    facts,
    frontend,
    health,
    locks,
    packages,
    processes,
    python,
    render,
    schema,
    services,
    source,
    variables,
)
from slipway.inspect.proposal import Proposal
from slipway.inspect.tree import Tree


def inspect(repository: str, name: str = "") -> str:
    """The entry for `apps:` and the warnings, as text in YAML."""
    with source.opened(repository) as opened:
        proposal = propose(
            Tree(opened.root), name or opened.name, repository, opened.year, has_versions=opened.has_versions
        )
    return render.entry(proposal)


def propose(tree: Tree, name: str, repository: str, year: int = 0, *, has_versions: bool = False) -> Proposal:
    """FailedError when no application is found."""
    known = facts.gather(tree, year)
    if known is None:
        why = " It is a template: make a project of it first." if tree.template else ""
        raise FailedError(f"No FastAPI application was found in {_without_password(repository)}.{why}")
    proposal = Proposal(name)
    proposal.say("repository", _without_password(repository), "")
    if not has_versions:
        proposal.say("accept", "commits", "no tags with versions")
    if known.app.directory:
        proposal.say("directory", known.app.directory, known.app.why_directory)
    proposal.say("domains", [f"{name}.example.com"], "yours")
    proposal.say("module", known.app.module, known.app.reason)
    if known.app.found_anyway:
        proposal.optional.add("module")
    locks.propose(known, proposal)
    python.propose(known, proposal)
    packages.propose(known, proposal)
    used = database.propose(known, proposal)
    schema.propose(known, proposal)
    used |= services.propose(known, proposal)
    variables.propose(known, proposal, used)
    health.propose(known, proposal)
    processes.propose(known, proposal)
    data.propose(known, proposal)
    frontend.propose(known, proposal)
    cautions.propose(known, proposal)
    given = {*proposal.lines.get("env", {}), *proposal.lines.get("secrets", [])}
    if missing := [one for one in _required() if one not in given]:
        proposal.say("required_env", [], f"it does not read {', '.join(missing)}")
    return proposal


def _required() -> list[str]:
    """The variables without which Slipway starts no release where the entry says nothing else."""
    specs = Path(__file__).parents[2] / "roles/app/meta/argument_specs.yml"
    try:
        options = yaml.safe_load(specs.read_text())["argument_specs"]["main"]["options"]["app_settings"]["options"]
        return [str(one) for one in options["required_env"]["default"]]
    except (OSError, KeyError, TypeError, yaml.YAMLError):
        return []


def _without_password(repository: str) -> str:
    return re.sub(r"://[^/@]*:[^/@]*@", "://", repository)
