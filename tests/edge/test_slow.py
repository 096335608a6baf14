"""200 slow clients in three modes: Nginx closes them, and others do not wait for them."""

from __future__ import annotations

import contextlib
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from . import edge as edges
from . import slow
from .edge import NAME, Edge

CLIENTS = 67  # in each mode
SECONDS = 6
TIMEOUTS: dict[str, Any] = {
    "nginx_client_header_timeout": SECONDS,
    "nginx_client_body_timeout": SECONDS,
    "nginx_send_timeout": SECONDS,
}
# More than the kernel takes of it for a client that does not read. It is not collected, which would write it to disk.
SIZE = 8_000_000
LARGE = f"HTTP/1.1 200 OK\r\nX-Accel-Buffering: no\r\nContent-Length: {SIZE}\r\n\r\n".encode() + b"a" * SIZE


def _answer(request: bytes) -> bytes:
    return LARGE if request.startswith(b"GET /large") else edges.ok(request)


def _asking(edge: Edge, client: httpx.Client) -> Callable[[], int]:
    name = {"sni_hostname": NAME}
    return lambda: client.get(f"https://127.0.0.1:{edge.https}/", extensions=name).status_code


def test_slow_clients_are_closed_and_nobody_waits_for_them(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    context = ssl.create_default_context()
    with edges.running(tmp_path, **TIMEOUTS) as edge, contextlib.ExitStack() as stack:
        context.load_verify_locations(tmp_path / "fullchain.pem")
        edge.app.answer = _answer
        client = stack.enter_context(httpx.Client(verify=context, headers={"Host": NAME}))
        ask = _asking(edge, client)
        slow.durations(ask, 50)
        idle = slow.percentile(slow.durations(ask, 300), 0.99)
        crowds = [stack.enter_context(slow.crowd(mode, CLIENTS, edge.connect, NAME)) for mode in reversed(slow.MODES)]
        busy = slow.percentile(slow.durations(ask, 300, crowds), 0.99)
        assert all(one.left() for one in crowds), "they have to be there while others are measured"
        ended = slow.wait_until_gone(crowds, 2 * SECONDS)
        record_property("p99 idle", idle)
        record_property("p99 beside slow clients", busy)
        record_property("closed after", ended)
    # Others of this machine are at work, too: a few milliseconds are no difference.
    assert busy <= max(3 * idle, 0.02), f"p99 {idle * 1000:.1f} ms idle, {busy * 1000:.1f} ms beside slow clients"


def test_a_client_that_was_slow_for_a_while_is_served(edge: Edge) -> None:
    with edge.connect() as connection:
        for part in (b"POST / HTTP/1.1\r\nHo", b"st: " + NAME.encode(), b"\r\nContent-Length: 4\r\n\r\nbo", b"dy"):
            connection.sendall(part)
            time.sleep(0.05)
        assert edges.Reply.parse(edges.read_all(connection)).status == 200
    assert edge.app.requests[0].endswith(b"\r\n\r\nbody")
