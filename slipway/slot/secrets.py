"""Values of variables that the host makes for an app: once, and anew when they are rotated.

They stand in a file of root's, apart from those of the inventory, and leave the host with nothing but a backup. A
rotated value stays known as `<NAME>_PREVIOUS`, so that the app can go on accepting what was signed with it.
"""

from __future__ import annotations

import secrets

from slipway.base import files
from slipway.base.errors import RefusedError
from slipway.base.settings import Settings
from slipway.slot import envfile, slots

BYTES = 48  # random ones in a value, which has four characters for three of them


def complete(settings: Settings) -> list[str]:
    """Make the values that are missing; the names of these. Only one process at a time may do this for an app."""
    known = envfile.of_host(settings)
    missing = [name for name in [*settings.generated_env, *settings.host_secrets] if not known.get(name)]
    if missing:
        _write(settings, {**known, **{name: _new() for name in missing}})
    return missing


def rotate(settings: Settings, name: str) -> bool:
    """Make a new value, and keep the one before it under `<name>_PREVIOUS`; the next start of a slot uses both.

    False, and nothing is changed, when the live release has not got the present value yet: what it has would be
    forgotten. RefusedError when the host does not make this value.
    """
    if name in settings.host_secrets or name in settings.filled_env:
        raise RefusedError(
            f"{name} is the password of a service of the host, which knows one at a time: what is live would lose its "
            "connections. It never leaves the host, and is not rotated."
        )
    if name not in settings.generated_env:
        made = ", ".join(settings.generated_env) or "none"
        raise RefusedError(
            f"{name} is not made by the host (made here: {made}), so it is rotated where it comes from: set the new "
            f"value in apps.{settings.app}.env, the old one as {envfile.previous(name)} if the app accepts both, and "
            "run site.yml and deploy.yml."
        )
    known = envfile.of_host(settings)
    present = known.get(name)
    live = slots.live_slot(settings)
    if live is not None and present is not None:
        used = slots.given(settings, live).get(name)
        if used is not None and used != present:
            return False
    _write(settings, {**known, **({envfile.previous(name): present} if present else {}), name: _new()})
    return True


def _new() -> str:
    return secrets.token_urlsafe(BYTES)


def _write(settings: Settings, values: dict[str, str]) -> None:
    files.write_atomically(settings.generated_env_file, envfile.render(dict(sorted(values.items()))), 0o600)
