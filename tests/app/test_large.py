"""A table with many rows, on PostgreSQL: a query reads the rows of its answer, not the whole table."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from app.models import Status
from app.schemas.deployment import Filter
from app.services import deployments, figures

from .conftest import make_token

ROWS = 20_000  # one a minute, in turns at 10 services x 2 environments x 2 hosts; the last one is running
FILL = f"""
INSERT INTO deployments (service_id, token_id, environment, host, version, "commit", actor, status, started_at,
                         finished_at, seconds)
SELECT 1 + n % 10, 1, CASE WHEN n / 10 % 2 = 0 THEN 'prod' ELSE 'staging' END, 'app' || n / 20 % 2, 'v' || n,
       'c0ffee', 'ci', CASE WHEN n = {ROWS} THEN 'started' ELSE 'succeeded' END, at, CASE WHEN n < {ROWS} THEN at END,
       CASE WHEN n < {ROWS} THEN 0 END
FROM (SELECT n, now() - ({ROWS} - n) * interval '1 minute' AS at FROM generate_series(1, {ROWS}) AS n) AS numbered
"""  # noqa: S608  # a number of ours
SERVICES = "INSERT INTO services (name, repository_url) SELECT 'service-' || n, '' FROM generate_series(1, 11) AS n"

Question = Callable[[AsyncSession], Awaitable[Any]]


@pytest.fixture
async def engine(committing_app: FastAPI) -> AsyncEngine:
    """A client of an app with many recorded deployments."""
    await make_token(committing_app)
    made: AsyncEngine = committing_app.state.engine
    async with made.begin() as connection:
        await connection.execute(text(SERVICES))
        await connection.execute(text(FILL))
        await connection.execute(text("ANALYZE"))
    return made


async def _rows_read(engine: AsyncEngine, ask: Question) -> tuple[Any, int]:
    """The answer, and the number of rows that the plans of its statements read."""
    asked: list[tuple[str, Any]] = []

    def note(_: object, __: object, statement: str, parameters: Any, ___: object, ____: object) -> None:
        asked.append((statement, parameters))

    event.listen(engine.sync_engine, "before_cursor_execute", note)
    async with AsyncSession(engine) as session:
        answer = await ask(session)
    event.remove(engine.sync_engine, "before_cursor_execute", note)
    read = 0
    async with engine.connect() as connection:
        for statement, parameters in asked:
            found = await connection.exec_driver_sql(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", parameters)
            (plan,) = found.scalars()
            read += sum(
                _rows(node) for node in _nodes((json.loads(plan) if isinstance(plan, str) else plan)[0]["Plan"])
            )
    return answer, read


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for part in plan.get("Plans", ()):
        yield from _nodes(part)


def _rows(node: dict[str, Any]) -> int:
    once = sum(node.get(name, 0) for name in ("Actual Rows", "Rows Removed by Filter", "Rows Removed by Join Filter"))
    return int(once * node["Actual Loops"])


@pytest.mark.parametrize(
    ("where", "count"),
    [
        (Filter(), 50),
        (Filter(service="service-1"), 50),
        (Filter(environment="prod"), 50),
        (Filter(environment="unheard-of"), 0),
        (Filter(status=Status.STARTED), 1),
        (Filter(service="service-2", status=Status.STARTED), 0),
    ],
)
async def test_a_page_of_a_long_list_reads_few_rows(engine: AsyncEngine, where: Filter, count: int) -> None:
    (found, _), read = await _rows_read(engine, lambda session: deployments.page(session, where, None, 50))
    assert len(found) == count
    assert read < 1500


@pytest.mark.parametrize(
    ("service", "environment", "limit", "count"),
    [
        (None, None, 500, 40),
        (None, None, 5, 5),
        ("service-1", None, 500, 4),
        ("service-1", "prod", 500, 2),
        ("service-11", None, 500, 0),
        (None, "staging", 500, 20),
    ],
)
async def test_live_is_found_without_reading_old_deployments(
    engine: AsyncEngine, service: str | None, environment: str | None, limit: int, count: int
) -> None:
    (found, complete), read = await _rows_read(
        engine, lambda session: deployments.live(session, service, environment, limit)
    )
    assert (len(found), complete) == (count, count < limit)
    assert all(int(each.version.removeprefix("v")) >= ROWS - 80 for each in found), "the newest of each place"
    assert read < 1000


async def test_the_names_of_environments_are_found_without_reading_all_rows(engine: AsyncEngine) -> None:
    found, read = await _rows_read(engine, deployments.environments)
    assert found == ["prod", "staging"]
    assert read < 100


async def test_figures_read_no_more_than_their_window(engine: AsyncEngine) -> None:
    found, read = await _rows_read(engine, lambda session: figures.measure(session, None, None, 1))
    assert found.deployments == 24 * 60 - 1
    assert read < 10 * 24 * 60
