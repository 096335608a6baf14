from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from app.schemas.token import Scope

from .conftest import client_of, make_token

BEGAN = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)
DEPLOYMENT = {
    "service": "billing",
    "environment": "prod",
    "host": "app1",
    "version": "v1.4.0",
    "commit": "5f2c1d9a7b3e",
    "actor": "alice@workstation",
}
API = "/api/v1/deployments"


@pytest.fixture(autouse=True)
async def service(client: httpx.AsyncClient) -> None:
    for name in ("billing", "shop"):
        wanted = {"name": name, "repository_url": f"https://git.example.com/{name}"}
        assert (await client.post("/api/v1/services", json=wanted)).status_code == 201


async def _begin(client: httpx.AsyncClient, key: str = "", **changes: Any) -> httpx.Response:
    headers = {"Idempotency-Key": key} if key else {}
    return await client.post(API, json=DEPLOYMENT | changes, headers=headers)


async def _end(client: httpx.AsyncClient, begun: httpx.Response, status: str, **more: Any) -> httpx.Response:
    return await client.post(f"{begun.headers['location']}/finish", json={"status": status, **more})


async def _deploy(client: httpx.AsyncClient, version: str, minute: int, status: str = "succeeded", **more: Any) -> str:
    """The path of a deployment that began `minute` minutes after BEGAN, and took half a minute."""
    at = BEGAN + timedelta(minutes=minute)
    begun = await _begin(client, version=version, started_at=at.isoformat(), **more)
    ended = await _end(client, begun, status, finished_at=(at + timedelta(seconds=30)).isoformat())
    assert ended.status_code == 200, ended.text
    return begun.headers["location"]


async def test_a_deployment_is_recorded_finished_and_read(client: httpx.AsyncClient) -> None:
    begun = await _begin(client, started_at="2026-11-02T10:00:00+01:00", detail="by hand")
    assert begun.status_code == 201
    assert {key: begun.json()[key] for key in DEPLOYMENT} == DEPLOYMENT
    assert (begun.json()["status"], begun.json()["kind"]) == ("started", "deploy")
    assert begun.json()["started_at"] == "2026-11-02T09:00:00Z"

    ended = await _end(
        client, begun, "succeeded", finished_at="2026-11-02T09:00:12.5Z", phases={"warm": 1.7}, detail="0 failed"
    )
    assert ended.json() == begun.json() | {
        "status": "succeeded",
        "finished_at": "2026-11-02T09:00:12.500000Z",
        "seconds": 12.5,
        "phases": {"warm": 1.7},
        "detail": "0 failed",
    }
    assert (await client.get(begun.headers["location"])).json() == ended.json()


async def test_times_default_to_now(client: httpx.AsyncClient) -> None:
    ended = (await _end(client, await _begin(client), "failed")).json()
    for name in ("started_at", "finished_at"):
        assert abs(datetime.now(UTC) - datetime.fromisoformat(ended[name])) < timedelta(minutes=1)


async def test_finishing_twice_is_idempotent_and_another_status_a_conflict(client: httpx.AsyncClient) -> None:
    begun = await _begin(client)
    ended = await _end(client, begun, "failed", detail="the first time")
    assert (await _end(client, begun, "failed", detail="once more")).json() == ended.json()
    other = await _end(client, begun, "succeeded")
    assert (other.status_code, other.json()["type"]) == (409, "/problems/conflict")
    assert (await client.get(begun.headers["location"])).json() == ended.json()


async def test_no_deployment_ends_before_it_began(client: httpx.AsyncClient) -> None:
    begun = await _begin(client, started_at="2026-11-02T09:00:00Z")
    answer = await _end(client, begun, "failed", finished_at="2026-11-02T08:59:59Z")
    assert answer.status_code == 409
    assert (await client.get(begun.headers["location"])).json()["status"] == "started"


