"""/docs: the description of the API as Swagger UI shows it, whose own inline script is the only one that may run."""

from __future__ import annotations

import base64
import hashlib
import re

from fastapi import APIRouter, Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse

FILES = "/static-offline-docs"  # where FastAPIOffline serves the files of Swagger UI

router = APIRouter(include_in_schema=False)


@router.get("/docs")
async def show(request: Request) -> HTMLResponse:
    app = request.app
    page = get_swagger_ui_html(
        openapi_url=app.openapi_url,
        title=app.title,
        swagger_js_url=f"{FILES}/swagger-ui-bundle.js",
        swagger_css_url=f"{FILES}/swagger-ui.css",
        swagger_favicon_url="/static/favicon.svg",
    )
    page.headers["Content-Security-Policy"] = policy(bytes(page.body).decode())
    page.headers["Cache-Control"] = "no-cache"
    return page


def policy(page: str) -> str:
    """What the page may load and run: its own files, and its inline scripts by their digests.

    Swagger UI writes pictures as data: into its style sheet.
    """
    digests = [
        hashlib.sha256(text.encode()).digest() for text in re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    ]
    hashes = " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
    return (
        f"default-src 'none'; script-src 'self' {hashes}; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
    )
