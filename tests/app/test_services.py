from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import event

from app.database import Session
from app.models import Service

SERVICE = {"name": "billing", "repository_url": "https://git.example.com/billing", "description": "Bills"}
PROBLEM = "application/problem+json"


async def _create(client: httpx.AsyncClient, **changes: Any) -> httpx.Response:
    return await client.post("/api/v1/services", json=SERVICE | changes)


async def test_a_service_is_created_read_changed_and_deleted(client: httpx.AsyncClient) -> None:
    created = await _create(client)
    assert created.status_code == 201
    path = created.headers["location"]
    shown = (await client.get(path)).json()
    assert shown == created.json()
    assert {key: shown[key] for key in SERVICE} == SERVICE
    age = datetime.now(UTC) - datetime.fromisoformat(shown["created_at"])
    assert abs(age) < timedelta(minutes=1), "times have a zone, and it is right"

    changed = await client.patch(path, json={"description": "Pays"})
    assert changed.json() == shown | {"description": "Pays"}
    assert (await client.get(path)).json() == changed.json()

    assert (await client.delete(path)).status_code == 204
    assert (await client.get(path)).status_code == 404


async def test_pages_of_services_are_bounded_and_continue(client: httpx.AsyncClient) -> None:
    ids = [(await _create(client, name=f"s{number}")).json()["id"] for number in range(5)]
    seen: list[int] = []
    after: int | None = 0
    while after is not None:
        page = (await client.get("/api/v1/services", params={"limit": 2, "after": after})).json()
        assert len(page["items"]) <= 2
        seen += [item["id"] for item in page["items"]]
        after = page["next_after"]
    assert seen == ids
    assert (await client.get("/api/v1/services", params={"limit": 101})).status_code == 422


async def test_a_taken_name_is_a_conflict(client: httpx.AsyncClient) -> None:
    await _create(client)
    other = (await _create(client, name="other")).headers["location"]
    for answer in (await _create(client), await client.patch(other, json={"name": "billing"})):
        assert answer.status_code == 409
        assert answer.headers["content-type"] == PROBLEM
        assert "'billing'" in answer.json()["detail"]


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
async def test_what_is_not_there_is_a_problem(client: httpx.AsyncClient, method: str) -> None:
    answer = await client.request(method, "/api/v1/services/404", json={} if method == "PATCH" else None)
    assert (answer.status_code, answer.headers["content-type"]) == (404, PROBLEM)


@pytest.mark.parametrize(
    "change",
    [
        {"name": "Not A Name"},
        {"name": ""},
        {"repository_url": "no url"},
        {"description": "x" * 2001},
        {"description": "nul\x00"},
        {"unknown": 1},
    ],
)
async def test_invalid_input_is_named_without_its_value(client: httpx.AsyncClient, change: dict[str, Any]) -> None:
    answer = await _create(client, **change)
    assert (answer.status_code, answer.headers["content-type"]) == (422, PROBLEM)
    assert next(iter(change)) in str(answer.json()["errors"])
    assert "input" not in answer.json()["errors"][0]


async def test_null_does_not_change_a_field(client: httpx.AsyncClient) -> None:
    created = await _create(client)
    changed = await client.patch(created.headers["location"], json={"name": None, "description": "Pays"})
    assert changed.json() == created.json() | {"description": "Pays"}


@pytest.mark.parametrize(("path", "status"), [("/nowhere", 404), ("/health/live", 405)])
async def test_errors_of_the_framework_are_problems_too(client: httpx.AsyncClient, path: str, status: int) -> None:
    answer = await client.delete(path)
    assert (answer.status_code, answer.headers["content-type"]) == (status, PROBLEM)


async def test_a_failed_request_is_rolled_back(app: FastAPI, client: httpx.AsyncClient) -> None:
    @app.post("/test/fails")
    async def fails(session: Session) -> None:
        session.add(Service(**SERVICE))
        await session.flush()
        raise RuntimeError("after the write")

    assert (await client.post("/test/fails")).status_code == 500
    assert (await client.get("/api/v1/services")).json()["items"] == []


async def test_a_commit_that_fails_is_seen_by_the_client(app: FastAPI, client: httpx.AsyncClient) -> None:
    """The commit is made before the response is sent. Otherwise the answer would be 200."""

    @app.post("/test/commit-fails")
    async def commit_fails(session: Session) -> str:
        session.add(Service(**SERVICE))
        event.listen(session.sync_session, "before_commit", _fail)
        return "done"

    def _fail(_: object) -> None:
        raise RuntimeError("the disk is full")

    assert (await client.post("/test/commit-fails")).status_code == 500
    assert (await client.get("/api/v1/services")).json()["items"] == []
