"""Services: their rules."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from app.errors import ConflictError, NotFoundError
from app.models import Service
from app.schemas.service import ServiceCreate, ServiceUpdate


async def create(session: AsyncSession, wanted: ServiceCreate) -> Service:
    """ConflictError when the name is taken."""
    service = Service(**wanted.model_dump(mode="json"))
    session.add(service)
    await _flush(session, wanted.name)
    await session.refresh(service)
    return service


async def get(session: AsyncSession, service_id: int) -> Service:
    """NotFoundError when there is none."""
    service = await session.get(Service, service_id)
    if service is None:
        raise NotFoundError(f"There is no service {service_id}.")
    return service


async def page(session: AsyncSession, after: int, limit: int) -> tuple[list[Service], bool]:
    """Up to `limit` services with an id above `after`, and whether there are more."""
    query = select(Service).where(Service.id > after).order_by(Service.id).limit(limit + 1)
    found = list(await session.scalars(query))
    return found[:limit], len(found) > limit


async def update(session: AsyncSession, service_id: int, change: ServiceUpdate) -> Service:
    """NotFoundError when there is none; ConflictError when the new name is taken."""
    service = await get(session, service_id)
    for field, value in change.model_dump(mode="json", exclude_unset=True).items():
        setattr(service, field, value)
    await _flush(session, service.name)
    return service


async def delete(session: AsyncSession, service_id: int) -> None:
    """NotFoundError when there is none."""
    await session.delete(await get(session, service_id))


async def _flush(session: AsyncSession, name: str) -> None:
    try:
        await session.flush()
    except IntegrityError:
        raise ConflictError(f"There is a service '{name}' already.") from None
