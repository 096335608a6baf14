"""Deployments: how they begin, how they end, and what is live."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from functools import cache
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Integer,
    ScalarSelect,
    Select,
    bindparam,
    func,
    literal,
    select,
    tuple_,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased, contains_eager
from sqlalchemy.orm.attributes import set_committed_value

from app.errors import ConflictError, KeyReusedError, NotFoundError
from app.models import Deployment, Kind, Service, Status
from app.schemas.deployment import Cursor, DeploymentCreate, DeploymentFinish, Filter

MOST_ENVIRONMENTS = 100


async def record(
    session: AsyncSession, wanted: DeploymentCreate, token_id: int, key: str | None
) -> tuple[Deployment, bool]:
    """Record that a deployment has begun. Returns it, and whether it is new: a known key returns the one recorded then.

    NotFoundError when there is no such service; KeyReusedError when the key was used before with another body.
    """
    # Locked, so that the service is not deleted before the deployment that refers to it is inserted.
    kept = select(Service).with_for_update(read=True, key_share=True)
    service = await session.scalar(kept.where(Service.name == wanted.service))
    if service is None:
        raise NotFoundError(f"There is no service '{wanted.service}'. Create it first: POST /api/v1/services.")
    values = wanted.model_dump(exclude={"service", "started_at"})
    fingerprint = hashlib.sha256(wanted.model_dump_json().encode()).hexdigest() if key is not None else None
    insert = _insert(session).values(
        **values,
        service_id=service.id,
        token_id=token_id,
        started_at=wanted.started_at or datetime.now(UTC),
        idempotency_key=key,
        fingerprint=fingerprint,
    )
    # If several requests have the same key, the first one inserts. The others wait for it here, and find its row.
    made: Deployment | None = await session.scalar(insert.returning(Deployment))
    if made is not None:
        set_committed_value(made, "service", service)
        return made, True
    known = (Deployment.token_id == token_id, Deployment.idempotency_key == key)
    found = (await session.scalars(_loaded().where(*known))).one()
    if found.fingerprint != fingerprint:
        raise KeyReusedError(f"The Idempotency-Key was used before with another body, for deployment {found.id}.")
    return found, False


def _insert(session: AsyncSession) -> Any:
    """INSERT … ON CONFLICT DO NOTHING, which SQLAlchemy has in the dialect of each database."""
    dialect = sqlite if session.get_bind().dialect.name == "sqlite" else postgresql
    return dialect.insert(Deployment).on_conflict_do_nothing(index_elements=["token_id", "idempotency_key"])


async def finish(session: AsyncSession, deployment_id: int, ending: DeploymentFinish) -> Deployment:
    """Record how a deployment ended. One that has already ended with this status stays as it is.

    NotFoundError when there is none; ConflictError when it has ended with another status, or started after that time.
    """
    # If two requests finish it at the same time, the second one waits here.
    found = await get(session, deployment_id, locked=True)
    if found.status == ending.status:
        return found
    if found.status != Status.STARTED:
        raise ConflictError(f"Deployment {deployment_id} has already ended: {found.status}.")
    finished_at = ending.finished_at or max(datetime.now(UTC), found.started_at)
    if finished_at < found.started_at:
        raise ConflictError(f"finished_at is before the start of deployment {deployment_id}.")
    found.status = ending.status
    found.finished_at = finished_at
    found.seconds = (finished_at - found.started_at).total_seconds()
    found.phases = dict(ending.phases)
    found.detail = ending.detail or found.detail
    if (found.kind, found.status) == (Kind.ROLLBACK, Status.SUCCEEDED):
        await _take_back(session, found)
    await session.flush()
    return found


async def _take_back(session: AsyncSession, rollback: Deployment) -> None:
    """Mark the last deploy before a rollback as rolled back, unless it has the same version as the rollback."""
    before = (
        select(Deployment.id)
        .where(
            *_same_place(Deployment, rollback),
            Deployment.kind == Kind.DEPLOY,
            _is(Status.SUCCEEDED),
            Deployment.finished_at <= rollback.finished_at,
        )
        .order_by(Deployment.finished_at.desc(), Deployment.id.desc())
        .limit(1)
    )
    await session.execute(
        update(Deployment)
        .where(Deployment.id == before.scalar_subquery(), Deployment.version != rollback.version)
        .values(status=Status.ROLLED_BACK),
        execution_options={"synchronize_session": False},
    )


def _same_place(of: Any, other: Deployment) -> tuple[Any, ...]:
    return of.service_id == other.service_id, of.environment == other.environment, of.host == other.host


async def get(session: AsyncSession, deployment_id: int, *, locked: bool = False) -> Deployment:
    """One deployment; NotFoundError when there is none. With `locked` nobody else can change it in this transaction."""
    found: Deployment | None = await session.scalar(_one(locked=locked), {"wanted": deployment_id})
    if found is None:
        raise NotFoundError(f"There is no deployment {deployment_id}.")
    return found


async def page(
    session: AsyncSession, where: Filter, before: Cursor | None, limit: int
) -> tuple[list[Deployment], bool]:
    """Up to `limit` deployments that started before the cursor's, newest first, and whether there are more."""
    values = _values(where)
    query = _page(tuple(values), where.status, is_first=before is None)
    if before is not None:
        values |= {"before_at": before.started_at, "before_id": before.id}
    found = list(await session.scalars(query, {**values, "rows": limit + 1}))
    return found[:limit], len(found) > limit


