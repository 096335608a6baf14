"""The results of the engine's commands. Each is printed as one JSON object, or as its message."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from slipway.records.deployment import Deployment


@dataclass(frozen=True)
class Result:
    """What was done, as a sentence, and whether anything was changed."""

    message: str
    changed: bool = False


@dataclass(frozen=True)
class Plan(Result):
    """What a deploy would do. `live` has tag, commit and name of the live release; None if there is none."""

    needed: bool = True  # False when a deploy would change nothing
    release: str = ""
    live: dict[str, Any] | None = None
    known: list[str] = field(default_factory=list)  # commits that the host already has
    needs_bundle: bool = False
    revision: str | None = None  # of the database
    migrations: str = ""  # why it is not known which ones would be run


@dataclass(frozen=True)
class Progress(Result):
    """A deployment after a command. `open` is False when there was nothing to do and no deployment was opened."""

    open: bool = False
    action: str = ""
    release: str = ""
    tag: str | None = None
    sha: str = ""
    version: str = ""
    from_release: str | None = None
    downgrades: bool = False


@dataclass(frozen=True)
class Pruned(Result):
    """The result of `prune`: the names of the releases and files that were deleted."""

    deleted: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Rotated(Result):
    """The result of `rotate`: the release to start with the new value, as {sha, tag}; None when nothing is live."""

    live: dict[str, Any] | None = None


def progress(deployment: Deployment, message: str, *, changed: bool = True) -> Progress:
    """The result of a command that worked on a deployment."""
    return Progress(
        message=message,
        changed=changed,
        open=True,
        action=deployment.action,
        release=deployment.release,
        tag=deployment.tag,
        sha=deployment.sha,
        version=deployment.version,
        from_release=deployment.from_release,
        downgrades=deployment.schema_from is not None,
    )
