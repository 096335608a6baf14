"""Clients that mean harm, against a provisioned host: its Nginx, its app, its deploys."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from hosts.container_runtime import HostError
from tests.controller import flat
from tests.edge import attacks, slow
from tests.edge.edge import Reply, read_all
from tests.faults.conftest import Steady
from tests.faults.site import APP, Site, Version
from tests.templates import render

EMPTIED: list[str] = render.variables("nginx")["__nginx_emptied_headers"]

# An app that writes down each request that reaches it, with metrics that are mounted, and an address for slow readers.
RECORDER = """

import json

from fastapi.responses import PlainTextResponse, StreamingResponse


class Recorder:
    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        if scope["type"] in ("http", "websocket") and scope["path"] != "/health/ready":
            path, query = scope["raw_path"].decode("latin-1"), scope["query_string"].decode("latin-1")
            headers = [[name.decode("latin-1"), value.decode("latin-1")] for name, value in scope["headers"]]
            line = [scope.get("method", "GET"), path, query, headers]
            with open(os.environ["STATE_DIRECTORY"] + "/reached.jsonl", "a") as file:
                file.write(json.dumps(line) + "\\n")
        await self.app(scope, receive, send)


@app.get("/large")
async def large():
    # More than the kernel takes for a client that does not read, and not collected by Nginx.
    async def parts():
        for _ in range(400):
            yield b"a" * 65536

    return StreamingResponse(parts())


async def metrics(scope, receive, send):
    await PlainTextResponse("metrics of the app")(scope, receive, send)


