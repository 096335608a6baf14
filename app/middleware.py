"""Middleware for every request: a log line, metrics, and a limit for its body."""

from __future__ import annotations

import logging
import re
import time
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app import logs, metrics
from app.errors import problem

log = logging.getLogger("app.request")

MAX_BODY = 64 * 1024  # bytes
TOO_LARGE = f"The body may have at most {MAX_BODY} bytes."

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{8,64}")
METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
UNMATCHED = "unmatched"


class RequestLog:
    """Logs and counts each request. It is the outermost middleware of the app, so that it sees every response.

    An unhandled error is logged and answered here, as the server would log it without the id of the request.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        status = 0
        given = Headers(scope=scope).get("X-Request-ID", "")
        request_id = given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-ID"] = request_id
            await send(message)

        token = logs.request_id.set(request_id)
        metrics.IN_FLIGHT.inc()
        try:
            await self.app(scope, receive, answer)
        except Exception:
            known = {"method": method_of(scope), "route": route_of(scope), "request_id": request_id}
            log.exception("unhandled error", extra=known)
            if not status:  # otherwise the server notices that the response has no end, and closes the connection
                await problem("internal", "An internal error occurred. It was logged.")(scope, receive, answer)
        finally:
            metrics.IN_FLIGHT.dec()
            # A request without a status was cancelled. The server answers that with 500.
            _note(scope, status or 500, time.perf_counter() - started)
            logs.request_id.reset(token)


class BodyLimit:
    """Refuses a body of more than MAX_BODY bytes, by its Content-Length or as soon as more bytes have arrived.

    FastAPI has a limit as well, but checks it outside of all middleware, and answers in plain text.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        length = Headers(scope=scope).get("Content-Length", "")
        if length.isdecimal() and int(length) > MAX_BODY:
            await problem("too-large", TOO_LARGE)(scope, receive, send)
            return
        taken = 0

        async def count() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > MAX_BODY:
                raise HTTPException(413, TOO_LARGE)  # FastAPI passes it on to the handler of app/errors.py
            return message

        await self.app(scope, count, send)


def method_of(scope: Scope) -> str:
    """The request's method, or `other` for an unknown one, so that clients cannot create new time series."""
    method: str = scope["method"]
    return method if method in METHODS else "other"


def route_of(scope: Scope) -> str:
    """The template of the request's route, not its path: `/api/v1/deployments/{deployment_id}`."""
    # For a router that was included with a prefix only FastAPI's own context has the whole path.
    route = scope.get("fastapi", {}).get("effective_route_context") or scope.get("route")
    if route is None and (endpoint := scope.get("endpoint")):  # Starlette's own routes and mounts only set this
        route = next((known for known in scope["app"].routes if _target(known) is endpoint), None)
    return getattr(route, "path_format", None) or UNMATCHED


def _target(route: BaseRoute) -> object:
    return getattr(route, "endpoint", None) or getattr(route, "app", None)


def _note(scope: Scope, status: int, seconds: float) -> None:
    method, route = method_of(scope), route_of(scope)
    metrics.observe(method, route, status, seconds)
    # There are several health checks per second during a deploy. Only failed ones are logged as INFO.
    level = logging.DEBUG if route.startswith("/health/") and status < 400 else logging.INFO
    extra = {
        "method": method,
        "route": route,
        "status": status,
        "duration_ms": round(seconds * 1000, 1),
        "token": scope["state"].get("token_name"),
    }
    log.log(level, "%s %s %d", method, route, status, extra=extra)
