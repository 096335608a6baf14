"""/api/v1/services"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from app.auth import Reader, Writer
from app.database import Session
from app.errors import documented
from app.models import Service
from app.schemas.common import MAX_ID, Id
from app.schemas.service import ServiceCreate, ServicePage, ServiceRead, ServiceUpdate
from app.services import services

router = APIRouter(prefix="/api/v1/services", tags=["services"])


@router.post("", status_code=201, response_model=ServiceRead, responses=documented("conflict"))
async def create(wanted: ServiceCreate, _: Writer, session: Session, response: Response) -> Service:
    """Add a service. Deployments are recorded under its name."""
    service = await services.create(session, wanted)
    response.headers["Location"] = f"/api/v1/services/{service.id}"
    return service


@router.get("")
async def index(
    _: Reader,
    session: Session,
    after: Annotated[int, Query(ge=0, le=MAX_ID, description="list services with an id above this")] = 0,
    limit: Annotated[int, Query(ge=1, le=100)] = 50,
) -> ServicePage:
    """List services by id."""
    found, more = await services.page(session, after, limit)
    items = [ServiceRead.model_validate(service) for service in found]
    return ServicePage(items=items, next_after=items[-1].id if more else None)


@router.get("/{service_id}", response_model=ServiceRead, responses=documented("not-found"))
async def show(service_id: Id, _: Reader, session: Session) -> Service:
    """Show one service."""
    return await services.get(session, service_id)


@router.patch("/{service_id}", response_model=ServiceRead, responses=documented("not-found", "conflict"))
async def update(service_id: Id, change: ServiceUpdate, _: Writer, session: Session) -> Service:
    """Change the given fields, and keep the others."""
    return await services.update(session, service_id, change)


@router.delete("/{service_id}", status_code=204, responses=documented("not-found", "conflict"))
async def delete(service_id: Id, _: Writer, session: Session) -> None:
    """Delete a service that has no recorded deployments."""
    await services.delete(session, service_id)
