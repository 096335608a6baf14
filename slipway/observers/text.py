"""Text from elsewhere, made fit for a line of a log or a terminal."""

from __future__ import annotations

import ssl

LIMIT = 200


def one_line(text: str, limit: int = LIMIT) -> str:
    """At most `limit` characters of `text` on one line, without control characters."""
    return "".join(character if character.isprintable() else " " for character in text[:limit])


def reason(error: Exception) -> str:
    """Why a request got no answer, in a few words on one line."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate cannot be trusted, {one_line(error.verify_message)}"
    return one_line(getattr(error, "strerror", None) or str(error) or type(error).__name__)
