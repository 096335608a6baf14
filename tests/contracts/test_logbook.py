"""The reports of the engine, sent to a real Logbook on SQLite."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
import yaml

from app.main import create_app
from app.settings import Settings
from hosts.scratch import PROJECT
from slipway.base import settings as config
from slipway.observers import logbook
from slipway.records import journal
from slipway.records.deployment import Deployment
from tests.settings import written

pytestmark = pytest.mark.slow  # they start the app as a server

SHA = "5f2c1d9a7b3e4f60c8d21a9be07f4c6d3a5b8e12"


@pytest.fixture(scope="module")
def database_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    url = f"sqlite+aiosqlite:///{tmp_path_factory.mktemp('logbook')}/logbook.sqlite3"
    _run(url, "alembic", "upgrade", "head")
    return url


def _run(url: str, *module: str) -> str:
    environment = {**os.environ, "DATABASE_URL": url}
    command = [sys.executable, "-m", *module]
    done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def site(database_url: str) -> Iterator[str]:
    """The address of the app."""
    app = create_app(Settings(database_url=database_url, _env_file=None))
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


@pytest.fixture(scope="module")
def token(database_url: str) -> str:
    """Create a token as in docs/operating.md, and read it like `make demo`: the last line."""
    return _run(database_url, "app.tokens", "create", "--name", "slipway", "--scope", "write").splitlines()[-1]


@pytest.fixture
def settings(site: str, token: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> config.Settings:
    monkeypatch.setattr(config, "SETTINGS_DIRECTORY", tmp_path)
    (tmp_path / "logbook.logbook-token").write_text(token)
    told = {"logbook_url": site, "logbook_repository_url": "ssh://git@git.example.com/logbook.git"}
    return config.parse(written(tmp_path, workers=1, **told), "test")


def opened(number: int, **values: Any) -> Deployment:
    made = {
        "id": f"{time.monotonic_ns():x}",
        "action": "deploy",
        "owner": "alice@laptop (pid 4711, run 90210-4026531836)",
        "release": "v1-5f2c1d9a7b3e",
        "tag": "v1",
        "sha": SHA,
        "from_slot": None,
        "from_release": None,
        "to_slot": "blue",
        "opened_at": f"2026-11-25T10:00:{number:02}.000+00:00",
    }
    return Deployment(**{**made, **values})


def closed(deployment: Deployment, outcome: str, message: str = "", *, switched: bool = False) -> journal.Entry:
    return journal.Entry(
        deployment=deployment.id,
        action=deployment.action,
        phase=journal.RESULT,
        outcome=outcome,
        release=deployment.release,
        tag=deployment.tag,
        sha=deployment.sha,
        owner=deployment.owner,
        message=message,
        at=f"{deployment.opened_at[:20]}900+00:00",
        detail={"receipt": {"phases": {"stage": 0.25, "cut-over": 0.5}}, "switched": switched},
    )


def test_the_logbook_shows_the_deployments_that_the_engine_reports(
    settings: config.Settings, site: str, token: str
) -> None:
    first, second, third = opened(1), opened(2, tag="v2"), opened(3, tag=None, action="rollback")
    fourth = opened(4, tag="v" + "9" * 200, owner="\x1b[2J" + "o" * 300)
    ends = [
        (first, closed(first, "succeeded", "v1 is live in 1.0 s, 0 of 0 requests failed.")),
        (second, closed(second, "failed", "v2 took traffic, but 9 of 20 requests failed.", switched=True)),
        (third, closed(third, "reverted", "undone by request")),
        (fourth, closed(fourth, "failed", "\0" + "x" * 10_000)),
    ]
    for deployment, entry in ends:
        observer = logbook.Logbook(settings)
        assert observer.opened(deployment) == ""
        assert observer.closed(deployment, entry) == ""
    assert logbook.waiting(settings) == (0, "")
    answer = httpx.get(f"{site}/api/v1/deployments", headers={"Authorization": f"Bearer {token}"})
    shown = answer.json()["items"][::-1]
    assert [(item["kind"], item["version"][:12], item["status"]) for item in shown] == [
        ("deploy", "v1", "succeeded"),
        ("deploy", "v2", "rolled_back"),
        ("rollback", SHA[:12], "failed"),
        ("deploy", "v99999999999", "failed"),
    ]
    whole = {name: shown[0][name] for name in ("service", "environment", "commit", "actor", "seconds", "phases")}
    assert whole == {
        "service": "logbook",
        "environment": "prod",
        "commit": SHA,
        "actor": "alice@laptop",
        "seconds": 0.9,
        "phases": {"stage": 0.25, "cut-over": 0.5},
    }
    assert shown[0]["detail"] == "v1 is live in 1.0 s, 0 of 0 requests failed."


def test_a_report_sent_twice_is_recorded_once(settings: config.Settings, site: str, token: str) -> None:
    made = opened(30, tag="again")
    entry = closed(made, "succeeded")
    for _ in range(2):
        assert logbook.Logbook(settings).closed(made, entry) == ""
    other = closed(made, "failed")
    assert "refused the report of again: answered 409" in logbook.Logbook(settings).closed(made, other)
    answer = httpx.get(
        f"{site}/api/v1/deployments", params={"version": "again"}, headers={"Authorization": f"Bearer {token}"}
    )
    assert [item["status"] for item in answer.json()["items"]] == ["succeeded"]


def test_a_token_that_was_revoked_leaves_the_report_in_the_outbox(settings: config.Settings, database_url: str) -> None:
    lost = _run(database_url, "app.tokens", "create", "--name", "lost", "--scope", "write").splitlines()[-1]
    listed = _run(database_url, "app.tokens", "list").splitlines()
    number = next(line.split()[0] for line in listed if " lost, " in line)
    _run(database_url, "app.tokens", "revoke", number)
    settings.logbook_token_file.write_text(lost)
    made = opened(40)
    assert "1 report waits for the Logbook" in logbook.Logbook(settings).closed(made, closed(made, "succeeded"))
    assert "answered 401" in logbook.waiting(settings)[1]


@pytest.mark.parametrize("environment", ["prod", "staging", "local"])
def test_the_app_refuses_the_auth_check_request(site: str, environment: str) -> None:
    inventory = PROJECT / f"inventories/{environment}/group_vars/{environment}/main.yml"
    method, path = yaml.safe_load(inventory.read_text())["apps"]["logbook"]["auth_check"].split()
    assert httpx.request(method, f"{site}{path}", json={}).status_code == 401