app.mount("/metrics", metrics)
app.add_middleware(Recorder)
"""
REACHED = "/var/lib/logbook/reached.jsonl"


@pytest.fixture(scope="session")
def made(provisioned: Site) -> Version:
    return provisioned.version(files={"app/main.py": (APP / "app/main.py").read_text() + RECORDER})


@pytest.fixture
def recorder(site: Site, made: Version) -> Site:
    """The host, with the version that writes down what reaches it, and nothing written yet."""
    if site.live() != made:
        site.deploy(made)
    site.sh(f"rm -f {REACHED}")
    return site


def connect(site: Site, alpn: str = "http/1.1", timeout: float = 5) -> ssl.SSLSocket:
    context = site.trust()
    context.check_hostname = False  # of an address there is no server name
    context.set_alpn_protocols([alpn])
    plain = socket.create_connection(("127.0.0.1", site.port(443)), timeout)
    return context.wrap_socket(plain, server_hostname="localhost")


def send(site: Site, request: bytes, timeout: float = 5) -> bytes:
    with connect(site, timeout=timeout) as connection:
        with contextlib.suppress(OSError):
            connection.sendall(request)
        return read_all(connection)


def reached(site: Site) -> list[bytes]:
    """What reached the app, as the bytes of a request without its body."""
    lines = [json.loads(line) for line in site.sh(f"cat {REACHED} 2>/dev/null || true").splitlines()]
    found = []
    for method, path, query, headers in lines:
        target = f"{path}?{query}" if query else path
        kept = [f"{name}: {value}" for name, value in headers if name != "content-length"]
        found.append("\r\n".join([f"{method} {target} HTTP/1.1", *kept, "", ""]).encode("latin-1"))
    return found


def check(site: Site, tried: int, record: Callable[[str, object], None]) -> None:
    requests = reached(site)
    host = f"localhost:{site.port(443)}"
    wrong = [said for request in requests for said in attacks.unlike_normal(request, host, EMPTIED)]
    assert wrong == []
    assert not any(b"6.6.6.6" in request for request in requests)
    record("tried", tried)
    record("reached the app, normalised", len(requests))


def test_malformed_and_ambiguous_requests_reach_the_app_only_normalised(
    recorder: Site, record_property: Callable[[str, object], None]
) -> None:
    statuses: Counter[int] = Counter()
    for name in attacks.HTTP1:
        statuses[Reply.parse(send(recorder, attacks.http1("localhost", name), timeout=0.5)).status] += 1
    for headers in attacks.HTTP2.values():
        with connect(recorder, "h2") as connection:
            attacks.send_http2(connection, "localhost", headers)
            statuses[attacks.status(attacks.wait_for_end(connection, 1))] += 1
    record_property("statuses", dict(statuses))
    # 502 and 503 would be an app that hung up, and would count against its release.
    assert {status for status in statuses if status >= 500} <= {501, 505}
    check(recorder, len(attacks.HTTP1) + len(attacks.HTTP2), record_property)


def test_metrics_that_an_app_mounts_are_reached_on_the_host_only(
    recorder: Site, record_property: Callable[[str, object], None]
) -> None:
    dots = ("..", ".", "%2e%2e", "%2E.", ".%2e", "%252e%252e")
    slashes = ("/", "//", "%2f", "%2F", "%5c", "%252f", ";/")
    targets = [
        "/metrics",
        "/metrics/",
        "/metrics/x",
        "//metrics",
        "/%6detrics",
        "/metrics%2f",
        "/METRICS",
        "/metrics;x",
    ]
    targets += [f"/metrics{one}{dot}{other}x" for one in slashes for dot in dots for other in ("/", "%2f", "")]
    targets += [f"/x{one}{dot}{one}metrics/" for one in slashes for dot in dots]
    for target in targets:
        answer = send(recorder, f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        assert b"metrics of the app" not in answer, target
        with connect(recorder, "h2") as connection:
            pseudo = [*attacks.HTTP2["path empty"][:3], (":path", target)]
            attacks.send_http2(connection, "localhost", pseudo, body=b"")
            assert b"metrics of the app" not in attacks.wait_for_end(connection, 1), target
    assert "metrics of the app" in recorder.sh(
        "curl -sL --unix-socket /srv/logbook/live/http.sock http://localhost/metrics/ || true"
    ) or not recorder.host.exec("sh", "-c", "command -v curl", check=False)
    check(recorder, 2 * len(targets), record_property)


# Floods during a deploy

HOST = "Host: localhost"
FLOODS: dict[str, bytes] = {
    "501": f"POST / HTTP/1.1\r\n{HOST}\r\nTransfer-Encoding: x\r\n\r\n".encode(),
    "505": f"GET / HTTP/3.0\r\n{HOST}\r\n\r\n".encode(),
    "400": f"GET /%zz HTTP/1.1\r\n{HOST}\r\n\r\n".encode(),
    "400, dot segments": f"GET /a/%2e%2e/b HTTP/1.1\r\n{HOST}\r\nConnection: close\r\n\r\n".encode(),
    "404, metrics": f"GET /metrics HTTP/1.1\r\n{HOST}\r\nConnection: close\r\n\r\n".encode(),
    "405": f"TRACE / HTTP/1.1\r\n{HOST}\r\n\r\n".encode(),
    "413": f"POST / HTTP/1.1\r\n{HOST}\r\nContent-Length: 999999999\r\n\r\n".encode(),
    "414": b"GET /" + b"a" * 20000 + f" HTTP/1.1\r\n{HOST}\r\n\r\n".encode(),
    "431": f"GET / HTTP/1.1\r\n{HOST}\r\nX-Large: {'a' * 20000}\r\n\r\n".encode(),
    # Of these the client does not wait for the answer: 499.
    "499": f"GET /slow?seconds=5 HTTP/1.1\r\n{HOST}\r\n\r\n".encode(),
    "499, half a body": f"POST / HTTP/1.1\r\n{HOST}\r\nContent-Length: 99\r\n\r\nhalf".encode(),
    # These reach the app, which refuses them itself: none makes it hang up.
    "handshake of no WebSocket": (
        f"GET / HTTP/1.1\r\n{HOST}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    ).encode(),
    "handshake of version 1": (
        f"GET /ws HTTP/1.1\r\n{HOST}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 1\r\n"
        "Sec-WebSocket-Key: x\r\n\r\n"
    ).encode(),
    "bytes of no text": f"GET /%ff%fe?\xff HTTP/1.1\r\n{HOST}\r\nX: \x01\x80\r\nConnection: close\r\n\r\n".encode(
        "latin-1"
    ),
    "header of 60 kB": (
        f"GET / HTTP/1.1\r\n{HOST}\r\n" + "".join(f"X-{n}: {'a' * 15000}\r\n" for n in range(4)) + "\r\n"
    ).encode(),
}


@contextlib.contextmanager
def flooded(site: Site, names: list[str]) -> Iterator[Counter[str]]:
    """Each of these requests again and again from outside, as fast as they are answered; how often."""
    stop, sent = threading.Event(), Counter[str]()

    def repeat(name: str) -> None:
        while not stop.is_set() and sent[name] < 5000:
            with contextlib.suppress(OSError), connect(site, timeout=1) as connection:
                connection.sendall(FLOODS[name])
                if not name.startswith("499"):
                    read_all(connection)
                sent[name] += 1

    threads = [threading.Thread(target=repeat, args=[name]) for name in names]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    try:
        yield sent
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_a_flood_of_requests_that_fail_by_themselves_makes_no_deploy_go_back(
    site: Site, record_property: Callable[[str, object], None]
) -> None:
    old = site.live()
    new = next(version for version in site.good if version != old)
    with site.settings(watch_seconds=4, watch_min_requests=20), flooded(site, list(FLOODS)) as sent:
        site.deploy(new)
    receipt = site.phase(new, "result")["detail"]["receipt"]
    record_property("tried", dict(sent))
    record_property("receipt", receipt)
    assert site.live() == new
    assert min(sent.values()) >= 20
    assert receipt["failed"] == 0


def test_a_flood_hides_no_release_that_fails(
    site: Site, steady: Steady, record_property: Callable[[str, object], None]
) -> None:
    old, new = site.live(), site.version("fails_under_traffic")
    own = [name for name in FLOODS if name[:3].isdigit()]
    with site.settings(watch_seconds=10), steady(), flooded(site, own) as sent:
        output = flat(site.fails(new))
    record_property("tried", dict(sent))
    assert "requests were answered with a server error" in output
    assert site.live() == old


# Slow clients


# It runs in the network of the host: what publishes its ports would read in place of a client that does not. The slow
# clients have an address like any other client, and what one address may have; the others ask from the host itself.
CROWDS = """
import http.client, json, subprocess
context = ssl._create_unverified_context()
address = subprocess.check_output(["hostname", "-I"], text=True).split()[0]

