"""Nginx of this machine with the configuration of the role, before an app that keeps every byte that reaches it."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import re
import shutil
import socket
import socketserver
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.templates import judges, render

NAME = "logbook.example.com"
HTTPS_PORT = 8443  # the one that is declared; Nginx listens on another one
Answer = Callable[[bytes], bytes]


def ok(_: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    request_queue_size = 4096


@dataclass
class App:
    """What reached the app: each request with its body, as bytes. It gives the answer that a test has laid out."""

    path: Path  # of its socket
    requests: list[bytes] = field(default_factory=list)
    answer: Answer = ok

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        app = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                taken = app.take(self.request)
                if not taken:
                    return
                app.requests.append(taken)
                with contextlib.suppress(OSError):
                    self.request.sendall(app.answer(taken))
                    # What comes behind is a second request that Nginx knows nothing of.
                    self.request.settimeout(0.02)
                    if more := self.request.recv(65536):
                        app.requests.append(more)

        with _Server(str(self.path), Handler) as server:
            self.path.chmod(0o777)
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
            thread.start()
            try:
                yield
            finally:
                server.shutdown()
                thread.join()
                self.path.unlink()

    @staticmethod
    def take(connection: socket.socket) -> bytes:
        """A request up to its end, by its own Content-Length."""
        data = b""
        while b"\r\n\r\n" not in data:
            part = connection.recv(65536)
            if not part:
                return data
            data += part
        head, _, body = data.partition(b"\r\n\r\n")
        length = re.search(rb"(?im)^content-length: *(\d+)\r?$", head)
        while length and len(body) < int(length[1]):
            part = connection.recv(65536)
            if not part:
                break
            body += part
        return head + b"\r\n\r\n" + body


@dataclass
class Edge:
    """Nginx at work in a directory: its ports, its app, and its logs. `source` is where clients come from."""

    directory: Path
    http: int
    https: int
    app: App
    source: str = "127.0.0.1"

    def connect(self, alpn: str = "http/1.1", name: str = NAME, timeout: float = 10) -> ssl.SSLSocket:
        context = ssl.create_default_context(cafile=self.directory / "fullchain.pem")
        context.set_alpn_protocols([alpn])
        plain = socket.create_connection(("127.0.0.1", self.https), timeout, source_address=(self.source, 0))
        return context.wrap_socket(plain, server_hostname=name)

    def send(self, request: bytes, timeout: float = 10) -> bytes:
        """All that comes back for these bytes, until Nginx closes or a whole answer is there; b"" where it only closes.

        The request should have `Connection: close`.
        """
        with self.connect(timeout=timeout) as connection:
            with contextlib.suppress(OSError):
                connection.sendall(request)
            return read_all(connection)

    def get(self, target: str, *headers: str, method: str = "GET", body: bytes = b"") -> Reply:
        lines = [f"{method} {target} HTTP/1.1", f"Host: {NAME}", "Connection: close", *headers]
        if body:
            lines.append(f"Content-Length: {len(body)}")
        return Reply.parse(self.send("\r\n".join([*lines, "", ""]).encode("latin-1") + body))

    def log(self) -> list[dict[str, Any]]:
        """The lines of the access log; clients send any bytes, and Nginx writes them."""
        text = (self.directory / "log/logbook.access.log").read_text(errors="replace")
        return [json.loads(line) for line in text.split("\n")[:-1]]

    def logged(self) -> str:
        """All that Nginx has written."""
        return "".join(path.read_text(errors="replace") for path in (self.directory / "log").iterdir())


def read_all(connection: ssl.SSLSocket | socket.socket) -> bytes:
    """One whole answer, or what there is of it when the other side closes or is silent for the connection's timeout."""
    data = b""
    with contextlib.suppress(OSError):
        while not _is_whole(data) and (part := connection.recv(65536)):
            data += part
    return data


def _is_whole(data: bytes) -> bool:
    head, end, body = data.partition(b"\r\n\r\n")
    length = re.search(rb"(?im)^content-length: *(\d+)\r?$", head)
    return bool(end) and length is not None and len(body) >= int(length[1])


