"""Concurrent requests, on PostgreSQL, where one request sees what another has committed."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import delete, text

from app.database import Session
from app.models import Service

from .conftest import client_of, make_token

API = "/api/v1/deployments"
DEPLOYMENT = {"service": "billing", "environment": "prod", "version": "v1", "commit": "a" * 40, "actor": "ci"}


@pytest.fixture
async def client(committing_app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(committing_app, await make_token(committing_app)) as made:
        await made.post(
            "/api/v1/services", json={"name": "billing", "repository_url": "https://git.example.com/billing"}
        )
        yield made


async def test_two_different_finishes_at_once_give_one_conflict(client: httpx.AsyncClient) -> None:
    for _ in range(5):
        path = (await client.post(API, json=DEPLOYMENT)).headers["location"]
        ends = ["succeeded", "failed"]
        answers = await asyncio.gather(*(client.post(f"{path}/finish", json={"status": end}) for end in ends))
        assert sorted(answer.status_code for answer in answers) == [200, 409]
        won = next(answer.json() for answer in answers if answer.status_code == 200)
        assert (await client.get(path)).json() == won


async def test_twenty_clients_with_one_key_record_one_deployment(client: httpx.AsyncClient) -> None:
    headers = {"Idempotency-Key": "the-same"}
    answers = await asyncio.gather(*(client.post(API, json=DEPLOYMENT, headers=headers) for _ in range(20)))
    assert Counter(answer.status_code for answer in answers) == {201: 1, 200: 19}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert len((await client.get(API)).json()["items"]) == 1


async def test_a_service_name_used_by_many_clients_at_once_is_created_once(client: httpx.AsyncClient) -> None:
    wanted = {"name": "shop", "repository_url": "https://git.example.com/shop"}
    answers = await asyncio.gather(*(client.post("/api/v1/services", json=wanted) for _ in range(10)))
    assert Counter(answer.status_code for answer in answers) == {201: 1, 409: 9}


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", API, DEPLOYMENT),
        ("PATCH", "/api/v1/services/1", {"description": "Pays"}),
        ("DELETE", "/api/v1/services/1", None),
    ],
)
async def test_requests_for_a_service_deleted_meanwhile_are_not_found(
    committing_app: FastAPI, client: httpx.AsyncClient, method: str, path: str, body: dict[str, str] | None
) -> None:
    async with committing_app.state.writes() as session, session.begin():
        await session.execute(delete(Service))
        asked = asyncio.create_task(client.request(method, path, json=body))
        await asyncio.wait_for(_somebody_waits(committing_app), 10)
    answer = await asked
    assert (answer.status_code, answer.json()["type"]) == (404, "/problems/not-found")


async def _somebody_waits(app: FastAPI) -> None:
    waiting = text("SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")
    while True:
        async with app.state.reads() as session:
            if await session.scalar(waiting):
                return
        await asyncio.sleep(0.02)


async def test_no_free_connection_is_unavailable_and_recovers(
    committing_app: FastAPI, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(committing_app.state.engine.sync_engine.pool, "_timeout", 0.2)
    all_in_use, may_end = asyncio.Event(), asyncio.Event()
    held = 0

    @committing_app.post("/test/hold")
    async def hold(session: Session) -> None:
        nonlocal held
        held += 1
        session.add(Service(name=f"held-{held}", repository_url="https://git.example.com/held"))
        await session.flush()
        if held == committing_app.state.settings.database_pool_size:
            all_in_use.set()
        await may_end.wait()

    size = committing_app.state.settings.database_pool_size
    holders = [asyncio.create_task(client.post("/test/hold")) for _ in range(size)]
    await asyncio.wait_for(all_in_use.wait(), 10)
    for answer in (await client.get("/api/v1/services"), await client.post(API, json=DEPLOYMENT)):
        assert (answer.status_code, answer.json()["type"]) == (503, "/problems/unavailable")
        assert answer.headers["retry-after"]
    may_end.set()
    assert [(await holder).status_code for holder in holders] == [200] * size
    assert (await client.post(API, json=DEPLOYMENT)).status_code == 201
    assert len((await client.get(API)).json()["items"]) == 1, "what was refused was not recorded"
