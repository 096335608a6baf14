"""API tokens in the API's requests and responses."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import AwareDatetime, BaseModel, ConfigDict, JsonValue, StringConstraints

from app.schemas.common import CONTROL

EXAMPLE: dict[str, JsonValue] = {
    "id": 3,
    "name": "ci",
    "scope": "write",
    "created_at": "2026-11-02T09:00:00Z",
    "last_used_at": None,
    "revoked_at": None,
}


class Scope(StrEnum):
    """What a token may do; each scope includes those before it."""

    READ = "read"
    WRITE = "write"
    ADMIN = "admin"

    def includes(self, other: Scope) -> bool:
        order = list(Scope)
        return order.index(self) >= order.index(other)


class TokenCreate(BaseModel):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"name": "ci", "scope": "write"}]})

    name: Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=rf"^[^{CONTROL}]*$")]
    scope: Scope


class TokenRead(BaseModel):
    """A token. `last_used_at` has a precision of one minute."""

    model_config = ConfigDict(from_attributes=True, json_schema_extra={"examples": [EXAMPLE]})

    id: int
    name: str
    scope: Scope
    created_at: AwareDatetime
    last_used_at: AwareDatetime | None
    revoked_at: AwareDatetime | None


class TokenCreated(TokenRead):
    """A new token with its text, which is not shown again."""

    model_config = ConfigDict(json_schema_extra={"examples": [{**EXAMPLE, "token": "lb_<key>_<secret>"}]})

    token: str


class TokenPage(BaseModel):
    """Tokens by id. `next_after` is the parameter `after` of the next page; null on the last page."""

    items: list[TokenRead]
    next_after: int | None
