"""/api/v1/services"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Response

from app.database import Session
from app.models import Service
from app.schemas.problem import Problem
from app.schemas.service import ServiceCreate, ServicePage, ServiceRead, ServiceUpdate
from app.services import services

router = APIRouter(prefix="/api/v1/services", tags=["services"])

Id = Annotated[int, Path(ge=1, le=2**63 - 1)]
NOT_FOUND: dict[int | str, dict[str, Any]] = {404: {"model": Problem}}
CONFLICT: dict[int | str, dict[str, Any]] = {409: {"model": Problem}}


@router.post("", status_code=201, response_model=ServiceRead, responses=CONFLICT)
async def create(wanted: ServiceCreate, session: Session, response: Response) -> Service:
    service = await services.create(session, wanted)
    response.headers["Location"] = f"/api/v1/services/{service.id}"
    return service


@router.get("")
async def index(
    session: Session,
    after: Annotated[int, Query(ge=0, le=2**63 - 1, description="list services with an id above this")] = 0,
    limit: Annotated[int, Query(ge=1, le=100)] = 50,
) -> ServicePage:
    found, more = await services.page(session, after, limit)
    items = [ServiceRead.model_validate(service) for service in found]
    return ServicePage(items=items, next_after=items[-1].id if more else None)


@router.get("/{service_id}", response_model=ServiceRead, responses=NOT_FOUND)
async def show(service_id: Id, session: Session) -> Service:
    return await services.get(session, service_id)


@router.patch("/{service_id}", response_model=ServiceRead, responses={**NOT_FOUND, **CONFLICT})
async def update(service_id: Id, change: ServiceUpdate, session: Session) -> Service:
    return await services.update(session, service_id, change)


@router.delete("/{service_id}", status_code=204, responses=NOT_FOUND)
async def delete(service_id: Id, session: Session) -> None:
    await services.delete(session, service_id)
