"""The deployment in progress: what it moves from where to where, and how far it came.

The file outlives the process: whoever comes next (the next phase, the next deploy, the boot) reads what is open.
Which slot takes traffic is not in here: that is the `live` link's to say.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from slipway.base import files
from slipway.records import versions
from slipway.records.receipt import Receipt

# How far a deployment came, in this order; and the one that is on its way back, from wherever it was.
OPENED, STAGED, MIGRATED, WARM, SWITCHED, WATCHED = "opened", "staged", "migrated", "warm", "switched", "watched"
REVERTING = "reverting"


@dataclass(frozen=True)
class Deployment:
    """One deploy or rollback between its opening and its result."""

    id: str
    action: str  # deploy or rollback
    owner: str
    release: str
    tag: str | None
    sha: str
    from_slot: str | None
    from_release: str | None
    to_slot: str
    opened_at: str
    state: str = OPENED
    schema_from: str | None = None  # the revision that a rollback takes the schema back from; mostly it stays
    receipt: Receipt = field(default_factory=Receipt)

    @property
    def version(self) -> str:
        """How people call the release: its tag, else the commit."""
        return self.tag or self.sha[:12]


@dataclass(frozen=True)
class Request:
    """Which release is wanted, by whom. `superseded` are owners whose lease does not count: they are dead.

    A rollback names its release otherwise, and has no `sha` until its target is found.
    """

    sha: str = ""
    tag: str | None = None
    owner: str = "root"
    force: bool = False
    superseded: tuple[str, ...] = ()

    @property
    def release(self) -> str:
        return versions.release_name(self.tag, self.sha)

    @property
    def version(self) -> str:
        return self.tag or self.sha[:12] or "an earlier release"


def display_owner(owner: str) -> str:
    """An owner as people read it: without the numbers of the run."""
    return owner.partition(" (")[0]


def new_id() -> str:
    return secrets.token_hex(4)


def load(path: Path) -> Deployment | None:
    """The open deployment; None when there is none."""
    value = files.read_json(path)
    if value is None:
        return None
    try:
        return Deployment(**{**value, "receipt": Receipt(**value.get("receipt", {}))})
    except TypeError:
        return None


def save(path: Path, deployment: Deployment) -> None:
    files.write_atomically(path, json.dumps(asdict(deployment), indent=2) + "\n")


def advance(path: Path, deployment: Deployment, state: str) -> Deployment:
    """Record that `state` was reached; the updated deployment."""
    updated = replace(deployment, state=state)
    save(path, updated)
    return updated


def close(path: Path) -> None:
    path.unlink(missing_ok=True)
    files.sync_directory(path.parent)