@dataclass(frozen=True)
class Reply:
    """An answer: status, headers with lower-case names in the order in which they came, and the body."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    @classmethod
    def parse(cls, data: bytes) -> Reply:
        head, _, body = data.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        if not first.startswith("HTTP/1."):
            return cls(0, [], data)
        headers = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
        if ("transfer-encoding", "chunked") in headers:
            body = b"".join(_chunks(body))
        return cls(int(first.split()[1]), headers, body)

    def all(self, name: str) -> list[str]:
        return [value for known, value in self.headers if known == name]

    def one(self, name: str) -> str:
        """The header, which has to be there at most once; "" when it is not."""
        found = self.all(name)
        assert len(found) <= 1, f"{name} is there {len(found)} times: {found}"
        return found[0] if found else ""

    def json(self) -> Any:
        return json.loads(self.body)


def _chunks(body: bytes) -> Iterator[bytes]:
    while body:
        size, _, rest = body.partition(b"\r\n")
        length = int(size or b"0", 16)
        if not length:
            return
        yield rest[:length]
        body = rest[length + 2 :]


@contextlib.contextmanager
def running(
    directory: Path, settings: dict[str, Any] | None = None, host: str = "127.0.0.0/8", **changes: Any
) -> Iterator[Edge]:
    """Nginx with one site in `directory`; `settings` are laid over the app's declaration, `changes` over the role's.

    `host` are the addresses that are the host itself: with fewer of them, the others are machines beside it.
    """
    program = judges.product("nginx")
    version = judges.run(program, "-v")
    openssl = judges.run(judges.product("openssl"), "version")
    app = App(directory / "http.sock")
    _certificate(directory)
    ports = _free_ports()
    site = render.sites(**{"https_port": HTTPS_PORT, **(settings or {})})[0]
    if site["password_file"]:
        site["password_file"] = str(directory / "passwords")
    site |= {
        "upstream_socket": str(app.path),
        "certificate": str(directory / "fullchain.pem"),
        "certificate_key": str(directory / "privkey.pem"),
        "root": str(directory / "srv"),
    }
    found = {"stdout": f"{version}\n{openssl}", "stdout_lines": ["no IPv6"]}
    text = render.render("nginx", "nginx.conf.j2", nginx_sites=[site], __nginx_found=found, **changes)
    file = _moved(text.replace("127.0.0.0/8", host), directory, *ports)
    command = [str(program), "-c", str(file), "-e", str(directory / "log/error.log"), "-g", "daemon off;"]
    with app.running(), subprocess.Popen(command) as nginx:
        try:
            _wait_for(ports[1], nginx)
            yield Edge(directory, *ports, app)
        finally:
            nginx.terminate()


def _certificate(directory: Path) -> None:
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={NAME}"]
    names = ["-addext", f"subjectAltName=DNS:{NAME},DNS:www.example.com"]
    files: list[str | Path] = ["-out", directory / "fullchain.pem", "-keyout", directory / "privkey.pem"]
    judges.run(judges.product("openssl"), "req", "-x509", *kind, *names, "-days", "1", *files)


def _moved(text: str, directory: Path, http: int, https: int) -> Path:
    """The configuration for a directory instead of the system's, for this user, and for free ports of 127.0.0.1."""
    for name in ("log", "modules", "acme", "maintenance"):
        (directory / name).mkdir()
    for old, new in (
        ("/var/log/nginx", directory / "log"),
        ("/run/nginx.pid", directory / "pid"),
        ("/etc/nginx/modules-enabled", directory / "modules"),
        (render.WEBROOT, directory / "acme"),
        ("/var/lib/slipway/maintenance", directory / "maintenance"),
        ("/run/slipway-hold", directory),
    ):
        text = text.replace(old, str(new))
    text = text.replace("user www-data;", f"user {pwd.getpwuid(os.geteuid()).pw_name};")
    text = text.replace("worker_processes auto;", "worker_processes 1;")
    for path in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"):
        text = text.replace("http {\n", f"http {{\n    {path}_temp_path {directory}/{path};\n", 1)
    text = re.sub(r"listen 80\b", f"listen 127.0.0.1:{http}", text)
    file = directory / "nginx.conf"
    file.write_text(re.sub(r"listen 443\b", f"listen 127.0.0.1:{https}", text))
    return file


def _free_ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        return one.getsockname()[1], other.getsockname()[1]


def _wait_for(port: int, nginx: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 10
    while True:
        assert nginx.poll() is None, "Nginx has ended"
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        assert time.monotonic() < deadline, "Nginx does not listen"
        time.sleep(0.02)


def clean(directory: Path) -> None:
    shutil.rmtree(directory, ignore_errors=True)
