"""A steady load from outside: GET and POST over kept connections; every failure is counted."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import httpx


class Asked(Protocol):
    """What requests are sent to: `client` makes one that reaches it."""

    def client(self, **values: Any) -> httpx.Client: ...


@dataclass(frozen=True)
class Call:
    """A request that is sent repeatedly. `names` reads the release from an answer."""

    method: str
    path: str
    expected: int
    body: Callable[[int], dict[str, Any]] | None = None
    names: Callable[[httpx.Response], str] | None = None


@dataclass(frozen=True)
class Failure:
    """A failed request; `at` is when it was sent, on the monotonic clock."""

    at: float
    text: str


@dataclass
class Outcome:
    """The result of a load: its counts, the duration of each answer, and the releases that answered."""

    sent: int = 0
    failures: list[Failure] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    streams: dict[str, list[str]] = field(default_factory=dict)

    @property
    def releases(self) -> list[str]:
        """The releases that answered, in order; AssertionError when two clients saw different orders."""
        seen = {tuple(stream) for stream in self.streams.values()}
        assert len(seen) == 1, f"the clients saw different sequences of releases: {self.streams}"
        return list(seen.pop())

    def outside(self, windows: Iterable[tuple[float, float]]) -> list[Failure]:
        """Failures of requests, without those that were sent while the site was expected to be down."""
        windows = list(windows)
        return [item for item in self.failures if not any(begin <= item.at <= end for begin, end in windows)]

    def percentile(self, share: float) -> float:
        """The seconds within which this percentage of the requests was answered."""
        return sorted(self.seconds)[min(len(self.seconds) - 1, int(len(self.seconds) * share))]


class Load:
    """One client for each call and protocol, each with its own kept connection; use it in a `with`.

    With `keep` False each request has a connection of its own. Every request has `headers`, such as a token.
    """

    LIMIT = 60_000  # requests of each client, whatever happens

    def __init__(
        self,
        controller: Asked,
        calls: Sequence[Call],
        http2: Sequence[bool] = (False,),
        pause: float = 0.02,
        *,
        verify: bool = True,
        keep: bool = True,
        headers: dict[str, str] | None = None,
    ) -> None:
        self._controller = controller
        self._options: dict[str, Any] = {"timeout": 20, "headers": headers or {}}
        if not verify:
            self._options["verify"] = False
        if not keep:
            self._options["limits"] = httpx.Limits(max_keepalive_connections=0)
        self._pause = pause
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self.outcome = Outcome()
        self._threads = [
            threading.Thread(target=self._repeat, args=(call, version)) for call in calls for version in http2
        ]

    def __enter__(self) -> Outcome:
        for thread in self._threads:
            thread.start()
        time.sleep(0.5)
        return self.outcome

    def __exit__(self, *_: object) -> None:
        time.sleep(0.5)
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _repeat(self, call: Call, http2: bool) -> None:
        stream: list[str] = []
        if call.names is not None:
            self.outcome.streams[f"{call.method} {call.path} HTTP/{2 if http2 else 1.1}"] = stream
        with self._controller.client(http2=http2, **self._options) as client:
            for number in itertools.takewhile(lambda _: not self._stop.wait(self._pause), range(self.LIMIT)):
                answer = self._send(client, call, number, "HTTP/2" if http2 else "HTTP/1.1")
                if answer is None or call.names is None:
                    continue
                if (release := call.names(answer)) not in stream[-1:]:
                    stream.append(release)

    def _send(self, client: httpx.Client, call: Call, number: int, version: str) -> httpx.Response | None:
        started = time.monotonic()
        answer, problem = None, ""
        try:
            answer = client.request(call.method, call.path, json=call.body(number) if call.body else None)
            if answer.status_code != call.expected:
                problem = f"{answer.status_code} {answer.text[:200]}"
            elif answer.http_version != version:  # or what is claimed of HTTP/2 would be true of HTTP/1.1
                problem = f"answered by {answer.http_version}, not {version}"
        except httpx.HTTPError as error:
            problem = f"{type(error).__name__} {error}"
        with self._lock:
            self.outcome.sent += 1
            self.outcome.seconds.append(time.monotonic() - started)
            if problem:
                self.outcome.failures.append(Failure(started, f"{call.method} {call.path}: {problem}"))
        return None if problem else answer
