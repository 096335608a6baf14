"""Receivers of webhooks on 127.0.0.1, over real sockets: one that answers, and some that behave badly."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Receiver(ThreadingHTTPServer):
    """Remembers what it was sent (path and decoded body), and answers `status`, with `location` where there is one."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.got: list[tuple[str, Any]] = []
        self.status = 200
        self.location = ""
        self.delay = 0.0
        self.endless = False  # its answer has no end

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/services/S3CRET?token=T0KEN"

    def handle_error(self, *_: object) -> None:
        """The caller has gone."""


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.got.append((self.path, body))
        time.sleep(self.server.delay)
        self.send_response(self.server.status)
        if self.server.location:
            self.send_header("Location", self.server.location)
        self.end_headers()
        while self.server.endless:
            self.wfile.write(b"x" * 65536)
        self.wfile.write(b"ok")

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def receiver() -> Iterator[Receiver]:
    with Receiver() as made:
        threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        try:
            yield made
        finally:
            made.endless = False
            made.shutdown()


@contextlib.contextmanager
def talker(talk: Callable[[socket.socket], None]) -> Iterator[str]:
    """The address of a server that has `talk` with each caller, until the block ends or the caller has gone."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer(caller: socket.socket) -> None:
            with caller, contextlib.suppress(OSError):
                talk(caller)

        def accept() -> None:
            while True:
                try:
                    caller, _ = listening.accept()
                except OSError:
                    return
                threading.Thread(target=answer, args=[caller], daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}/services/S3CRET"
        finally:
            listening.shutdown(socket.SHUT_RDWR)


def hang(_: socket.socket) -> None:
    """Take the request, and say nothing."""
    time.sleep(30)


def drip(caller: socket.socket) -> None:
    """Answer one byte at a time: no pause is as long as a timeout."""
    for byte in b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 10_000:
        caller.sendall(bytes([byte]))
        time.sleep(0.05)


def stutter(caller: socket.socket) -> None:
    """Answer what is no HTTP."""
    caller.recv(65536)
    caller.sendall(b"\x16\x03\x01 what?\r\n\r\n")
