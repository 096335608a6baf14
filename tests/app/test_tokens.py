from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import alembic.command
import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import select, update

from app.models import ApiToken
from app.schemas.token import Scope
from app.settings import get_settings
from app.tokens import main

from .conftest import PROJECT, client_of, make_token
from .conftest import alembic as configuration

SERVICES = "/api/v1/services"
TOKENS = "/api/v1/tokens"
SERVICE = {"name": "billing", "repository_url": "https://git.example.com/billing"}


@pytest.mark.parametrize(
    ("method", "path", "needs"),
    [
        ("GET", SERVICES, Scope.READ),
        ("GET", f"{SERVICES}/404", Scope.READ),
        ("POST", SERVICES, Scope.WRITE),
        ("PATCH", f"{SERVICES}/404", Scope.WRITE),
        ("DELETE", f"{SERVICES}/404", Scope.WRITE),
        ("GET", "/api/v1/deployments", Scope.READ),
        ("GET", "/api/v1/deployments/live", Scope.READ),
        ("GET", "/api/v1/deployments/404", Scope.READ),
        ("POST", "/api/v1/deployments", Scope.WRITE),
        ("POST", "/api/v1/deployments/404/finish", Scope.WRITE),
        ("GET", "/api/v1/figures", Scope.READ),
        ("GET", TOKENS, Scope.ADMIN),
        ("POST", TOKENS, Scope.ADMIN),
        ("DELETE", f"{TOKENS}/404", Scope.ADMIN),
    ],
)
async def test_every_route_requires_a_token_of_its_scope(app: FastAPI, method: str, path: str, needs: Scope) -> None:
    async with client_of(app) as anonymous:
        answer = await anonymous.request(method, path, json={})
    assert (answer.status_code, answer.json()["type"]) == (401, "/problems/unauthorized")
    assert answer.headers["www-authenticate"] == "Bearer"
    for scope in Scope:
        async with client_of(app, await make_token(app, scope)) as client:
            answer = await client.request(method, path, json={})
        refused = answer.status_code == 403
        assert refused is not scope.includes(needs), f"{scope}: {answer.text}"


async def test_every_route_of_the_api_is_in_the_list_above(app: FastAPI) -> None:
    """No other test would find a new route that does not require a token."""
    listed = {
        (method, path.replace("404", "{id}"))
        for method, path, _ in test_every_route_requires_a_token_of_its_scope.pytestmark[0].args[1]  # type: ignore[attr-defined]  # of pytest
    }
    documented = set()
    for path, operations in app.openapi()["paths"].items():
        if path.startswith("/api/"):
            plain = "/".join("{id}" if part.startswith("{") else part for part in path.split("/"))
            documented |= {(method.upper(), plain) for method in operations}
    assert documented == listed


@pytest.mark.parametrize("change", ["secret", "key", "shape", "scheme"])
async def test_an_almost_valid_token_is_refused(app: FastAPI, change: str) -> None:
    token = await make_token(app)
    key, secret = token.removeprefix("lb_").split("_", 1)
    header = {
        "secret": f"Bearer lb_{key}_{'A' * 43 if secret[0] != 'A' else 'B' * 43}",
        "key": f"Bearer lb_{'0' * 16}_{secret}",
        "shape": f"Bearer {secret}",
        "scheme": f"Basic {token}",
    }[change]
    async with client_of(app) as client:
        answer = await client.get(SERVICES, headers={"Authorization": header})
    assert answer.status_code == 401
    assert secret not in answer.text


async def test_an_admin_creates_lists_and_revokes_tokens(app: FastAPI, client: httpx.AsyncClient) -> None:
    created = (await client.post(TOKENS, json={"name": "ci", "scope": "write"})).json()
    async with client_of(app, created["token"]) as made:
        assert (await made.post(SERVICES, json=SERVICE)).status_code == 201
        listed = (await client.get(TOKENS)).json()["items"][-1]
        assert (listed["name"], listed["scope"], listed["revoked_at"]) == ("ci", "write", None)
        assert "token" not in listed
        for _ in range(2):
            assert (await client.delete(f"{TOKENS}/{created['id']}")).status_code == 204
        assert (await made.get(SERVICES)).status_code == 401, "revocation works at once"
    assert (await client.get(TOKENS)).json()["items"][-1]["revoked_at"]
    assert (await client.delete(f"{TOKENS}/404")).status_code == 404


