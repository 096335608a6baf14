"""The application: `app.main:app`."""

from __future__ import annotations

import logging
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi_offline import FastAPIOffline

from app import errors, logs, metrics, sentry
from app.database import make_engine, make_sessions
from app.middleware import BodyLimit, RequestLog
from app.routers import deployments, docs, figures, health, page, problems, services, tokens
from app.routers import metrics as metrics_router
from app.schemas.problem import Problem
from app.settings import Settings, SettingsError, get_settings

API = (deployments, services, figures, tokens)
# Error types that every route of the API may answer with.
COMMON = errors.documented("bad-request", "unauthorized", "forbidden", "too-large", "invalid-request", "unavailable")

DESCRIPTION = """\
The record of what was deployed where, by whom, and with which result. Every route under `/api/v1` needs a token:
`Authorization: Bearer <token>`. Create the first token on the host, with `python -m app.tokens create`. Errors are
problem details (RFC 9457).
"""


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Each worker makes its own database engine, as connections do not survive a fork."""
    engine = make_engine(app.state.settings)
    metrics.watch_pool(engine)
    app.state.engine = engine
    app.state.writes, app.state.reads = make_sessions(engine)
    yield
    await engine.dispose()


def create_app(settings: Settings) -> FastAPI:
    """The application for some settings."""
    logs.configure(settings)
    sentry.start(settings)
    metrics.describe(settings)
    app = FastAPIOffline(
        title="Logbook",
        version=settings.release_tag or "development",
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,  # app/routers/docs.py
        redoc_url=None,
        generate_unique_id_function=lambda route: "-".join([*map(str, route.tags), route.name]),
    )
    app.state.settings = settings
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]  # FastAPI documents this way to change it
    errors.install(app)
    for part in API:
        app.include_router(part.router, responses=COMMON)
    app.include_router(problems.router)
    app.include_router(docs.router)
    app.include_router(health.router)
    page.install(app)
    app.include_router(metrics_router.router)
    app.add_middleware(BodyLimit)
    app.add_middleware(RequestLog)  # the last one added is the outermost
    return app


def _openapi(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document, plus the schema of problem details, which no route has as its response model."""
    if not app.openapi_schema:
        document = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes, tags=app.openapi_tags
        )
        document["components"]["schemas"]["Problem"] = Problem.model_json_schema()
        app.openapi_schema = document
    return app.openapi_schema


try:
    app = create_app(get_settings())
except SettingsError as error:
    # One sentence instead of a traceback: the operator needs to know which variable is wrong, not where it was raised.
    logging.getLogger(__name__).critical("The Logbook cannot start: %s", error)
    sys.exit(3)
