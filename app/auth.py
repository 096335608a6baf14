"""Who asks: the bearer token of a request, and whether its scope includes what is asked for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from app.database import Session
from app.errors import ForbiddenError, UnauthorizedError
from app.models import ApiToken
from app.schemas.token import Scope
from app.services import tokens

_bearer = HTTPBearer(auto_error=False, description="A token made with `python -m app.tokens create`.")

Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]


def require(scope: Scope) -> Callable[..., Awaitable[ApiToken]]:
    """A dependency that gives the request's token, or refuses it: 401 without a valid one, 403 below `scope`."""

    async def check(request: Request, session: Session, credentials: Credentials) -> ApiToken:
        if credentials is None:
            raise UnauthorizedError("This needs a token: Authorization: Bearer <token>.")
        token = await tokens.authenticate(session, credentials.credentials)
        request.state.token_name = token.name  # for the log
        if not Scope(token.scope).includes(scope):
            raise ForbiddenError(f"This needs a token with the scope {scope}; this one has {token.scope}.")
        return token

    return check


Reader = Annotated[ApiToken, Depends(require(Scope.READ), scope="function")]
Writer = Annotated[ApiToken, Depends(require(Scope.WRITE), scope="function")]
Admin = Annotated[ApiToken, Depends(require(Scope.ADMIN), scope="function")]
