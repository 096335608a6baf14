"""Health checks. `live` depends on nothing else. `ready` is for deployments and load balancers."""

from __future__ import annotations

import asyncio
import os

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from app.errors import documented, problem
from app.schemas.health import Live, Ready

READY_TIMEOUT = 2  # seconds

router = APIRouter(prefix="/health", tags=["health"])


@router.get("/live")
async def live() -> Live:
    """Check that the process answers."""
    return Live()


@router.get("/ready", response_model=Ready, responses=documented("unavailable"))
async def ready(request: Request) -> Ready | JSONResponse:
    """Check that the database answers. The schema's revision is not checked, as old and new code share a schema."""
    engine: AsyncEngine = request.app.state.engine
    try:
        async with asyncio.timeout(READY_TIMEOUT), engine.connect() as connection:
            await connection.execute(text("SELECT 1"))
    except (SQLAlchemyError, TimeoutError):
        return problem("unavailable", "The database does not answer.")
    settings = request.app.state.settings
    return Ready(release=settings.release_tag, sha=settings.release_sha, pid=os.getpid())
