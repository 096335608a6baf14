"""The two slots of an app and the `live` link to the one that takes traffic."""

from __future__ import annotations

import grp
import hashlib
import json
from pathlib import Path

from slipway.base import files
from slipway.base.settings import Settings
from slipway.records.manifest import Manifest
from slipway.slot import envfile, surroundings

NAMES = ("blue", "green")


def other(slot: str | None) -> str:
    """The other slot; blue if `slot` is None."""
    return "green" if slot == "blue" else "blue"


def live_slot(settings: Settings) -> str | None:
    """The slot that the link `live` points at. Only this link decides what is live. None before the first deploy."""
    try:
        name = settings.live.readlink().name
    except (FileNotFoundError, OSError):
        return None
    return name if name in NAMES else None


def release_in(settings: Settings, slot: str) -> str | None:
    """The name of the release that a slot is set up for; None if the slot was never used."""
    try:
        return (settings.slot(slot) / "release").readlink().name
    except OSError:
        return None


def live_release(settings: Settings) -> str | None:
    slot = live_slot(settings)
    return release_in(settings, slot) if slot else None


def socket(settings: Settings, slot: str) -> Path:
    return settings.slot(slot) / "http.sock"


def switch(settings: Settings, slot: str) -> None:
    """Send traffic to `slot` with one rename. Connections that are open stay with the old slot."""
    files.link_atomically(settings.live, f"slots/{slot}")


def environment(settings: Settings, slot: str, manifest: Manifest) -> dict[str, str]:
    """The environment of a slot: that of the app, tag and commit of the release, and where its programs are."""
    values = {**envfile.of_app(settings), **identity(manifest.tag, manifest.sha)}
    values["SLIPWAY_MODULE"] = surroundings.module_of(settings, manifest)
    release = settings.release(manifest.release)
    return surroundings.complete(settings, release, values, at=settings.slot(slot) / "release")


def _places(settings: Settings, manifest: Manifest) -> dict[str, str]:
    """Where a release's programs are, by its own directory: what began in it ends in it, whatever its slot gets."""
    release = settings.release(manifest.release)
    found = surroundings.complete(settings, release, envfile.of_app(settings))
    return {name: found[name] for name in surroundings.surroundings(settings, release)}


def background(settings: Settings, slot: str) -> set[str]:
    """The names of processes and jobs that there were when a slot was set up."""
    return set((files.read_json(settings.slot(slot) / ".background") or {}).get("names", ()))


def identity(tag: str | None, sha: str) -> dict[str, str]:
    """The variables that tell the app which release it is."""
    return {"RELEASE_TAG": tag or "", "RELEASE_SHA": sha}


def prepare(settings: Settings, slot: str, manifest: Manifest) -> None:
    """Point an idle slot at a release, and give the slot its own copy of the environment."""
    directory = settings.slot(slot)
    values = environment(settings, slot, manifest)
    apart = {name: values.pop(name, "") for name in settings.credentials}
    _write_credentials(directory / "credentials", apart)
    files.write_atomically(directory / "env", envfile.render(values), 0o640, grp.getgrnam(settings.user).gr_gid)
    files.write_atomically(directory / "release.env", envfile.render(_places(settings, manifest)), 0o644)
    beside = {"names": [*settings.processes, *settings.schedule]}
    files.write_atomically(directory / ".background", json.dumps(beside), 0o600)
    files.write_atomically(directory / ".inputs", inputs_digest(settings), 0o600)
    files.link_atomically(directory / "release", f"../../releases/{manifest.release}")


def _write_credentials(directory: Path, values: dict[str, str]) -> None:
    """The files that systemd reads them from for the unit: all that it asks for has to be there."""
    directory.mkdir(mode=0o700, exist_ok=True)
    for path in directory.iterdir():
        if path.name not in values:
            path.unlink()
    for name, value in values.items():
        files.write_atomically(directory / name, value, 0o600)


def given(settings: Settings, slot: str) -> dict[str, str]:
    """What a slot was given when it was set up: its environment, and its credentials."""
    directory = settings.slot(slot)
    apart = {path.name: files.read_text(path) for path in (directory / "credentials").glob("[!.]*")}
    return {**envfile.read(directory / "env"), **apart}


def prepared_at(settings: Settings, slot: str) -> float:
    """When a slot was last set up (seconds since 1970). Only used to find its log lines, not for decisions."""
    try:
        return (settings.slot(slot) / "env").stat().st_mtime
    except FileNotFoundError:
        return 0.0


def inputs_digest(settings: Settings) -> str:
    """A digest of what is outside of the release and affects a slot: environment, Gunicorn, unit, health requests."""
    digest = hashlib.sha256()
    for path in settings.slot_inputs:
        content = files.read_bytes(path) if path.exists() else b""
        digest.update(hashlib.sha256(content).digest())
    # How the app is asked whether it is ready: what nobody has tried must not pass for what is live.
    asked = repr((settings.health_path, settings.watch_url, settings.health_status)).encode()
    headers = settings.health_headers_file
    digest.update(hashlib.sha256(asked + (files.read_bytes(headers) if headers.exists() else b"")).digest())
    return digest.hexdigest()


def inputs_changed(settings: Settings, slot: str) -> bool:
    """Whether these files were changed since the slot was prepared."""
    try:
        return files.read_text(settings.slot(slot) / ".inputs") != inputs_digest(settings)
    except FileNotFoundError:
        return True
