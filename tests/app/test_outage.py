"""PostgreSQL is killed under load and started again: the clients' responses, the recorded data, the log."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import time
from dataclasses import dataclass, field

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import event, select

from app.database import CONNECT_TIMEOUT, POOL_TIMEOUT
from app.models import Deployment, Status

from .conftest import Server, children, client_of, make_token
from .served import WORKERS, Served, serve

API = "/api/v1/deployments"
SERVICE = {"name": "billing", "repository_url": "https://git.example.com/billing"}
DEPLOYMENT = {"service": "billing", "environment": "prod", "commit": "a" * 40, "actor": "ci"}
READS = (API, f"{API}/live", "/api/v1/figures", "/", "/health/ready")
READ = {f"GET {path}" for path in READS}
CLIENTS = 4  # that read, and as many that write
PAUSE = 0.01  # seconds between two requests of a client
BEFORE, AFTER = 1, 1  # seconds
AWAY = 30  # seconds within which every kind of read is refused once while the database is away
RECOVERY = 5  # seconds after the database is up again


@dataclass(frozen=True)
class Answer:
    request: str
    sent: float  # seconds on the monotonic clock
    got: float
    status: int


@dataclass
class Load:
    """Clients, each with one kept connection, and the answers that they got.

    A client that is answered what it may not be, or not in time, or whose connection breaks, ends with an error.
    """

    served: Served
    token: str
    ended: bool = False
    done: asyncio.Event = field(default_factory=asyncio.Event)  # another deployment was recorded and finished
    answered: asyncio.Event = field(default_factory=asyncio.Event)  # another answer came
    answers: list[Answer] = field(default_factory=list)
    finished: list[str] = field(default_factory=list)  # keys of the deployments that were recorded and finished

    async def read(self) -> None:
        async with self._client() as client:
            for path in itertools.cycle(READS):
                if self.ended:
                    break
                await self._ask(client, "GET", path)
                assert (await client.get("/health/live")).status_code == 200

    async def write(self, name: str) -> None:
        """Record deployments and finish them. A refused request is repeated until it is accepted."""
        async with self._client() as client:
            for number in itertools.count():
                if self.ended:
                    break
                key = f"{name}-{number}"
                while not (made := await self._ask(client, "POST", API, {**DEPLOYMENT, "version": key}, key)):
                    pass
                while not await self._ask(client, "POST", f"{made['location']}/finish", {"status": "succeeded"}):
                    pass
                self.finished.append(key)
                self.done.set()

    def between(self, begin: float, end: float) -> list[Answer]:
        """The answers to what was sent and answered in this time."""
        return [answer for answer in self.answers if begin < answer.sent and answer.got < end]

    async def every_read_since(self, begin: float) -> None:
        """Wait until every kind of read was sent and answered after this time."""
        while not {answer.request for answer in self.between(begin, time.monotonic())} >= READ:
            self.answered.clear()
            await self.answered.wait()

    def _client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(uds=str(self.served.path), verify=False),
            base_url="http://logbook.test",
            headers={"Authorization": f"Bearer {self.token}"},
            timeout=POOL_TIMEOUT + CONNECT_TIMEOUT,
        )

    async def _ask(
        self, client: httpx.AsyncClient, method: str, path: str, body: dict[str, str] | None = None, key: str = ""
    ) -> httpx.Headers | None:
        """The headers of the answer; None while there is no database."""
        await asyncio.sleep(PAUSE)
        sent, what = time.monotonic(), f"{method} {path}"
        response = await client.request(method, path, json=body, headers={"Idempotency-Key": key} if key else {})
        self.answers.append(Answer(what, sent, time.monotonic(), response.status_code))
        self.answered.set()
        # httpx would make another one where the server has closed it.
        connection = response.extensions["network_stream"]
        assert client.__dict__.setdefault("kept", connection) is connection, f"closed before {what}"
        if response.status_code in (200, 201):
            return response.headers
        assert response.status_code == 503, f"{what}: {response.status_code} {response.text}"
        assert not self.ended, f"{what}: {response.text}, long after the database is back"
        assert int(response.headers["Retry-After"]) >= 1
        if path == "/":
            assert response.headers["Content-Type"].startswith("text/html")
        else:
            assert response.headers["Content-Type"] == "application/problem+json"
            assert response.json()["type"] == "/problems/unavailable"
        return None


async def test_a_killed_database_gives_503_until_it_is_back_and_loses_no_data(
    server: Server, committing_app: FastAPI, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "httpx")
    token = await make_token(committing_app)
    environment = {
        "ENV": "production",
        "DATABASE_URL": committing_app.state.settings.database_url,
        "SECRET_KEY": "key-of-the-tests-0123456789-0123456789",
        "PUBLIC_PAGE": "true",
    }
    with serve("from app.main import app", environment) as served:
        workers = children(served.process.pid)
        assert len(workers) == WORKERS
        with served.client() as client:
            client.post("/api/v1/services", json=SERVICE, headers={"Authorization": f"Bearer {token}"})
        load = Load(served, token)
        async with asyncio.TaskGroup() as group:
            for number in range(CLIENTS):
                group.create_task(load.read())
                group.create_task(load.write(f"client-{number}"))
            await load.done.wait()
            await asyncio.sleep(BEFORE)
            killed = time.monotonic()
            await asyncio.to_thread(server.kill)
            gone = time.monotonic()
            async with asyncio.timeout(AWAY):
                await load.every_read_since(gone)
            starting = time.monotonic()
            await asyncio.to_thread(server.start)
            load.done.clear()
            async with asyncio.timeout(RECOVERY):
                await load.done.wait()
            await asyncio.sleep(AFTER)
            load.ended = True
        assert children(served.process.pid) == workers
        with served.client() as client:
            assert "\ndatabase_pool_connections_in_use 0.0\n" in client.get("/metrics").text
        log = served.stop()

    assert {answer.status for answer in load.answers if answer.got < killed} == {200, 201}
    meanwhile = load.between(gone, starting)
    assert {answer.status for answer in meanwhile} == {503}
    assert {answer.request for answer in meanwhile} >= READ
    recovered = min(answer.got for answer in load.answers if answer.sent > gone and answer.status < 300)
    afterwards = [answer for answer in load.answers if answer.sent > recovered]
    assert [answer for answer in afterwards if answer.status == 503] == []

    # This app was idle meanwhile: it has connections that broke, and finds out before it uses them.
    async with committing_app.state.reads() as session:
        rows = list(await session.scalars(select(Deployment)))
    assert sorted(row.idempotency_key or "" for row in rows) == sorted(load.finished)
    assert all(row.version == row.idempotency_key and row.status == Status.SUCCEEDED for row in rows)
    assert all(row.finished_at is not None and row.seconds is not None for row in rows)

    lines = [json.loads(line) for line in log.splitlines()]
    assert {line["level"] for line in lines} == {"INFO", "WARNING"}
    assert not [line for line in lines if "exc_info" in line]
    refused = [answer for answer in load.answers if answer.status == 503]
    assert sum(line.get("status") == 503 for line in lines) == len(refused)


async def test_a_failed_commit_is_not_reported_as_recorded(server: Server, committing_app: FastAPI) -> None:
    wanted, key = {**DEPLOYMENT, "version": "v1"}, {"Idempotency-Key": "the-key"}
    async with client_of(committing_app, await make_token(committing_app)) as client:
        await client.post("/api/v1/services", json=SERVICE)
        event.listen(committing_app.state.engine.sync_engine, "commit", lambda _: server.stop(), once=True)
        refused = await client.post(API, json=wanted, headers=key)
        server.start()
        assert (refused.status_code, refused.json()["type"]) == (503, "/problems/unavailable")
        assert (await client.get(API)).json()["items"] == []
        assert (await client.post(API, json=wanted, headers=key)).status_code == 201


async def test_a_page_that_loses_its_database_connection_shows_an_error(
    server: Server, committing_app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.database.IDLE", 60)  # it finds out with its first query
    token = await make_token(committing_app)
    async with client_of(committing_app) as client:
        server.stop()
        server.start()
        answer = await client.post("/sign-in", data={"token": token})
        assert (answer.status_code, answer.headers["Content-Type"]) == (503, "text/html; charset=utf-8")
        assert (await client.post("/sign-in", data={"token": token})).status_code == 303
