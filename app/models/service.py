"""Services: the apps that are deployed."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, Identity, Integer, String, func
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base, UtcDateTime


class Service(Base):
    __tablename__ = "services"

    # SQLite generates values only for INTEGER keys.
    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), Identity(), primary_key=True)
    name: Mapped[str] = mapped_column(String(100), unique=True)
    repository_url: Mapped[str] = mapped_column(String(500))
    description: Mapped[str] = mapped_column(String(2000), server_default="")
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, server_default=func.now())
