"""/metrics. Nginx does not pass it on to clients: it is read over the slot's socket."""

from __future__ import annotations

from fastapi import APIRouter, Response

from app import metrics

router = APIRouter(include_in_schema=False)


@router.get("/metrics")
def show() -> Response:  # not async: it reads files
    return Response(metrics.read(), media_type=metrics.CONTENT_TYPE)
