"""A steady client from outside: GET and POST over kept connections, every failure counted."""

from __future__ import annotations

import itertools
import threading
import time
from dataclasses import dataclass, field

import httpx

from .conftest import Controller


@dataclass
class Outcome:
    """What a load came to."""

    sent: int = 0
    failures: list[str] = field(default_factory=list)
    releases: list[str] = field(default_factory=list)


class Load:
    """Two clients, one reading and one writing, about a hundred requests a second together; use it in a `with`."""

    LIMIT = 60_000  # requests of each client, whatever happens

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self._stop = threading.Event()
        self.outcome = Outcome()
        self._threads = [threading.Thread(target=work) for work in (self._read, self._write)]

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

    def _read(self) -> None:
        with self._controller.client(timeout=20) as client:
            for _ in self._turns():
                answer = self._send(client, "GET", "/health/ready", 200)
                if answer is not None and (tag := answer.json()["release"]) not in self.outcome.releases[-1:]:
                    self.outcome.releases.append(tag)

    def _write(self) -> None:
        with self._controller.client(timeout=20) as client:
            for number in self._turns():
                body = {"name": f"s{time.time_ns()}-{number}", "repository_url": "https://git.example.com/x"}
                self._send(client, "POST", "/api/v1/services", 201, json=body)

    def _turns(self) -> itertools.takewhile[int]:
        return itertools.takewhile(lambda turn: turn < self.LIMIT and not self._stop.wait(0.02), itertools.count())

    def _send(
        self, client: httpx.Client, method: str, path: str, expected: int, **values: object
    ) -> httpx.Response | None:
        self.outcome.sent += 1
        try:
            answer = client.request(method, path, **values)  # type: ignore[arg-type]  # json= only
        except httpx.HTTPError as error:
            self.outcome.failures.append(f"{method} {path}: {type(error).__name__} {error}")
            return None
        if answer.status_code == expected:
            return answer
        self.outcome.failures.append(f"{method} {path}: {answer.status_code} {answer.text[:200]}")
        return None
