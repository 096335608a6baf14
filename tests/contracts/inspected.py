"""Repositories that are made up, and what is proposed for them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from slipway.inspect import report
from slipway.inspect.proposal import Proposal
from slipway.inspect.render import entry
from slipway.inspect.tree import Tree

MAIN = "from fastapi import FastAPI\n\napp = FastAPI()\n"


def tree(root: Path, files: Mapping[str, str]) -> Tree:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return Tree(root)


def proposed(root: Path, files: Mapping[str, str], year: int = 0) -> Proposal:
    return report.propose(tree(root, files), "shop", "https://git.example.com/shop.git", year)


def lines_of(root: Path, files: Mapping[str, str]) -> dict[str, Any]:
    """The entry as an inventory reads it."""
    proposal = proposed(root, files)
    lines: dict[str, Any] = yaml.safe_load(entry(proposal))["apps"]["shop"]
    assert set(lines) <= set(proposal.lines)
    return lines