async def live(
    session: AsyncSession, service: str | None, environment: str | None, limit: int
) -> tuple[list[Deployment], bool]:
    """What is live on each host: the last successful deployment there. Up to `limit`, and whether these are all."""
    values = _values(Filter(service=service, environment=environment))
    found = list(await session.scalars(_live(tuple(values)), {**values, "rows": limit + 1}))
    return found[:limit], len(found) <= limit


async def environments(session: AsyncSession) -> list[str]:
    """The environments of all deployments, sorted. Each name is looked up in an index, without reading all rows."""
    first = select(func.min(Deployment.environment).label("name"))
    walk = first.cte("walk", recursive=True)
    following = first.where(Deployment.environment > walk.c.name).correlate(walk).scalar_subquery()
    walk = walk.union_all(select(following).where(walk.c.name.is_not(None)))
    query = select(walk.c.name).where(walk.c.name.is_not(None)).limit(MOST_ENVIRONMENTS)
    return list(await session.scalars(query))


def conditions(where: Filter) -> list[ColumnElement[bool]]:
    """The conditions of a filter, for WHERE."""
    asked = {
        Deployment.environment: where.environment,
        Deployment.host: where.host,
        Deployment.version: where.version,
        Deployment.kind: where.kind,
    }
    found = [column == value for column, value in asked.items() if value is not None]
    if where.service is not None:
        found.append(Deployment.service_id == _id_of(where.service))
    if where.status is not None:
        found.append(_is(where.status))
    if where.since is not None:
        found.append(Deployment.started_at >= where.since)
    return found


def _values(where: Filter) -> dict[str, Any]:
    """The parameters of a filter, by name. The status is not one of them: see `_is`."""
    return {name: value for name, value in vars(where).items() if value is not None and name != "status"}


# Each kind of statement is built once and cached (there are a few hundred kinds); requests differ only in the values.
# Building it for each request took SQLAlchemy longer than the query took the database.


def _asked(names: tuple[str, ...], status: Status | None = None) -> Filter:
    """A filter by these fields, with bound parameters as values."""
    values: dict[str, Any] = {name: bindparam(name) for name in names}
    return Filter(status=status, **values)


@cache
def _one(*, locked: bool) -> Select[Deployment]:
    query = _loaded().where(Deployment.id == bindparam("wanted"))
    return query.with_for_update(of=Deployment) if locked else query


@cache
def _page(names: tuple[str, ...], status: Status | None, *, is_first: bool) -> Select[Deployment]:
    query = _loaded().where(*conditions(_asked(names, status)))
    if not is_first:
        place = Deployment.started_at, Deployment.id
        before = bindparam("before_at", type_=place[0].type), bindparam("before_id", type_=place[1].type)
        query = query.where(tuple_(*place) < tuple_(*before))
    query = query.order_by(Deployment.started_at.desc(), Deployment.id.desc())
    return query.limit(bindparam("rows", type_=Integer))


@cache
def _live(names: tuple[str, ...]) -> Select[Deployment]:
    """Walks backwards through `ix_deployments_live`, from the newest row of one place to the newest row of the next:
    one step for each place, no matter how many deployments there are."""
    where = _asked(names)
    of_service = () if where.service is None else (_id_of(where.service),)
    place = Deployment.service_id, Deployment.environment, Deployment.host
    newest = select(Deployment.id).where(_is(Status.SUCCEEDED)).limit(1)
    newest = newest.order_by(*(column.desc() for column in (*place, Deployment.finished_at, Deployment.id)))
    first = newest.where(*(Deployment.service_id == number for number in of_service))

    walk = select(first.scalar_subquery().label("id")).cte("walk", recursive=True)
    at = aliased(Deployment)
    following = newest.where(tuple_(*place) < tuple_(at.service_id, at.environment, at.host)).correlate(at)
    step = select(following.scalar_subquery()).select_from(walk).join(at, at.id == walk.c.id)
    # Not in `newest`: otherwise the database would search each next place from the service's first place on.
    walk = walk.union_all(step.where(*(at.service_id == number for number in of_service)))

    met = select(walk.c.id).join(Deployment, Deployment.id == walk.c.id).where(*conditions(where))
    query = _loaded().where(Deployment.id.in_(met.limit(bindparam("rows", type_=Integer))))
    return query.order_by(Service.name, Deployment.environment, Deployment.host)


def _is(status: Status) -> ColumnElement[bool]:
    """As a literal, not as a parameter: only then the database knows that it can use a partial index."""
    return Deployment.status == literal(status, literal_execute=True)


def _id_of(service: str) -> ScalarSelect[int]:
    """The id of a service as a subquery: unlike with a join, the database then uses an index on `service_id`."""
    return select(Service.id).where(Service.name == service).scalar_subquery()


def _loaded() -> Select[Deployment]:
    return select(Deployment).join(Deployment.service).options(contains_eager(Deployment.service))
