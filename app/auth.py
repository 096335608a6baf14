"""Authentication and authorisation: the bearer token of a request, and whether its scope allows the request."""

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

_bearer = HTTPBearer(auto_error=False, description="A token created with `python -m app.tokens create`.")

Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]


def require(scope: Scope) -> Callable[..., Awaitable[ApiToken]]:
    """A dependency that returns the request's token. 401 without a valid token, 403 if its scope is below `scope`."""

    async def check(request: Request, session: Session, credentials: Credentials) -> ApiToken:
        if credentials is None:
            raise UnauthorizedError("This request needs a token. Send the header Authorization: Bearer <token>.")
        token = await tokens.authenticate(session, credentials.credentials)
        request.state.token_name = token.name  # for the log
        if not Scope(token.scope).includes(scope):
            raise ForbiddenError(f"This request needs a token with the scope {scope}; this token has {token.scope}.")
        return token

    return check


Reader = Annotated[ApiToken, Depends(require(Scope.READ), scope="function")]
Writer = Annotated[ApiToken, Depends(require(Scope.WRITE), scope="function")]
Admin = Annotated[ApiToken, Depends(require(Scope.ADMIN), scope="function")]
