"""`slipway logs` and `slipway shell`: what they become."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from slipway.base import settings as config
from slipway.cli import commands, parser


def became(monkeypatch: pytest.MonkeyPatch, settings: config.Settings, *arguments: str) -> list[str]:
    found: list[str] = []
    monkeypatch.setattr(config, "load", lambda _: settings)
    monkeypatch.setattr(os, "execvp", lambda _, command: found.extend(command))
    options = parser.parser().parse_args(arguments)
    getattr(commands, options.function)(options, None)
    return found


def test_the_log_is_that_of_all_units_of_the_app(monkeypatch: pytest.MonkeyPatch, settings: config.Settings) -> None:
    found = became(monkeypatch, settings, "logs", "logbook", "--follow")
    assert found[0] == "journalctl"
    assert {"--unit=logbook@*", "--unit=logbook.*", "--lines=100", "--follow"} <= set(found)


def test_the_log_of_one_process_since_a_time(monkeypatch: pytest.MonkeyPatch, settings: config.Settings) -> None:
    found = became(monkeypatch, settings, "logs", "logbook", "--only", "worker", "--since", "1 hour ago")
    assert [part for part in found if "unit" in part] == ["--unit=logbook.worker@*", "--unit=logbook.worker.*"]
    assert "--since=1 hour ago" in found
    assert not [part for part in found if part.startswith(("--lines", "--follow"))]


def test_a_shell_is_run_as_any_command(monkeypatch: pytest.MonkeyPatch, settings: config.Settings) -> None:
    ran: list[list[str]] = []
    monkeypatch.setattr(commands, "run", lambda options, _: ran.append(options.arguments))
    became(monkeypatch, settings, "shell", "logbook")
    assert ran == [["/bin/bash", "--noprofile", "--norc"]]
    assert Path(ran[0][0]).name == "bash"
