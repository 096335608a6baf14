"""What is done around every request: a line in the log, a number in the metrics, and a limit to its body."""

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
    """One line and one count a request; the outermost of our own, so that nothing is answered without them.

    An unhandled error ends here. Let through, the server would log it, which does not know the request's id; so it is
    logged and answered here, once.
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
            if not status:  # else the server sees an answer without an end, and closes the connection
                await problem("internal", "Something went wrong here; it has been logged.")(scope, receive, answer)
        finally:
            metrics.IN_FLIGHT.dec()
            # Without a status it was cancelled, which the server answers with 500.
            _note(scope, status or 500, time.perf_counter() - started)
            logs.request_id.reset(token)


class BodyLimit:
    """Refuses a body of more than MAX_BODY bytes, by what it says of its length or else as soon as more have come.

    FastAPI has a limit too, but it is checked outside of all middleware and answers in plain text.
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
                raise HTTPException(413, TOO_LARGE)  # which FastAPI lets through to the handler of app/errors.py
            return message

        await self.app(scope, count, send)


def method_of(scope: Scope) -> str:
    """The request's method; any that nobody uses is `other`, so that clients cannot make up series."""
    method: str = scope["method"]
    return method if method in METHODS else "other"


def route_of(scope: Scope) -> str:
    """The template of the route that took the request, never the path itself: `/api/v1/deployments/{deployment_id}`."""
    # Of a route in a router that was included with a prefix only the context that FastAPI made knows all of the path.
    route = scope.get("fastapi", {}).get("effective_route_context") or scope.get("route")
    if route is None and (endpoint := scope.get("endpoint")):  # all that Starlette's own routes and mounts leave
        route = next((known for known in scope["app"].routes if _target(known) is endpoint), None)
    return getattr(route, "path_format", None) or UNMATCHED


def _target(route: BaseRoute) -> object:
    return getattr(route, "endpoint", None) or getattr(route, "app", None)


def _note(scope: Scope, status: int, seconds: float) -> None:
    method, route = method_of(scope), route_of(scope)
    metrics.observe(method, route, status, seconds)
    # Health checks come several a second while a deploy waits for them; one that fails is worth a line.
    level = logging.DEBUG if route.startswith("/health/") and status < 400 else logging.INFO
    extra = {
        "method": method,
        "route": route,
        "status": status,
        "duration_ms": round(seconds * 1000, 1),
        "token": scope["state"].get("token_name"),
    }
    log.log(level, "%s %s %d", method, route, status, extra=extra)
