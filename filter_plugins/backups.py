"""What `backups` in the inventory says: its whole form, and what is wrong with it."""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from ansible.errors import AnsibleFilterError
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

PROJECT = Path(__file__).resolve().parents[1]
if str(PROJECT) not in sys.path:  # where Ansible loads this file, it is not
    sys.path.append(str(PROJECT))

from roles.app.module_utils import calendar_times, setting_forms  # noqa: E402  # the path comes first

# It stands in a file of pgBackRest, where a line is a value.
PASSPHRASE = re.compile(r"[!-~](?:[ -~]*[!-~])?")
SHORTEST = 12
_DIRECTORY = re.compile(r"(/[A-Za-z0-9._@+-]+)+")
TIMES = ("at", "drill_at")
_CLOSED = ("/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/proc", "/root", "/run", "/sbin", "/sys", "/tmp", "/usr")  # noqa: S108  # none is used
_LEAST = {
    "spread_minutes": 0,
    "full_days": 1,
    "keep_full": 1,
    "archive_timeout": 1,
    "heartbeat_minutes": 7,
    "max_age_hours": 1,
    "drill_days": 1,
}


@cache
def specification() -> dict[str, dict[str, Any]]:
    """What `backups` in the inventory may have."""
    declared = yaml.safe_load((PROJECT / "roles/backup/meta/argument_specs.yml").read_text())["argument_specs"]["main"][
        "options"
    ]
    found: dict[str, dict[str, Any]] = declared["backup_settings"]["options"]
    return found


def whole(declared: Any) -> dict[str, Any]:
    """All settings, with their defaults; `faults` has looked at them before. `backups: false` has those as well."""
    given = _lists(declared) if isinstance(declared, Mapping) else {}
    result = ArgumentSpecValidator(deepcopy(specification())).validate(given)
    if result.error_messages:
        raise AnsibleFilterError(f"backups: {result.error_messages[-1]}")
    found = {name: result.validated_parameters[name] for name in specification()}
    for name in TIMES:
        found[name] = [expression for text in found[name] for expression in calendar_times.read(str(text))[0]]
    return found


def _lists(declared: Mapping[str, Any]) -> dict[str, Any]:
    """The settings, with a single time as a list of one: the validator would take its commas for those of a list."""
    given = {name: list(value) if isinstance(value, list | tuple) else value for name, value in declared.items()}
    return {name: [value] if name in TIMES and isinstance(value, str) else value for name, value in given.items()}


def faults(declared: Any) -> list[str]:
    """What is wrong with `backups`, a sentence each."""
    if declared is None or isinstance(declared, bool):
        return []
    if not isinstance(declared, Mapping):
        return [
            f"backups is {setting_forms.shown(declared)}, but must be false, or a mapping of settings such as "
            "`backups: {path: /mnt/backups}`; docs/settings.md has all."
        ]
    given = _lists(declared)
    if wrong := list(setting_forms.faults(specification(), given, "backups.")):
        return wrong
    return [*_times(given), *_faults(whole(given))]


def _times(given: Mapping[str, Any]) -> Iterator[str]:
    for name in TIMES:
        for text in given.get(name) or []:
            if why := calendar_times.read(str(text))[1]:
                yield f"backups.{name} is '{text}', which {why}. Write it as '02:30', 'Sun 04:30' or '0 3 * * *'."
    if given.get("at") == []:
        yield "backups.at is empty. Write a time such as '02:30', or `backups: false` for no backups at all."


def _faults(settings: Mapping[str, Any]) -> Iterator[str]:
    if settings["repository"] != "local":
        yield (
            f"backups.repository is '{settings['repository']}', which this version of Slipway does not have yet. Set "
            "it to local, with backups.path on a disk of its own."
        )
    path = str(settings["path"])
    if not _DIRECTORY.fullmatch(path) or ".." in path.split("/") or f"/{path.split('/')[1]}" in _CLOSED:
        yield (
            f"backups.path is '{path}', but must be the absolute path of a directory for data, such as '/mnt/backups', "
            "and none of the system's."
        )
    if settings["passphrase"]:
        yield from _passphrase(str(settings["passphrase"]))
    for name, least in _LEAST.items():
        if settings[name] < least:
            yield f"backups.{name} is {settings[name]}, but must be {least} or more."


def _passphrase(text: str) -> Iterator[str]:
    if not PASSPHRASE.fullmatch(text):
        yield (
            "backups.passphrase must be one line of ASCII without a blank around it. `openssl rand -base64 33` makes "
            "one."
        )
    elif len(text) < SHORTEST:
        yield (
            f"backups.passphrase has {len(text)} characters, and needs {SHORTEST} or more. `openssl rand -base64 33` "
            "makes one."
        )


def other_passphrase(settings: Mapping[str, Any], known: str) -> bool:
    """Whether the repository of a host was made with another pass phrase than that of the inventory."""
    return bool(settings["passphrase"] and known) and digest(settings["passphrase"]) != known


def digest(passphrase: str) -> str:
    """What tells pass phrases apart, and is too short to find one by."""
    return hashlib.sha256(passphrase.encode()).hexdigest()[:8]


def is_enabled(declared: Any) -> bool:
    """Whether the inventory has backups: it has, unless it says `backups: false`."""
    return declared is not False


def have_files(apps: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether one of the apps declares that it keeps files on its host."""
    return any(
        app["data"] or app["writable_paths"] or app["services"] or app["database"]["kind"] in ("sqlite", "mariadb")
        for app in apps.values()
    )


def stanza(host: str) -> str:
    """What a host is called in a repository."""
    return re.sub(r"[^A-Za-z0-9_.-]", "-", host)


class FilterModule:
    """Makes them known to Ansible."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {
            "backup_settings": whole,
            "backup_faults": faults,
            "backup_is_enabled": is_enabled,
            "backup_other_passphrase": other_passphrase,
            "backup_have_files": have_files,
            "backup_stanza": stanza,
        }
