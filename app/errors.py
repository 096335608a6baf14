"""Errors and how clients see them: every error is a problem detail (RFC 9457), and its type never changes."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any, ClassVar

from fastapi import FastAPI, Request
from fastapi.encoders import jsonable_encoder
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException
from starlette.routing import Match

from app.schemas.problem import Problem

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"

# SQLSTATE: no connection (08), no connection slots left (53), shutting down or starting (57P).
OUTAGES = ("08", "53", "57P")

# By the last part of the type's path: the status, and the meaning that /problems/<name> shows.
TYPES = {
    "bad-request": (400, "The body is not JSON in UTF-8."),
    "unauthorized": (401, "Send `Authorization: Bearer <token>` with a token of this Logbook that is not revoked."),
    "forbidden": (403, "The token is valid, but its scope does not include this. Scopes are read, write and admin."),
    "not-found": (404, "There is nothing at this address, or an object that the request names does not exist."),
    "method-not-allowed": (405, "This address does not support the method. The header Allow lists those it supports."),
    "conflict": (409, "The request contradicts stored data: a name is taken, or a deployment has another result."),
    "idempotency-key-reused": (409, "The Idempotency-Key was used before with another body. Use a new key."),
    "too-large": (413, "The body is larger than the limit."),
    "invalid-request": (422, "The request does not match the API's description; `errors` says where."),
    "internal": (500, "An error in the Logbook. It was logged with the request id in the header X-Request-ID."),
    "unavailable": (503, "The database does not answer, or has no free connection. Try again."),
}
_OF_STATUS = {status: name for name, (status, _) in reversed(TYPES.items())}


class LogbookError(Exception):
    """An error with one sentence for the client; `kind` is a key of TYPES."""

    kind: ClassVar[str]
    headers: ClassVar[dict[str, str]] = {}


class UnauthorizedError(LogbookError):
    """The request has no credentials, or wrong ones."""

    kind = "unauthorized"
    headers: ClassVar[dict[str, str]] = {"WWW-Authenticate": "Bearer"}


class ForbiddenError(LogbookError):
    """The client is not allowed to do this."""

    kind = "forbidden"


class NotFoundError(LogbookError):
    """The requested object does not exist."""

    kind = "not-found"


class ConflictError(LogbookError):
    """The request contradicts stored data."""

    kind = "conflict"


class KeyReusedError(LogbookError):
    """An Idempotency-Key was used before with another body."""

    kind = "idempotency-key-reused"


def problem(
    kind: str, detail: str, *, headers: dict[str, str] | None = None, errors: list[dict[str, Any]] | None = None
) -> JSONResponse:
    """A response of a type from TYPES."""
    body = Problem(type=f"/problems/{kind}", title=_title(kind), status=TYPES[kind][0], detail=detail, errors=errors)
    if kind == "unavailable":
        headers = {"Retry-After": "1", **(headers or {})}
    return _answer(body, headers)


def _answer(body: Problem, headers: dict[str, str] | None) -> JSONResponse:
    return JSONResponse(body.model_dump(exclude_none=True), body.status, headers=headers, media_type=MEDIA_TYPE)


def _title(kind: str) -> str:
    return kind.replace("-", " ").capitalize()


def documented(*kinds: str) -> dict[int | str, dict[str, Any]]:
    """The error responses of these types, for a route's `responses` in the OpenAPI document."""
    found: dict[int | str, dict[str, Any]] = {}
    for kind in kinds:
        status, meaning = TYPES[kind]
        example = {"type": f"/problems/{kind}", "title": _title(kind), "status": status, "detail": "…"}
        described = found.setdefault(status, {"description": meaning, "content": {MEDIA_TYPE: _content()}})
        described["content"][MEDIA_TYPE]["examples"][kind] = {"summary": meaning, "value": example}
    return found


def _content() -> dict[str, Any]:
    return {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": {}}


def install(app: FastAPI) -> None:
    """Register the handlers."""

    @app.exception_handler(LogbookError)
    async def refused(_: Request, error: LogbookError) -> JSONResponse:
        return problem(error.kind, str(error), headers=error.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        # Without the input: it may contain a secret, or text that cannot be encoded.
        errors = [{key: item[key] for key in ("loc", "msg", "type")} for item in error.errors()]
        return problem("invalid-request", "The request is not valid.", errors=jsonable_encoder(errors))

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> JSONResponse:
        headers, detail = dict(error.headers or {}), str(error.detail)
        if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            headers["Allow"] = ", ".join(_allowed(request))
        if kind := _OF_STATUS.get(error.status_code):
            return problem(kind, detail, headers=headers)
        title = HTTPStatus(error.status_code).phrase
        return _answer(Problem(type="about:blank", title=title, status=error.status_code, detail=detail), headers)

    @app.exception_handler(PoolTimeoutError)
    @app.exception_handler(DBAPIError)
    async def database_away(_: Request, error: Exception) -> JSONResponse:
        if not is_outage(error):
            raise error  # an error in the Logbook itself
        log.warning("the database does not answer: %s", type(error).__name__)
        return problem("unavailable", "The database does not answer.")


def _allowed(request: Request) -> list[str]:
    """The methods of all routes at the request's path. Starlette itself lists only those of the first route."""
    scopes = ({**request.scope, "method": method} for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"))
    routes = request.app.routes
    return [scope["method"] for scope in scopes if any(route.matches(scope)[0] is Match.FULL for route in routes)]


def is_outage(error: Exception) -> bool:
    """Whether the database is unreachable or has no free connection, and the query itself is not the problem."""
    if not isinstance(error, DBAPIError):
        return isinstance(error, PoolTimeoutError)
    state = getattr(error.orig, "sqlstate", None) or ""
    return error.connection_invalidated or isinstance(error, OperationalError) or state.startswith(OUTAGES)
