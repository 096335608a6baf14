"""The deployment in progress: what it moves from where to where, and how far it came.

The file outlives the process: whoever comes next (the next phase, the next deploy, the boot) reads what is open.
Which slot takes traffic is not in here: that is the `live` link's to say.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slipway.base import files
from slipway.base.errors import FailedError
from slipway.records import formats, phases, versions
from slipway.records.receipt import Receipt
from slipway.records.receipt import load as load_receipt

FORMAT = 2  # 1 had no number, and called the state `started` `warm`


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
    state: str = phases.OPENED
    schema_from: str | None = None  # the revision that a rollback takes the schema back from; mostly it stays
    # All hosts of the run, when it is for several: then no host of them ends the deployment forward by itself.
    fleet: tuple[str, ...] = ()
    receipt: Receipt = field(default_factory=Receipt)
    unknown: dict[str, Any] = field(default_factory=dict)  # fields of another version of the engine

    @property
    def version(self) -> str:
        """How people call the release: its tag, else the commit."""
        return self.tag or self.sha[:12]


@dataclass(frozen=True)
class Request:
    """Which release is wanted, by whom. `superseded` are owners whose lease does not count, as they have ended.

    `fleet` names all hosts of the run when it is for several. A rollback finds its release in the journal, and has no
    `sha` before that.
    """

    sha: str = ""
    tag: str | None = None
    owner: str = "root"
    force: bool = False
    superseded: tuple[str, ...] = ()
    fleet: tuple[str, ...] = ()

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
    """The open deployment; None when there is none.

    RefusedError when a newer version of the engine wrote the file, FailedError when it cannot be read.
    """
    try:
        value = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise FailedError(f"{path} cannot be read ({error}). Move it away to go on without it.") from error
    if not isinstance(value, dict):
        raise FailedError(f"{path} cannot be read (it holds no object). Move it away to go on without it.")
    formats.check(value, FORMAT, str(path))
    arguments, unknown = formats.split(value, Deployment)
    arguments["receipt"] = load_receipt(arguments.get("receipt", {}))
    arguments["fleet"] = tuple(arguments.get("fleet", ()))
    state = arguments.get("state", phases.OPENED)
    arguments["state"] = phases.RENAMED_STATES.get(state, state)
    try:
        return Deployment(**arguments, unknown=unknown)
    except TypeError as error:
        raise FailedError(f"{path} cannot be read ({error}). Move it away to go on without it.") from error


def save(path: Path, deployment: Deployment) -> None:
    content = json.dumps(formats.stamped(deployment, FORMAT), indent=2)
    files.write_atomically(path, f"{content}\n")


def close(path: Path) -> None:
    path.unlink(missing_ok=True)
    files.sync_directory(path.parent)
