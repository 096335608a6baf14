"""The record of the open deployment: from which release and slot to which, and the state it has reached.

The file outlives the process: the next phase, the next deploy or the next boot reads it. It does not say which slot
takes traffic. Only the `live` link does.
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

FORMAT = 2  # format 1 had no number in the file, and its name for the state `started` was `warm`


@dataclass(frozen=True)
class Deployment:
    """One deploy or rollback, from when it is opened until it is closed."""

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
    schema_from: str | None = None  # the revision from which a rollback downgrades the schema; None: the schema stays
    # All hosts of the run, if it is for several: then no host finishes the deployment forward by itself.
    fleet: tuple[str, ...] = ()
    receipt: Receipt = field(default_factory=Receipt)
    remark: str = ""  # a sentence for whoever deploys, told with the result
    unknown: dict[str, Any] = field(default_factory=dict)  # fields of another version of the engine

    @property
    def version(self) -> str:
        """The name of the release for people: its tag, or else its commit."""
        return self.tag or self.sha[:12]


@dataclass(frozen=True)
class Request:
    """Which release is requested, and by whom. `superseded` are owners whose runs have ended: their lease is ignored.

    `fleet` names all hosts of the run if it is for several. A rollback finds its release in the journal, and has no
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


def new_id() -> str:
    return secrets.token_hex(4)


def load(path: Path) -> Deployment | None:
    """The open deployment; None when there is none.

    RefusedError when a newer version of the engine wrote the file, FailedError when it cannot be read.
    """
    try:
        value = files.decode_json(files.read_text(path))
    except FileNotFoundError:
        return None
    except (files.UnfitError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise FailedError(f"{path} cannot be read ({why}). Move it away to go on without it.") from error
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
