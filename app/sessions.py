"""Signing in to the page: a signed cookie with the id of the token that was entered.

The token itself is not in the cookie. Every visit checks that the token is still valid, so revoking it ends its visits.
"""

from __future__ import annotations

import hashlib

from fastapi import Request, Response
from itsdangerous import BadSignature, URLSafeTimedSerializer

from app.settings import Settings

LIFETIME = 30 * 24 * 3600  # seconds


def token_id(request: Request) -> int | None:
    """The id of the token that was entered; None without a cookie that was signed in the last 30 days.

    Cookies that were signed with the key before a rotation count, and are signed anew at the next sign-in.
    """
    settings: Settings = request.app.state.settings
    try:
        found = _serializer(settings).loads(request.cookies.get(_name(request), ""), max_age=LIFETIME)
    except BadSignature:
        return None
    return found if isinstance(found, int) else None


def start(request: Request, response: Response, token_id: int) -> None:
    settings: Settings = request.app.state.settings
    value = _serializer(settings).dumps(token_id)
    # Lax, so that people who follow a link from a chat do not have to sign in again. All changes are POST requests.
    response.set_cookie(
        _name(request), str(value), max_age=LIFETIME, path="/", secure=_secure(request), httponly=True, samesite="lax"
    )


def end(request: Request, response: Response) -> None:
    response.delete_cookie(_name(request), path="/", secure=_secure(request), httponly=True, samesite="lax")


def _serializer(settings: Settings) -> URLSafeTimedSerializer:
    keys = [key.get_secret_value() for key in (settings.secret_key_previous, settings.secret_key)]
    return URLSafeTimedSerializer(  # it signs with the last one
        [key for key in keys if key], salt="app.sessions", signer_kwargs={"digest_method": hashlib.sha256}
    )


def _secure(request: Request) -> bool:
    """Whether the client uses HTTPS, as the proxy reports it."""
    return request.url.scheme == "https"


def _name(request: Request) -> str:
    # With this prefix browsers accept the cookie only from this host, and only over HTTPS.
    return "__Host-logbook" if _secure(request) else "logbook"
