"""What goes wrong, and how a client is told: every error is a problem detail (RFC 9457)."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.encoders import jsonable_encoder
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException

from app.schemas.problem import Problem

log = logging.getLogger(__name__)

# SQLSTATE: no connection (08), none left (53), shut down or starting (57P).
OUTAGES = ("08", "53", "57P")


class NotFoundError(Exception):
    """What was asked for is not there."""


class ConflictError(Exception):
    """What was asked for contradicts what is there."""


def problem(status: int, detail: str, errors: list[dict[str, Any]] | None = None) -> JSONResponse:
    """An answer with the media type of problem details."""
    body = Problem(title=HTTPStatus(status).phrase, status=status, detail=detail, errors=errors)
    headers = {"Retry-After": "1"} if status == HTTPStatus.SERVICE_UNAVAILABLE else None
    return JSONResponse(
        body.model_dump(exclude_none=True), status, headers=headers, media_type="application/problem+json"
    )


def install(app: FastAPI) -> None:
    """Register the handlers."""

    @app.exception_handler(NotFoundError)
    async def not_found(_: Request, error: NotFoundError) -> JSONResponse:
        return problem(404, str(error))

    @app.exception_handler(ConflictError)
    async def conflict(_: Request, error: ConflictError) -> JSONResponse:
        return problem(409, str(error))

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        # Without the input: it may hold a secret, and need not be encodable.
        errors = [{key: item[key] for key in ("loc", "msg", "type")} for item in error.errors()]
        return problem(422, "The request is not valid.", jsonable_encoder(errors))

    @app.exception_handler(HTTPException)
    async def http_error(_: Request, error: HTTPException) -> JSONResponse:
        answer = problem(error.status_code, str(error.detail))
        answer.headers.update(error.headers or {})
        return answer

    @app.exception_handler(OSError)  # no connection to the database could be made
    @app.exception_handler(PoolTimeoutError)
    @app.exception_handler(DBAPIError)
    async def database_away(_: Request, error: Exception) -> JSONResponse:
        if isinstance(error, DBAPIError) and not is_outage(error):
            raise error  # a mistake of ours
        log.warning("the database does not answer: %s", type(error).__name__)
        return problem(503, "The database does not answer.")

    @app.exception_handler(Exception)  # which the server logs, with its traceback
    async def unexpected(_: Request, __: Exception) -> JSONResponse:
        return problem(500, "Something went wrong here; it has been logged.")


def is_outage(error: DBAPIError) -> bool:
    """Whether the database is away or has no connection left, rather than asked for something wrong."""
    state = getattr(error.orig, "sqlstate", None) or ""
    return error.connection_invalidated or isinstance(error, OperationalError) or state.startswith(OUTAGES)