def connect(window=0):
    plain = socket.socket()
    if window:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)  # before it is connected: it takes little
    plain.settimeout(20)
    plain.connect((address, 443))
    return context.wrap_socket(plain, server_hostname="localhost")

connection = http.client.HTTPSConnection("localhost", 443, context=context)

def ask():
    connection.request("GET", "/")
    answer = connection.getresponse()
    answer.read()
    return answer.status

durations(ask, 50)
found = {"p99 idle": percentile(durations(ask, 300), 0.99)}
with contextlib.ExitStack() as stack:
    # Those that live longest first. They leave room in what one address may have, so that bodies are taken, too.
    crowds = [stack.enter_context(crowd("read", 140, lambda: connect(4096), "localhost"))]
    crowds += [stack.enter_context(crowd(mode, 200, connect, "localhost")) for mode in ("body", "headers")]
    found["p99 beside slow clients"] = percentile(durations(ask, 300, crowds), 0.99)
    found["not yet closed then"] = {one.mode: one.left() for one in crowds}
    found["closed after"] = wait_until_gone(crowds, 60)
print(json.dumps(found))
"""


def test_slow_clients_of_a_host_are_closed_and_nobody_waits_for_them(
    recorder: Site, record_property: Callable[[str, object], None]
) -> None:
    script = Path(slow.__file__).read_text() + CROWDS
    found = json.loads(recorder.host.exec("python3", "-", stdin=script))
    for name, value in found.items():
        record_property(name, value)
    assert found["p99 beside slow clients"] <= max(3 * found["p99 idle"], 0.05)


# Logs

# As logrotate does it with Debian's settings for Nginx.
ROTATE = """
cd /var/log/nginx && for log in *.log; do
    test ! -e $log.1 || mv $log.1 $log.2; mv $log $log.1; install -m 0640 -o www-data -g adm /dev/null $log
done
kill -USR1 $(cat /run/nginx.pid); sleep 0.5
"""


def test_no_app_reads_a_log_and_no_log_has_a_query(recorder: Site) -> None:
    secret = "s3cr3t-of-a-query"
    for request in FLOODS.values():
        first, rest = request.split(b" HTTP", 1)
        send(recorder, first + f"?{secret} HTTP".encode() + rest, timeout=0.5)
    recorder.sh("systemctl stop logbook@blue.socket logbook@blue logbook@green.socket logbook@green")
    try:
        answer = httpx.get(f"https://127.0.0.1:{recorder.port(443)}/?{secret}", verify=recorder.trust())
        assert answer.status_code == 503
    finally:
        recorder.sh("systemctl start logbook@$(basename $(readlink /srv/logbook/live)).socket")
    recorder.wait_until_ready(30)
    for _ in range(2):
        recorder.sh(ROTATE)
        send(recorder, b"GET /?" + secret.encode() + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    listed = recorder.sh("find /var/log/nginx -type f -printf '%m %u:%g %p\\n'").splitlines()
    assert len([line for line in listed if "logbook.access.log" in line]) >= 3
    assert [line for line in listed if not line.startswith("640 ")] == []
    assert recorder.sh(f"zgrep -l {secret} /var/log/nginx/* || true") == ""
    for user in ("logbook", "logbook_build", "logbook_migrate", "nobody"):
        for line in listed:
            with pytest.raises(HostError):
                recorder.host.exec("runuser", "-u", user, "--", "cat", line.split()[2])
    # Nginx writes on, and the engine reads on.
    assert recorder.sh("tail -n1 /var/log/nginx/logbook.access.log").startswith("{")
