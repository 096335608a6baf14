"""Rules for services."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from app.errors import ConflictError, NotFoundError
from app.models import Service
from app.schemas.service import ServiceCreate, ServiceUpdate


async def create(session: AsyncSession, wanted: ServiceCreate) -> Service:
    """Add a service; ConflictError when the name is taken."""
    service = Service(**wanted.model_dump())
    session.add(service)
    await _flush(session, f"There already is a service '{wanted.name}'.")
    await session.refresh(service)
    return service


async def get(session: AsyncSession, service_id: int, *, locked: bool = False) -> Service:
    """One service; NotFoundError when there is none. With `locked` nobody else can change it in this transaction."""
    service = await session.get(Service, service_id, with_for_update=locked)
    if service is None:
        raise NotFoundError(f"There is no service {service_id}.")
    return service


async def page(session: AsyncSession, after: int, limit: int) -> tuple[list[Service], bool]:
    """Up to `limit` services with an id above `after`, and whether there are more."""
    query = select(Service).where(Service.id > after).order_by(Service.id).limit(limit + 1)
    found = list(await session.scalars(query))
    return found[:limit], len(found) > limit


async def update(session: AsyncSession, service_id: int, change: ServiceUpdate) -> Service:
    """Change a service; NotFoundError when there is none, ConflictError when the new name is taken."""
    service = await get(session, service_id, locked=True)
    for field, value in change.model_dump(exclude_none=True).items():
        setattr(service, field, value)
    await _flush(session, f"There already is a service '{service.name}'.")
    return service


async def delete(session: AsyncSession, service_id: int) -> None:
    """Delete a service; NotFoundError when there is none, ConflictError when it has deployments."""
    service = await get(session, service_id, locked=True)
    await session.delete(service)
    await _flush(session, f"The service '{service.name}' has recorded deployments, so it cannot be deleted.")


async def names(session: AsyncSession, limit: int = 500) -> list[str]:
    """The first `limit` names, sorted."""
    return list(await session.scalars(select(Service.name).order_by(Service.name).limit(limit)))


async def _flush(session: AsyncSession, otherwise: str) -> None:
    """Write the changes; ConflictError with the message `otherwise` when a constraint forbids them."""
    try:
        await session.flush()
    except IntegrityError:
        raise ConflictError(otherwise) from None
