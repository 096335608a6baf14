"""/api/v1/figures"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from app.auth import Reader
from app.database import Session
from app.schemas.common import Environment, Name
from app.schemas.figures import Figures
from app.services import figures

router = APIRouter(prefix="/api/v1/figures", tags=["figures"])


@router.get("")
async def show(
    _: Reader,
    session: Session,
    service: Annotated[Name | None, Query()] = None,
    environment: Annotated[Environment | None, Query()] = None,
    days: Annotated[int, Query(ge=1, le=366, description="length of the window, which ends now")] = 30,
) -> Figures:
    """How often, how reliably and how fast changes are deployed: the four key metrics of DORA."""
    return await figures.measure(session, service, environment, days)
