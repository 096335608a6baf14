"""Which answers Nginx passes on as they are sent: the part of Gunicorn's settings that says so."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.templates import render

Headers = list[tuple[bytes, bytes]]


@pytest.fixture
def streaming() -> Callable[[Any], Any]:
    text = render.render("app", "gunicorn.conf.py.j2")
    found = re.search(r"^def is_asgi3\(.*?(?=^class )", text, re.DOTALL | re.MULTILINE)
    assert found, "there is no such function any more"
    known: dict[str, Any] = {"inspect": inspect}
    exec(found[0], known)  # noqa: S102  # it is our own
    made: Callable[[Any], Any] = known["streaming"]
    return made


async def answered(streaming: Callable[[Any], Any], headers: Headers, kind: str = "http") -> Headers:
    """The headers that Nginx gets of an answer with these."""
    sent: list[dict[str, Any]] = []

    async def app(_: object, __: object, send: Callable[[Any], Any]) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"x"})

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await streaming(app)({"type": kind}, None, send)
    assert sent[1] == {"type": "http.response.body", "body": b"x"}
    found: Headers = sent[0]["headers"]
    return found


@pytest.mark.parametrize(
    "headers",
    [
        [(b"content-type", b"text/event-stream; charset=utf-8")],
        [(b"Content-Type", b"application/x-ndjson")],
        [(b"content-disposition", b"inline")],
        [],
    ],
)
async def test_an_answer_of_unknown_length_is_passed_on_as_it_is_sent(
    streaming: Callable[[Any], Any], headers: Headers
) -> None:
    assert await answered(streaming, headers) == [*headers, (b"x-accel-buffering", b"no")]


@pytest.mark.parametrize(
    "headers",
    [
        [(b"content-length", b"1")],
        [(b"Content-Length", b"1")],
        [(b"Content-Disposition", b"Attachment; filename=export.csv")],
        [(b"X-Accel-Buffering", b"yes")],
        [(b"x-accel-buffering", b"no")],
    ],
)
async def test_others_are_left_as_they_are(streaming: Callable[[Any], Any], headers: Headers) -> None:
    assert await answered(streaming, headers) == headers


async def test_only_answers_over_http_are_looked_at(streaming: Callable[[Any], Any]) -> None:
    assert await answered(streaming, [], kind="websocket") == []


def test_an_app_that_is_no_asgi_3_is_left_as_it_is(streaming: Callable[[Any], Any]) -> None:
    def wsgi(environ: object, start_response: object) -> None: ...

    assert streaming(wsgi) is wsgi