async def test_an_idempotency_key_records_once(client: httpx.AsyncClient) -> None:
    first = await _begin(client, key="one")
    again = await _begin(client, key="one")
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == first.json()
    changed = await _begin(client, key="one", version="v2")
    assert (changed.status_code, changed.json()["type"]) == (409, "/problems/idempotency-key-reused")
    assert len((await client.get(API)).json()["items"]) == 1


async def test_an_idempotency_key_belongs_to_its_token(app: FastAPI, client: httpx.AsyncClient) -> None:
    first = await _begin(client, key="one")
    async with client_of(app, await make_token(app, Scope.WRITE)) as other:
        second = await _begin(other, key="one")
    assert second.status_code == 201
    assert second.json()["id"] != first.json()["id"]


async def test_a_deployment_of_an_unknown_service_is_not_found(client: httpx.AsyncClient) -> None:
    answer = await _begin(client, service="unknown")
    assert (answer.status_code, answer.json()["type"]) == (404, "/problems/not-found")
    assert "POST /api/v1/services" in answer.json()["detail"]


async def test_a_service_with_deployments_cannot_be_deleted(client: httpx.AsyncClient) -> None:
    await _begin(client)
    path = f"/api/v1/services/{(await client.get('/api/v1/services')).json()['items'][0]['id']}"
    assert (await client.delete(path)).status_code == 409
    assert (await client.get(path)).status_code == 200


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"environment": "Not One"}, "environment"),
        ({"commit": "no hex"}, "commit"),
        ({"version": "with space"}, "version"),
        ({"actor": ""}, "actor"),
        ({"kind": "guess"}, "kind"),
        ({"started_at": "2026-11-02T09:00:00"}, "started_at"),
        ({"started_at": 1793610000}, "started_at"),
        ({"detail": "nul\x00"}, "detail"),
        ({"unknown": 1}, "unknown"),
    ],
)
async def test_bad_input_is_named(client: httpx.AsyncClient, change: dict[str, Any], named: str) -> None:
    answer = await _begin(client, **change)
    assert answer.status_code == 422
    assert [error["loc"][-1] for error in answer.json()["errors"]] == [named]


async def test_pages_continue_although_new_deployments_are_added(client: httpx.AsyncClient) -> None:
    paths = [await _deploy(client, f"v{number}", minute=number) for number in range(5)]
    # Two that began in the same instant are told apart by their ids.
    paths.append(await _deploy(client, "v4b", minute=4))
    seen: list[str] = []
    before: dict[str, str] = {}
    for _ in paths:
        page = (await client.get(API, params={"limit": "2", **before})).json()
        seen += [f"{API}/{item['id']}" for item in page["items"]]
        await _deploy(client, "later", minute=60 + len(seen))
        if page["next_before"] is None:
            break
        before = {"before": page["next_before"]}
    assert seen == paths[::-1]


@pytest.mark.parametrize("cursor", ["x", "1-", "1-1-1", "1-99999999999999999999", "\u0661-1"])
async def test_an_invalid_cursor_is_refused(client: httpx.AsyncClient, cursor: str) -> None:
    answer = await client.get(API, params={"before": cursor})
    assert (answer.status_code, answer.json()["errors"][0]["loc"]) == (422, ["query", "before"])


@pytest.mark.parametrize(
    ("cursor", "count"), [("999999999999999999-9999999999999999999", 2), ("-999999999999999999-0", 0)]
)
async def test_a_cursor_out_of_range_is_the_first_or_last_page(
    client: httpx.AsyncClient, cursor: str, count: int
) -> None:
    for at in ("0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59.999999-01:00"):
        assert (await _begin(client, started_at=at)).status_code == 201
    page = (await client.get(API, params={"before": cursor})).json()
    assert len(page["items"]) == count


