"""A Logbook for the engine to report to, over real HTTP: it remembers what it is told, and answers as it is bid."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from slipway.observers import logbook

from .fakes import Host

TOKEN = "lb_0123_secret"

Answer = tuple[int, Any]


class Logbook(ThreadingHTTPServer):
    """Remembers what it is told; `answers` stand in for its own, by a part of the path."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.keys: dict[str, int] = {}
        self.services = {"logbook"}
        self.answers: dict[str, Answer] = {}
        self.delay = 0.0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def answer(self, path: str, body: dict[str, Any], key: str | None) -> Answer:
        for part, answer in self.answers.items():
            if part in path:
                return answer
        if path == "/api/v1/services":
            self.services.add(body["name"])
            return 201, body
        if path == "/api/v1/deployments":
            if body["service"] not in self.services:
                return problem(404, "There is no such service.")
            assert key is not None
            known = key in self.keys
            return (200 if known else 201), {"id": self.keys.setdefault(key, len(self.keys) + 1)}
        return 200, {"status": body["status"]}

    def handle_error(self, *_: object) -> None:
        """A caller that has gone, or does not trust us."""

    def ends(self) -> list[tuple[int, str]]:
        """Number and status of each deployment that was finished, in that order."""
        return [(int(path.split("/")[4]), body["status"]) for path, body in self.told if path.endswith("/finish")]


class Handler(BaseHTTPRequestHandler):
    server: Logbook

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        time.sleep(self.server.delay)
        if self.headers["Authorization"] != f"Bearer {TOKEN}":
            status, answer = problem(401, "The token is unknown.")
        else:
            self.server.told.append((self.path, body))
            status, answer = self.server.answer(self.path, body, self.headers["Idempotency-Key"])
        content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


def problem(code: int, detail: str) -> Answer:
    return code, {"type": "/problems/x", "title": "x", "status": code, "detail": detail}


def connect(host: Host, url: str) -> None:
    host.settings = replace(host.settings, logbook_url=url, logbook_repository_url="https://git.example.com/logbook")
    host.engine.settings = host.settings
    host.engine.observers = [logbook.Logbook(host.settings)]


def values_of(host: Host) -> dict[str, Any]:
    """The settings of `host` as its file would have them."""
    return {name: str(value) if isinstance(value, Path) else value for name, value in asdict(host.settings).items()}


def notes(host: Host) -> list[str]:
    events = [json.loads(line) for line in host.stream.getvalue().splitlines()]
    return [event["message"] for event in events if event["event"] == "note"]


def waiting(host: Host) -> int:
    return len(list(host.settings.outbox.glob("*.json"))) if host.settings.outbox.exists() else 0
