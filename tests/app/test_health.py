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


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=False)
async def test_without_a_database_it_is_alive_and_not_ready(database_url: str, server: Server) -> None:
    del database_url
    app = create_app(Settings(database_url=f"{server.url('logbook')}-nowhere", _env_file=None))
    async with app.router.lifespan_context(app), _client(app) as client:
        assert (await client.get("/health/live")).status_code == 200
        for path in ("/health/ready", "/api/v1/services"):
            answer = await client.get(path)
            assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")


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
