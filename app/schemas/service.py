"""Services, as the API takes and gives them."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import AnyUrl, AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, model_validator

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]{0,98}[a-z0-9])?$")]
Url = Annotated[AnyUrl, Field(max_length=500)]
# A NUL character is text to JSON, but not to PostgreSQL.
Description = Annotated[str, StringConstraints(max_length=2000, pattern=r"^[^\x00]*$")]


class ServiceCreate(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: Name
    repository_url: Url
    description: Description = ""


class ServiceUpdate(BaseModel):
    """What is to change; fields that are left out stay as they are."""

    model_config = ConfigDict(extra="forbid")

    name: Name | None = None
    repository_url: Url | None = None
    description: Description | None = None

    @model_validator(mode="after")
    def _no_nulls(self) -> Self:
        for field in self.model_fields_set:
            if getattr(self, field) is None:
                raise ValueError(f"{field} cannot be null; leave it out to keep it")
        return self


class ServiceRead(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: int
    name: str
    repository_url: str
    description: str
    created_at: AwareDatetime


class ServicePage(BaseModel):
    """Services by id. `next_after` is the `after` of the next page; null on the last one."""

    items: list[ServiceRead]
    next_after: int | None
