from __future__ import annotations

import os

import httpx
import pytest
from fastapi import FastAPI

from app.main import create_app

from .conftest import Server, client_of, make_settings, make_token

TOKEN = f"lb_{'0' * 16}_{'A' * 43}"  # has the shape of one; nobody is asked for more before the database is


async def test_live_depends_on_nothing(client: httpx.AsyncClient) -> None:
    assert (await client.get("/health/live")).json() == {"status": "live"}


async def test_ready_has_release_and_worker(client: httpx.AsyncClient) -> None:
    answer = await client.get("/health/ready")
    assert answer.json() == {"status": "ready", "release": "v1.2.0", "sha": "a" * 40, "pid": os.getpid()}


@pytest.fixture(params=["nowhere", "full"])
def unusable_database(request: pytest.FixtureRequest, server: Server, migrated_postgresql: str) -> str:
    """A server that does not run, and one that has no free connection."""
    if request.param == "nowhere":
        return f"{migrated_postgresql}-nowhere"
    return migrated_postgresql.replace("logbook@", f"{server.create_role(connections=0)}@")


async def test_without_a_database_it_is_live_but_not_ready(unusable_database: str) -> None:
    app = create_app(make_settings(unusable_database))
    async with app.router.lifespan_context(app), client_of(app, TOKEN) as client:
        assert (await client.get("/health/live")).status_code == 200
        for path in ("/health/ready", "/api/v1/services"):
            answer = await client.get(path)
            assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")


@pytest.mark.parametrize("kind", [RuntimeError, FileNotFoundError])  # that one says nothing about the database
async def test_an_unhandled_error_is_a_problem_detail_without_internals(app: FastAPI, kind: type[Exception]) -> None:
    @app.get("/broken")
    async def broken() -> None:
        raise kind("the secret of the tests")

    async with client_of(app) as client:
        answer = await client.get("/broken")
    assert (answer.status_code, answer.headers["content-type"]) == (500, "application/problem+json")
    assert "secret" not in answer.text


async def test_it_recovers_when_postgresql_comes_back(server: Server, committing_app: FastAPI) -> None:
    async with client_of(committing_app, await make_token(committing_app)) as client:
        assert (await client.get("/health/ready")).status_code == 200
        server.stop()
        try:
            assert (await client.get("/health/ready")).status_code == 503
            answer = await client.get("/api/v1/services")
            assert (answer.status_code, answer.json()["type"]) == (503, "/problems/unavailable")
        finally:
            server.start()
        assert (await client.get("/health/ready")).status_code == 200
        assert (await client.get("/api/v1/services")).status_code == 200
