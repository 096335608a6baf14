"""/api/v1/deployments"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Response
from pydantic import StringConstraints

from app.auth import Reader, Writer
from app.database import Session
from app.errors import documented
from app.models import Kind, Status
from app.schemas.common import Environment, Host, Id, Name, Time, Version
from app.schemas.deployment import (
    Cursor,
    DeploymentCreate,
    DeploymentFinish,
    DeploymentPage,
    DeploymentRead,
    Filter,
    LiveDeployments,
)
from app.services import deployments

router = APIRouter(prefix="/api/v1/deployments", tags=["deployments"])

Key = Annotated[
    str | None,
    Header(alias="Idempotency-Key", description="a request that is repeated with the same key is recorded only once"),
    StringConstraints(pattern=r"^[\x21-\x7e]{1,255}$"),
]
# OpenAPI links: the requests that use the id of a recorded deployment.
LINKS = {
    name: {"operationId": f"deployments-{name}", "parameters": {"deployment_id": "$response.body#/id"}}
    for name in ("finish", "show")
}
RECORDED: dict[int | str, dict[str, Any]] = {
    200: {"description": "Already recorded by a request with the same key", "model": DeploymentRead, "links": LINKS},
    201: {"links": LINKS},
}


@router.post(
    "",
    status_code=201,
    responses={**RECORDED, **documented("not-found", "idempotency-key-reused")},
)
async def record(
    wanted: DeploymentCreate, token: Writer, session: Session, response: Response, key: Key = None
) -> DeploymentRead:
    """Record that a deployment has begun."""
    deployment, is_new = await deployments.record(session, wanted, token.id, key)
    if not is_new:
        response.status_code = 200
    response.headers["Location"] = f"/api/v1/deployments/{deployment.id}"
    return DeploymentRead.of(deployment)


@router.post("/{deployment_id}/finish", responses=documented("not-found", "conflict"))
async def finish(deployment_id: Id, ending: DeploymentFinish, _: Writer, session: Session) -> DeploymentRead:
    """Record how a deployment ended. Repeating the same request changes nothing.

    When a rollback succeeds, the deploy before it becomes `rolled_back`.
    """
    return DeploymentRead.of(await deployments.finish(session, deployment_id, ending))


async def chosen(
    service: Annotated[Name | None, Query()] = None,
    environment: Annotated[Environment | None, Query()] = None,
    host: Annotated[Host | None, Query()] = None,
    version: Annotated[Version | None, Query()] = None,
    status: Annotated[Status | None, Query()] = None,
    kind: Annotated[Kind | None, Query()] = None,
    since: Annotated[Time | None, Query(description="started at this time or later")] = None,
) -> Filter:
    return Filter(service, environment, host, version, status, kind, since)


@router.get("")
async def index(
    _: Reader,
    session: Session,
    where: Annotated[Filter, Depends(chosen)],
    before: Annotated[str | None, Query(pattern=Cursor.PATTERN, description="`next_before` of the last page")] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 50,
) -> DeploymentPage:
    """List deployments, newest start first."""
    cursor = Cursor.parse(before) if before is not None else None
    found, more = await deployments.page(session, where, cursor, limit)
    items = [DeploymentRead.of(deployment) for deployment in found]
    return DeploymentPage(items=items, next_before=str(Cursor.of(found[-1])) if more else None)


@router.get("/live")
async def live(
    _: Reader,
    session: Session,
    service: Annotated[Name | None, Query()] = None,
    environment: Annotated[Environment | None, Query()] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 200,
) -> LiveDeployments:
    """List the live releases, sorted by service, environment and host."""
    found, complete = await deployments.live(session, service, environment, limit)
    return LiveDeployments(items=[DeploymentRead.of(deployment) for deployment in found], complete=complete)


@router.get("/{deployment_id}", responses=documented("not-found"))
async def show(deployment_id: Id, _: Reader, session: Session) -> DeploymentRead:
    """One deployment."""
    return DeploymentRead.of(await deployments.get(session, deployment_id))
