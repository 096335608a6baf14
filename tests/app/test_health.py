from __future__ import annotations

import os

import httpx
import pytest
from fastapi import FastAPI

from app.main import create_app
from app.settings import Settings

from .conftest import Server


async def test_live_depends_on_nothing(client: httpx.AsyncClient) -> None:
    assert (await client.get("/health/live")).json() == {"status": "live"}


async def test_ready_says_which_release_and_which_worker(client: httpx.AsyncClient) -> None:
    answer = await client.get("/health/ready")
    assert answer.json() == {"status": "ready", "release": "v1.2.0", "sha": "a" * 40, "pid": os.getpid()}


@pytest.fixture(params=["nowhere", "full"])
def unusable_database(request: pytest.FixtureRequest, server: Server, migrated_postgresql: str) -> str:
    """A server that is not there, and one that has no connection left for us."""
    if request.param == "nowhere":
        return f"{migrated_postgresql}-nowhere"
    return migrated_postgresql.replace("logbook@", f"{server.create_role(connections=0)}@")


async def test_without_a_database_it_is_alive_and_not_ready(unusable_database: str) -> None:
    app = create_app(Settings(database_url=unusable_database, _env_file=None))
    async with app.router.lifespan_context(app), _client(app) as client:
        assert (await client.get("/health/live")).status_code == 200
        for path in ("/health/ready", "/api/v1/services"):
            answer = await client.get(path)
            assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")


async def test_a_mistake_of_ours_is_a_problem_detail_that_gives_nothing_away(app: FastAPI) -> None:
    @app.get("/broken")
    async def broken() -> None:
        raise RuntimeError("the secret of the tests")

    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="https://logbook.test") as client:
        answer = await client.get("/broken")
    assert (answer.status_code, answer.headers["content-type"]) == (500, "application/problem+json")
    assert "secret" not in answer.text


async def test_it_recovers_when_postgresql_comes_back(server: Server, migrated_postgresql: str) -> None:
    app = create_app(Settings(database_url=migrated_postgresql, _env_file=None))
    async with app.router.lifespan_context(app), _client(app) as client:
        assert (await client.get("/health/ready")).status_code == 200
        server.stop()
        try:
            assert (await client.get("/health/ready")).status_code == 503
            assert (await client.get("/api/v1/services")).status_code == 503
        finally:
            server.start()
        assert (await client.get("/health/ready")).status_code == 200
        assert (await client.get("/api/v1/services")).status_code == 200


def _client(app: FastAPI) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="https://logbook.test")