@pytest.mark.parametrize(
    ("where", "versions"),
    [
        ({"service": "shop"}, ["v2"]),
        ({"environment": "staging"}, ["v3"]),
        ({"host": "app2"}, ["v4"]),
        ({"version": "v1"}, ["v1"]),
        ({"status": "failed"}, ["v5"]),
        ({"kind": "rollback"}, ["v6"]),
        ({"since": (BEGAN + timedelta(minutes=4)).isoformat()}, ["v6", "v5"]),
        ({"service": "billing", "environment": "prod", "host": "app1", "status": "rolled_back"}, ["v1"]),
        ({"service": "shop", "environment": "staging"}, []),
    ],
)
async def test_a_list_can_be_filtered(client: httpx.AsyncClient, where: dict[str, str], versions: list[str]) -> None:
    await _deploy(client, "v1", minute=0)
    await _deploy(client, "v2", minute=1, service="shop")
    await _deploy(client, "v3", minute=2, environment="staging")
    await _deploy(client, "v4", minute=3, host="app2")
    await _deploy(client, "v5", minute=4, status="failed")
    await _deploy(client, "v6", minute=5, kind="rollback", status="succeeded")
    found = (await client.get(API, params=where)).json()
    assert [item["version"] for item in found["items"]] == versions


async def test_live_is_the_last_successful_deployment_on_each_host(client: httpx.AsyncClient) -> None:
    await _deploy(client, "v1", minute=0)
    await _deploy(client, "v2", minute=1)
    await _deploy(client, "v3", minute=2, status="failed")
    await _begin(client, version="v4")
    await _deploy(client, "v1", minute=3, host="app2")
    await _deploy(client, "v1", minute=4, environment="staging")
    await _deploy(client, "v9", minute=5, service="shop")

    async def live(**where: str) -> list[tuple[str, str, str, str]]:
        items = (await client.get(f"{API}/live", params=where)).json()["items"]
        return [(item["service"], item["environment"], item["host"], item["version"]) for item in items]

    billing = [
        ("billing", "prod", "app1", "v2"),
        ("billing", "prod", "app2", "v1"),
        ("billing", "staging", "app1", "v1"),
    ]
    assert await live() == [*billing, ("shop", "prod", "app1", "v9")]
    assert await live(service="billing") == billing
    assert await live(environment="staging") == billing[2:]
    bounded = (await client.get(f"{API}/live", params={"limit": 1})).json()
    assert (len(bounded["items"]), bounded["complete"]) == (1, False)


async def test_a_rollback_marks_the_deploy_before_it_as_rolled_back(client: httpx.AsyncClient) -> None:
    first = await _deploy(client, "v1", minute=0)
    elsewhere = await _deploy(client, "v2", minute=1, host="app2")
    second = await _deploy(client, "v2", minute=1)
    failed = await _deploy(client, "v1", minute=2, kind="rollback", status="failed")
    assert (await client.get(second)).json()["status"] == "succeeded", "the rollback failed"
    await _deploy(client, "v1", minute=3, kind="rollback")

    found = {path: (await client.get(path)).json()["status"] for path in (first, elsewhere, second, failed)}
    assert found == {first: "succeeded", elsewhere: "succeeded", second: "rolled_back", failed: "failed"}
    live = (await client.get(f"{API}/live", params={"limit": 10})).json()["items"]
    assert [(item["host"], item["version"]) for item in live] == [("app1", "v1"), ("app2", "v2")]


async def test_a_rollback_to_the_last_deployed_version_marks_nothing(client: httpx.AsyncClient) -> None:
    """The same version deployed again, for example with other settings, is not a failed change."""
    path = await _deploy(client, "v1", minute=0)
    await _deploy(client, "v1", minute=1, kind="rollback")
    assert (await client.get(path)).json()["status"] == "succeeded"


@pytest.mark.parametrize("path", [f"{API}/404", f"{API}/404/finish"])
async def test_what_is_not_there_is_a_problem(client: httpx.AsyncClient, path: str) -> None:
    ask = client.post(path, json={"status": "failed"}) if path.endswith("finish") else client.get(path)
    answer = await ask
    assert (answer.status_code, answer.json()["type"]) == (404, "/problems/not-found")
    explained = (await client.get(answer.json()["type"])).json()
    assert explained["status"] == 404
