"""The application: `app.main:app`."""

from __future__ import annotations

import logging
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from app import errors
from app.database import make_engine, make_sessions
from app.routers import health, services
from app.settings import Settings, SettingsError, get_settings


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """The engine lives as long as the worker that made it: connections do not survive a fork."""
    engine = make_engine(app.state.settings)
    app.state.engine = engine
    app.state.sessions = make_sessions(engine)
    yield
    await engine.dispose()


def create_app(settings: Settings) -> FastAPI:
    """The application for some settings."""
    logging.basicConfig(level=settings.log_level.upper(), format="%(levelname)s %(name)s: %(message)s")
    app = FastAPI(title="Logbook", version=settings.release_tag or "development", lifespan=lifespan)
    app.state.settings = settings
    errors.install(app)
    app.include_router(health.router)
    app.include_router(services.router)
    return app


try:
    app = create_app(get_settings())
except SettingsError as error:
    # One sentence, not a traceback: nobody who deploys needs to know where it was raised.
    print(f"The Logbook cannot start: {error}", file=sys.stderr)  # noqa: T201  # before there is any logging
    sys.exit(3)
