"""A canary in every variable of an app, while each step of a deploy fails once: no step shows it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest

from slipway.base import crash, process
from slipway.base import settings as config
from slipway.base.errors import FailedError
from slipway.cli import parser
from slipway.deployment import lock, preflight
from slipway.records import manifest
from slipway.release import build, store
from slipway.schema import migrate
from slipway.slot import cutover, envfile, slots, systemd, watch
from tests.engine.conftest import host, settings
from tests.engine.fakes import V1, V2, Host, deployed

__all__ = ["host", "settings"]

# Joined here: a traceback may show these lines.
CANARY = "-".join(("c4n4ry", "of", "a", "value"))
BUILD = "-".join(("c4n4ry", "of", "a", "build"))
TOKEN = "-".join(("c4n4ry", "of", "a", "file"))
STEPS: dict[str, tuple[Any, str]] = {
    "the lock": (lock, "hold"),
    "the environment": (cutover, "check_environment"),
    "the commit": (build, "obtain"),
    "the signature": (preflight, "check_signature"),
    "the build": (build, "build"),
    "the question what is pending": (migrate, "nothing_to_run"),
    "the migration": (migrate, "upgrade"),
    "the start": (systemd, "start"),
    "the gate": (cutover, "pass_gate"),
    "the check of authentication": (cutover, "check_authentication"),
    "the switch": (slots, "switch"),
    "the watch": (watch, "watch"),
    "the drain": (cutover, "drain"),
    "the end of the old slot": (cutover, "pause_or_stop"),
    "pruning": (store, "prune"),
    "the manifest": (manifest, "read"),
}
ERRORS: dict[str, Callable[[], Exception]] = {
    "an unexpected error": lambda: ValueError(f"could not be cast: {CANARY}"),
    "one that another led to": lambda: _chained(),
    "what a program printed": lambda: FailedError(
        "It failed.", f"input_value='{CANARY}' and me:{CANARY}@host, and https://me:{BUILD}@pypi.example"
    ),
}


def _chained() -> Exception:
    error = RuntimeError("second")
    error.__cause__ = KeyError(CANARY)
    return error


@pytest.mark.parametrize("as_json", [False, True], ids=["for people", "for programs"])
@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
@pytest.mark.parametrize(("module", "name"), STEPS.values(), ids=STEPS)
def test_a_step_that_fails_shows_no_value_of_a_variable(
    host: Host,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    module: Any,
    name: str,
    error: Callable[[], Exception],
    as_json: bool,
) -> None:
    deployed(host, V1)
    host.history.append(manifest.Revision("0002", ""))
    host.heads = ["0002"]
    variables = dict.fromkeys(("PLAIN", "SECRET_KEY", "TWO"), CANARY)
    variables["DATABASE_URL"] = f"postgresql+asyncpg://me:{CANARY}@/logbook"
    host.settings.env_file.write_text(envfile.render(variables))
    host.settings.migrate_env_file.write_text(envfile.render({"DATABASE_URL": variables["DATABASE_URL"]}))
    monkeypatch.setattr(config, "SETTINGS_DIRECTORY", tmp_path)
    host.settings.build_env_file.write_text(envfile.render({"UV_INDEX": f"https://me:{BUILD}@pypi.example/simple"}))
    host.settings.logbook_token_file.write_text(f"{TOKEN}\n")
    host.settings.health_headers_file.write_text(json.dumps({"X-Key": TOKEN}))
    host.settings.hooks_file.write_text(
        json.dumps({"hooks": [{"on": ["opened"], "url": f"https://127.0.0.1:1/{TOKEN}"}]})
    )
    monkeypatch.setenv(systemd.INSIDE, "1")
    monkeypatch.setattr(config, "load", lambda _: host.settings)
    called = []

    def fails(*_: Any, **__: Any) -> NoReturn:
        called.append(name)
        raise error()

    monkeypatch.setattr(module, name, fails)
    tag, sha = V2
    command = ["deploy", "logbook", "--sha", sha, "--tag", tag, *(["--json"] if as_json else [])]
    code = parser.main(command)
    assert called, "the step was not reached"
    printed = "".join(capfd.readouterr())
    kept = "".join(path.read_text() for path in crash.HOST_DIRECTORY.glob("*"))
    written = host.settings.journal.read_text()
    assert [canary for canary in (CANARY, BUILD, TOKEN) if canary in printed + kept + written] == []
    assert process.tail(printed) != ""
    assert code != 0 or name in ("drain", "pause_or_stop", "prune"), "what comes after the switch is only reported"
