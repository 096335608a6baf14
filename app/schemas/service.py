"""Services in the API's requests and responses."""

from __future__ import annotations

from typing import Annotated

from pydantic import AwareDatetime, BaseModel, ConfigDict, JsonValue, StringConstraints

from app.schemas.common import CONTROL, Name

Url = Annotated[str, StringConstraints(max_length=500, pattern=rf"^(https?|ssh|git|file)://[^\s{CONTROL}]+$")]
Description = Annotated[str, StringConstraints(max_length=2000, pattern=r"^[^\x00]*$")]

EXAMPLE: dict[str, JsonValue] = {
    "name": "billing",
    "repository_url": "https://git.example.com/shop/billing.git",
    "description": "Sends the bills",
}


class ServiceCreate(BaseModel):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [EXAMPLE]})

    name: Name
    repository_url: Url
    description: Description = ""


class ServiceUpdate(BaseModel):
    """The fields to change. Fields that are missing or null stay as they are."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"description": "Sends bills by mail"}]})

    name: Name | None = None
    repository_url: Url | None = None
    description: Description | None = None


class ServiceRead(BaseModel):
    model_config = ConfigDict(
        from_attributes=True,
        json_schema_extra={"examples": [{"id": 1, **EXAMPLE, "created_at": "2026-11-02T09:00:00Z"}]},
    )

    id: int
    name: str
    repository_url: str
    description: str
    created_at: AwareDatetime


class ServicePage(BaseModel):
    """Services by id. `next_after` is the parameter `after` of the next page; null on the last page."""

    items: list[ServiceRead]
    next_after: int | None
