"""/api/v1/tokens"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from app.auth import Admin
from app.database import Session
from app.errors import documented
from app.schemas.common import MAX_ID, Id
from app.schemas.token import TokenCreate, TokenCreated, TokenPage, TokenRead
from app.services import tokens

router = APIRouter(prefix="/api/v1/tokens", tags=["tokens"])


@router.post("", status_code=201)
async def create(wanted: TokenCreate, _: Admin, session: Session) -> TokenCreated:
    """Create a token. Only this response contains it."""
    token, text = await tokens.create(session, wanted)
    return TokenCreated(**TokenRead.model_validate(token).model_dump(), token=text)


@router.get("")
async def index(
    _: Admin,
    session: Session,
    after: Annotated[int, Query(ge=0, le=MAX_ID, description="list tokens with an id above this")] = 0,
    limit: Annotated[int, Query(ge=1, le=100)] = 50,
) -> TokenPage:
    """List tokens by id, including revoked ones."""
    found, more = await tokens.page(session, after, limit)
    items = [TokenRead.model_validate(token) for token in found]
    return TokenPage(items=items, next_after=items[-1].id if more else None)


@router.delete("/{token_id}", status_code=204, responses=documented("not-found"))
async def revoke(token_id: Id, _: Admin, session: Session) -> None:
    """Revoke a token. It is refused from the next request on, and stays in the list."""
    await tokens.revoke(session, token_id)