async def test_only_a_hash_of_a_token_is_stored(app: FastAPI) -> None:
    token = await make_token(app)
    async with app.state.reads() as session:
        row = (await session.scalars(select(ApiToken))).one()
    stored = [str(getattr(row, column.key)) for column in ApiToken.__table__.columns]
    assert not [value for value in stored if token.split("_", 2)[2] in value]


async def test_the_last_use_has_a_precision_of_one_minute(app: FastAPI) -> None:
    async with client_of(app, await make_token(app)) as client:

        async def last_used() -> datetime:
            await client.get(SERVICES)
            text = (await client.get(TOKENS)).json()["items"][0]["last_used_at"]
            return datetime.fromisoformat(text)

        first = await last_used()
        assert abs(datetime.now(UTC) - first) < timedelta(minutes=1)
        assert await last_used() == first, "a read is no write each time"
        async with app.state.writes() as session, session.begin():
            await session.execute(update(ApiToken).values(last_used_at=first - timedelta(minutes=2)))
        assert await last_used() > first


class Command:
    """Run `python -m app.tokens` on a database; its exit code and its output."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def __call__(self, url: str, *arguments: str) -> tuple[int, str, str]:
        self._monkeypatch.setenv("DATABASE_URL", url)
        get_settings.cache_clear()
        self._capsys.readouterr()
        code = main(arguments)
        printed = self._capsys.readouterr()
        return code, printed.out, printed.err


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Command]:
    yield Command(monkeypatch, capsys)
    get_settings.cache_clear()


async def test_the_command_creates_lists_and_revokes_tokens(committing_app: FastAPI, command: Command) -> None:
    async def run(*arguments: str) -> str:
        # In a thread, as it has an event loop of its own.
        code, output, errors = await asyncio.to_thread(command, committing_app.state.settings.database_url, *arguments)
        assert (code, errors) == (0, "")
        return output

    token = (await run("create", "--name", "by hand", "--scope", "read")).strip()
    async with client_of(committing_app, token) as client:
        assert (await client.get(SERVICES)).status_code == 200
        number = (await run("list")).split()[0]
        assert await run("revoke", number) == "by hand is revoked.\n"
        assert (await client.get(SERVICES)).status_code == 401
    listed = await run("list")
    assert "read   by hand, last used" in listed
    assert ", revoked" in listed


def test_the_command_prints_errors_as_one_sentence(command: Command, tmp_path: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path}/empty.sqlite3"
    code, _, unmigrated = command(url, "list")
    assert (code, unmigrated.count("\n")) == (1, 1)
    assert "alembic upgrade head" in unmigrated
    alembic.command.upgrade(configuration(url), "head")
    for arguments, said in (
        (["create", "--name", "", "--scope", "read"], "--name: "),
        (["revoke", "404"], "There is no token 404."),
    ):
        code, output, errors = command(url, *arguments)
        assert (code, output) == (1, "")
        assert said in errors
    with pytest.raises(SystemExit, match="2"):
        command(url, "create", "--name", "x", "--scope", "root")


def test_the_command_names_a_setting_that_is_wrong(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_POOL_SIZE", "none")
    code, _, errors = command("", "list")
    assert (code, errors.startswith("DATABASE_POOL_SIZE is wrong")) == (1, True)


def test_it_runs_as_a_module() -> None:
    done = subprocess.run([sys.executable, "-m", "app.tokens", "--help"], cwd=PROJECT, capture_output=True, check=True)
    assert b"python -m app.tokens" in done.stdout
