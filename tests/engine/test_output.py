"""Whether a client still reads what the engine prints."""

from __future__ import annotations

import contextlib
import io
import os
import socket
import threading
import time
from collections.abc import Iterator
from typing import TextIO

import pytest

from slipway.base.output import Reporter


class Ends:
    """The engine's output, and the client's end of it."""

    def __init__(self, kind: str) -> None:
        if kind == "pipe":
            self._client, written = os.pipe()
        else:  # as sshd gives it to a program without a terminal
            client, engine = socket.socketpair()
            self._client, written = client.detach(), engine.detach()
        self.output: TextIO = os.fdopen(written, "w")
        self._is_open = True

    def disconnect(self) -> None:
        if self._is_open:
            os.close(self._client)
        self._is_open = False


@pytest.fixture(params=["pipe", "socket"])
def ends(request: pytest.FixtureRequest) -> Iterator[Ends]:
    made = Ends(request.param)
    yield made
    made.disconnect()
    with contextlib.suppress(BrokenPipeError):
        made.output.close()


def test_a_disconnected_client_is_noticed_without_writing(ends: Ends) -> None:
    report = Reporter(as_json=True, stream=ends.output)
    assert report.has_client
    ends.disconnect()
    assert not report.has_client


def test_output_that_is_kept_in_memory_has_a_client() -> None:
    assert Reporter(as_json=True, stream=io.StringIO()).has_client


def test_has_client_after_waits_for_a_connected_client_only(ends: Ends) -> None:
    report = Reporter(as_json=True, stream=ends.output)
    assert report.has_client_after("The lock is free.", 0.1)
    threading.Timer(0.1, ends.disconnect).start()
    started = time.monotonic()
    assert not report.has_client_after("The lock is free.", 10)
    assert time.monotonic() - started < 5


def test_nothing_that_a_terminal_would_obey_is_printed() -> None:
    stream = io.StringIO()
    Reporter(as_json=False, stream=stream).result("ok", "a\x1b]0;title\x07b\rc\x9bd\n\tü")
    assert stream.getvalue() == "a\\x1b]0;title\\x07b\\rc\\x9bd\n\tü\n"
