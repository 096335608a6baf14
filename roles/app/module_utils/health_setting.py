"""The setting `health`: a path, or a mapping; its whole form are the settings health_path, health_status and so on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from roles.app.module_utils import setting_forms
from slipway.base.errors import RefusedError

# Each key of the mapping, and the setting that it is another name of.
KEYS = {
    "path": "health_path",
    "status": "health_status",
    "host": "health_host",
    "headers": "health_headers",
    "every": "health_every",
}
_FORM = "Write the path, such as /health, or a mapping with path, status, host, headers, every."


def whole(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that `health` stands for, and `health` itself, which is empty then; RefusedError says what is wrong.

    A header may be a secret, so no sentence shows one.
    """
    given = settings["health"]
    if given in ("", {}):
        return {"health": ""}
    if isinstance(given, str):
        return {"health": "", "health_path": given}
    if not isinstance(given, Mapping):
        raise RefusedError(f"health is {setting_forms.shown(given)}. {_FORM}")
    found: dict[str, Any] = {"health": ""}
    for name, value in given.items():
        if name not in KEYS:
            near = setting_forms.nearest(str(name), KEYS)
            hint = f"The nearest is '{near}'." if near else f"Its keys are {', '.join(KEYS)}."
            raise RefusedError(f"health.{name} is no setting. {hint}")
        found[KEYS[name]] = _value(str(name), value)
    return found


def _value(name: str, value: Any) -> Any:
    if name in ("path", "host") and not isinstance(value, str):
        raise RefusedError(f"health.{name} is {setting_forms.shown(value)}, but must be a text.")
    if name == "headers" and not isinstance(value, Mapping):
        raise RefusedError("health.headers must be a mapping of names to texts.")
    if name == "every" and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise RefusedError(f"health.every is {setting_forms.shown(value)}, but must be a number of seconds, such as 2.")
    if name == "status":
        listed = value if isinstance(value, list) else [value]
        if not all(isinstance(item, int) and not isinstance(item, bool) for item in listed):
            raise RefusedError(f"health.status is {setting_forms.shown(value)}, but must be a list such as [200, 429].")
        return listed
    return dict(value) if name == "headers" else float(value) if name == "every" else value


def faults(where: str, settings: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with the statuses and the pause of an app that is declared at `where`."""
    statuses = settings["health_status"]
    if not statuses:
        yield f"{where}.health_status is empty. List the statuses of a release that is ready, such as [200, 204]."
    for status in statuses:
        if not 200 <= status <= 499:
            yield (
                f"{where}.health_status has {status}, which no release that is ready answers with. Use 200 to 499, "
                "such as [200, 429]."
            )
    if settings["health_every"] > _LONGEST:
        yield (
            f"{where}.health_every is {settings['health_every']:g}, so a release would take minutes to be found ready. "
            f"Set it to {_LONGEST} seconds or less."
        )


_LONGEST = 30
