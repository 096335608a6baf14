"""The hooks of an app as its owner has declared them: `/etc/slipway/<app>.hooks.json`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from slipway.base import files
from slipway.base.settings import HOOK_URL
from slipway.observers import events

VERSION = 1  # of the file; a file without one is of version 1
TIMEOUT = 10.0  # seconds for one hook, where it does not say


@dataclass(frozen=True)
class Hook:
    """One hook: a command, or the address of a webhook. `timeout` in seconds."""

    on: tuple[str, ...]
    command: tuple[str, ...] = ()
    url: str = ""
    format: str = "json"
    timeout: float = TIMEOUT

    @property
    def name(self) -> str:
        """How messages call it. The rest of an address is a secret, and so may be a command's arguments."""
        return f"command {self.command[0]}" if self.command else f"webhook to {urlsplit(self.url).hostname}"


def load(path: Path) -> tuple[list[Hook], list[str]]:
    """The hooks in `path`, none when it is absent; and a sentence for each that cannot be run."""
    try:
        value = files.decode_json(files.read_text(path))
    except FileNotFoundError:
        return [], []
    except OSError as error:
        return [], [f"{path} could not be read ({error.strerror}), so no hook is run."]
    except ValueError:
        return [], [f"{path} is not JSON, so no hook is run. Run site.yml to write it again."]
    if not isinstance(value, dict) or not isinstance(value.get("hooks"), list):
        return [], [f"{path} has no list of hooks, so no hook is run. Run site.yml to write it again."]
    version = value.get("version", 1)
    if not isinstance(version, int) or version > VERSION:
        return [], [
            f"{path} was written by a newer version of Slipway (version {version}; this version reads up to "
            f"{VERSION}), so no hook is run. Run site.yml with the newer version."
        ]
    hooks, wrong = [], []
    for number, item in enumerate(value["hooks"], 1):
        problem = _problem(item)
        if problem:
            wrong.append(f"Hook {number} of {path} is not run: {problem}.")
        else:
            hooks.append(_hook(item))
    return hooks, wrong


def _hook(item: dict[str, Any]) -> Hook:
    return Hook(
        on=tuple(item["on"]),
        command=tuple(item.get("command") or ()),
        url=item.get("url") or "",
        format=item.get("format") or "json",
        timeout=float(item.get("timeout") or TIMEOUT),
    )


def _problem(item: Any) -> str:
    """What is wrong with one hook, or "". Never with its address in it."""
    if not isinstance(item, dict):
        return "it is not an object"
    on, command, url = item.get("on"), item.get("command") or [], item.get("url") or ""
    timeout = item.get("timeout") or TIMEOUT
    if not isinstance(on, list) or not on or any(name not in events.EVENTS for name in on):
        return f"'on' must be a list of {', '.join(events.EVENTS)}"
    if bool(command) == bool(url):
        return "it must have either a 'command' or a 'url'"
    if command and not (
        isinstance(command, list) and all(isinstance(part, str) and "\0" not in part for part in command)
    ):
        return "'command' must be a list of strings"
    if command and not command[0].startswith("/"):
        return "'command' must begin with the path of a program, such as /usr/local/bin/announce"
    if url and not (isinstance(url, str) and HOOK_URL.fullmatch(url)):
        return "'url' must begin with https:// (http:// only to this host itself) and have no space"
    if (item.get("format") or "json") not in events.FORMATS:
        return f"'format' must be one of {', '.join(events.FORMATS)}"
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 < timeout < math.inf:
        return "'timeout' must be a number of seconds above 0"
    return ""
