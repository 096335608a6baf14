"""Frontends beside the app: whose build output the app serves, and which are apps of their own."""

from __future__ import annotations

import ast
import re

from slipway.inspect.facts import Facts
from slipway.inspect.proposal import Proposal
from slipway.inspect.tree import joined, parent

_STAGE = re.compile(r"front|node|build|web|client|ui|static")
_OUTPUT = re.compile(r"dist|build|static|front|out")
_PYTHON = re.compile(r"venv|site-packages|requirements")


def propose(facts: Facts, proposal: Proposal) -> None:
    for name in facts.tree.named("package.json")[:6]:
        scripts, folder = facts.tree.json(name).get("scripts"), parent(name)
        if not isinstance(scripts, dict) or "build" not in scripts or re.search(r"email|docs|e2e", folder):
            continue
        output = _served(facts, folder)
        if not output or not _is_named(facts, output):
            proposal.warn(
                f"{folder or 'The top'} has a frontend that the app does not serve: it is not deployed by this entry."
            )
            continue
        if facts.tree.has_folder(output):
            continue  # its output is in git
        place = _from_app(facts, folder)
        lock = next(
            (
                one
                for one in ("package-lock.json", "npm-shrinkwrap.json")
                if facts.tree.has(f"{folder}/{one}".lstrip("/"))
            ),
            "",
        )
        prefix = f"npm --prefix {place}" if place != "." else "npm"
        proposal.say(
            "build",
            [f"{prefix} {'ci' if lock else 'install'}", f"{prefix} run build"],
            f"{output}/ is made of {folder}",
        )
        if not lock:
            proposal.warn(
                f"{folder} has no package-lock.json: npm installs what it finds, not what another lock file pins."
            )


def _is_named(facts: Facts, output: str) -> bool:
    """Whether the app has a text that ends like the output's folder: then it serves it, as opposed to Nginx."""
    last = output.rpartition("/")[2]
    return any(
        isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.rstrip("/").endswith(last)
        for module in facts.web_modules
        for node in module.nodes
    )


def _served(facts: Facts, folder: str) -> str:
    """The folder below which the output of a frontend comes to lie that images copy into the app; empty if none."""
    for image in facts.images:
        for stage, source, target in image.copies:
            if _STAGE.search(stage) and _OUTPUT.search(f"{source} {target}") and not _PYTHON.search(source):
                inside = _inside(image.workdir.rstrip("/"), target) or _inside(image.workdir.rstrip("/"), source)
                if inside:
                    is_whole = inside.startswith(facts.app.directory)
                    return inside if is_whole else f"{facts.app.directory}/{inside}".strip("/")
    for config in ("vite.config.ts", "vite.config.js", "vite.config.mts"):
        found = re.search(r"outDir:\s*['\"]([^'\"]+)['\"]", facts.tree.text(f"{folder}/{config}".lstrip("/")))
        if found and ".." in found[1]:
            return joined(folder, found[1]) or ""
    return ""


def _inside(workdir: str, path: str) -> str:
    """A path of an image below the directory that the app is in."""
    bases = [base for base in (workdir, "/app", "/code", "/src") if base and path.startswith(f"{base}/")]
    return path[len(bases[0]) + 1 :].strip("/") if bases else ""


def _from_app(facts: Facts, folder: str) -> str:
    if facts.app.directory and folder.startswith(f"{facts.app.directory}/"):
        return folder[len(facts.app.directory) + 1 :]
    up = "../" * len(facts.app.directory.split("/")) if facts.app.directory else ""
    return f"{up}{folder}" or "."
