"""API tokens: creating, checking, listing and revoking.

A token is `lb_<key>_<secret>`. The key finds its row. The secret has 256 random bits, so a plain hash protects it.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from datetime import UTC, datetime, timedelta

from sqlalchemy import bindparam, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.errors import NotFoundError, UnauthorizedError
from app.models import ApiToken
from app.schemas.token import TokenCreate

_TOKEN = re.compile(r"lb_([0-9a-f]{16})_([A-Za-z0-9_-]{43})")
# Compared with if there is no row, so that a wrong key takes as long as a wrong secret.
_NO_HASH = "0" * 64
# The precision of the time of last use. Writing it at each request would make every read a write.
_USED_WITHIN = timedelta(minutes=1)
# Built once, as every request uses it.
_BY_KEY = select(ApiToken).where(ApiToken.key == bindparam("key"))


async def create(session: AsyncSession, wanted: TokenCreate) -> tuple[ApiToken, str]:
    """Create a token; its row, and the token itself, which cannot be shown again."""
    key, secret = secrets.token_hex(8), secrets.token_urlsafe(32)
    token = ApiToken(name=wanted.name, scope=wanted.scope, key=key, secret_hash=_hash(secret))
    session.add(token)
    await session.flush()
    await session.refresh(token)
    return token, f"lb_{key}_{secret}"


async def authenticate(session: AsyncSession, text: str) -> ApiToken:
    """The row of the token `text`; UnauthorizedError when it is not valid, or revoked."""
    match = _TOKEN.fullmatch(text)
    key, secret = match.groups() if match else ("", "")
    token = await session.scalar(_BY_KEY, {"key": key})
    known = hmac.compare_digest(token.secret_hash if token else _NO_HASH, _hash(secret))
    if token is None or not known or token.revoked_at is not None:
        raise UnauthorizedError("The token is not valid.")
    await _note_use(session, token)
    return token


async def get_valid(session: AsyncSession, token_id: int) -> ApiToken | None:
    """The token with this id; None when there is none, or it is revoked."""
    token = await session.get(ApiToken, token_id)
    return token if token is not None and token.revoked_at is None else None


async def page(session: AsyncSession, after: int, limit: int) -> tuple[list[ApiToken], bool]:
    """Up to `limit` tokens with an id above `after`, and whether there are more."""
    query = select(ApiToken).where(ApiToken.id > after).order_by(ApiToken.id).limit(limit + 1)
    found = list(await session.scalars(query))
    return found[:limit], len(found) > limit


async def revoke(session: AsyncSession, token_id: int) -> ApiToken:
    """Revoke a token: it is refused from now on. NotFoundError when there is none."""
    token = await session.get(ApiToken, token_id)
    if token is None:
        raise NotFoundError(f"There is no token {token_id}.")
    token.revoked_at = token.revoked_at or datetime.now(UTC)
    return token


async def _note_use(session: AsyncSession, token: ApiToken) -> None:
    now = datetime.now(UTC)
    if token.last_used_at is not None and now - token.last_used_at < _USED_WITHIN:
        return
    # Of several requests at the same time only the first one writes.
    stale = or_(ApiToken.last_used_at.is_(None), ApiToken.last_used_at < now - _USED_WITHIN)
    await session.execute(
        update(ApiToken).where(ApiToken.id == token.id, stale).values(last_used_at=now),
        execution_options={"synchronize_session": False},
    )


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
