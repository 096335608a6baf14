"""Clients that are slow on purpose, and how long others wait meanwhile.

Python's own library is all that it needs: a test runs it on a host, too.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

Connect = Callable[[], ssl.SSLSocket]

MODES = ("headers", "body", "read")


def begin(connection: ssl.SSLSocket, mode: str, host: str, large: str) -> None:
    """Send what a slow client sends at first; `large` is an address with an answer that fills all buffers."""
    if mode == "headers":
        connection.sendall(f"GET / HTTP/1.1\r\nHost: {host}\r\nX-Slow: ".encode())
    elif mode == "body":
        connection.sendall(
            f"POST / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: 100000\r\n\r\nslow".encode()
        )
    else:
        connection.sendall(f"GET {large} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())


@dataclass
class Crowd:
    """Slow clients under way, all of one mode. Those of headers send a byte at each `nudge`, the others nothing."""

    mode: str
    connections: list[ssl.SSLSocket] = field(default_factory=list)

    def nudge(self) -> None:
        for connection in self.connections if self.mode == "headers" else ():
            with contextlib.suppress(OSError):
                connection.sendall(b"x")

    def left(self) -> int:
        """How many of them Nginx still serves. It resets a connection whose time is over, or answers and closes it."""
        poller = select.poll()
        for connection in self.connections:
            poller.register(connection.fileno(), select.POLLRDHUP | select.POLLHUP | select.POLLERR)
        return len(self.connections) - len(poller.poll(0))


@contextlib.contextmanager
def crowd(mode: str, number: int, connect: Connect, host: str, large: str = "/large") -> Iterator[Crowd]:
    found = Crowd(mode)
    try:
        for _ in range(number):
            connection = connect()
            found.connections.append(connection)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            begin(connection, mode, host, large)
        yield found
    finally:
        for connection in found.connections:
            connection.close()


def durations(ask: Callable[[], int], number: int, meanwhile: Sequence[Crowd] = ()) -> list[float]:
    """Seconds of each of so many requests, of which each has to be answered with 200, sorted."""
    taken = []
    for count in range(number):
        started = time.monotonic()
        status = ask()
        taken.append(time.monotonic() - started)
        assert status == 200
        if count % 20 == 0:
            for one in meanwhile:
                one.nudge()
    return sorted(taken)


def percentile(taken: Sequence[float], share: float) -> float:
    return taken[min(len(taken) - 1, int(len(taken) * share))]


def wait_until_gone(crowds: Sequence[Crowd], seconds: float) -> dict[str, float]:
    """When the last client of each mode was closed, in seconds from now; AssertionError names who stays longer."""
    started = time.monotonic()
    ended: dict[str, float] = {}
    while len(ended) < len(crowds):
        for one in crowds:
            one.nudge()
            if one.mode not in ended and not one.left():
                ended[one.mode] = time.monotonic() - started
        stay = {one.mode: one.left() for one in crowds if one.mode not in ended}
        assert time.monotonic() - started < seconds, f"not closed after {seconds} s: {stay}"
        time.sleep(0.05)
    return ended
