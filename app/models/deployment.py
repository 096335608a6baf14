"""Deployments: one row for each deploy or rollback on a host."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    Float,
    ForeignKey,
    Identity,
    Index,
    Integer,
    String,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.models.base import Base, UtcDateTime
from app.models.service import Service


class Kind(StrEnum):
    DEPLOY = "deploy"
    ROLLBACK = "rollback"


class Status(StrEnum):
    """`failed`: it did not go live, or broke the live release. `rolled_back`: it was live, and was rolled back."""

    STARTED = "started"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    ROLLED_BACK = "rolled_back"


def _only(condition: str) -> dict[str, Any]:
    """A partial index: SQLAlchemy has an argument for each database."""
    return {"postgresql_where": text(condition), "sqlite_where": text(condition)}


class Deployment(Base):
    __tablename__ = "deployments"
    __table_args__ = (
        CheckConstraint("kind IN ('deploy', 'rollback')", name="kind"),
        CheckConstraint("status IN ('started', 'succeeded', 'failed', 'rolled_back')", name="status"),
        CheckConstraint("(status = 'started') = (finished_at IS NULL)", name="finished"),
        CheckConstraint("(finished_at IS NULL) = (seconds IS NULL)", name="seconds"),
        # A key belongs to the token that sent it: nobody gets the recorded deployment of another token.
        UniqueConstraint("token_id", "idempotency_key", name="uq_deployments_idempotency_key"),
        # For lists, newest first.
        Index("ix_deployments_started_at", "started_at", "id"),
        Index("ix_deployments_service", "service_id", "started_at", "id"),
        Index("ix_deployments_environment", "environment", "started_at", "id"),
        Index("ix_deployments_running", "started_at", "id", **_only("status = 'started'")),
        # For the live releases: the last entry of a place is its newest success.
        Index(
            "ix_deployments_live",
            *("service_id", "environment", "host", "finished_at", "id"),
            **_only("status = 'succeeded'"),
        ),
        # For figures.
        Index("ix_deployments_finished_at", "finished_at"),
    )

    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), Identity(), primary_key=True)
    service_id: Mapped[int] = mapped_column(ForeignKey("services.id"))
    token_id: Mapped[int] = mapped_column(ForeignKey("api_tokens.id"))
    environment: Mapped[str] = mapped_column(String(50))
    host: Mapped[str] = mapped_column(String(255), server_default="")
    kind: Mapped[str] = mapped_column(String(10), server_default=Kind.DEPLOY)
    version: Mapped[str] = mapped_column(String(100))
    commit: Mapped[str] = mapped_column(String(64))
    actor: Mapped[str] = mapped_column(String(200))
    status: Mapped[str] = mapped_column(String(20), server_default=Status.STARTED)
    started_at: Mapped[datetime] = mapped_column(UtcDateTime)
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    seconds: Mapped[float | None] = mapped_column(Float)  # from start to finish
    phases: Mapped[dict[str, Any]] = mapped_column(
        JSON().with_variant(JSONB, "postgresql"), server_default=text("'{}'")
    )
    detail: Mapped[str] = mapped_column(String(4000), server_default="")
    idempotency_key: Mapped[str | None] = mapped_column(String(255))
    fingerprint: Mapped[str | None] = mapped_column(String(64))  # of the request that used the key

    service: Mapped[Service] = relationship(lazy="raise")
