"""The Logbook on a real host: it has its own deploys, requires tokens, and does not reveal secrets.
Each test depends on those before it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

import pytest
from playwright.sync_api import ConsoleMessage, expect

from hosts import scratch
from tests.controller import SECRET, flat
from tests.picture import browser

from .conftest import Controller

SETTINGS = "/etc/slipway/logbook.toml"
TOKEN_FILE = "/etc/slipway/logbook.logbook-token"
# Debian's image has no curl.
ASK = """
import http.client, socket, sys

connection = http.client.HTTPConnection("localhost")
connection.sock = socket.socket(socket.AF_UNIX)
connection.sock.connect(sys.argv[1])
connection.request("GET", sys.argv[2])
print(connection.getresponse().read().decode())
"""
# Lets everybody write, as a release does whose author took the check away.
OPEN = """

async def anybody() -> ApiToken:
    return ApiToken(name="anybody")


Writer = Annotated[ApiToken, Depends(anybody)]
"""


@dataclass
class Logbook:
    """The Logbook on its host; the output of the playbooks, and the secrets that must not be in any log."""

    controller: Controller
    token: str = ""  # what reads it
    secrets: list[str] = field(default_factory=lambda: [SECRET])
    printed: str = ""

    def play(self, playbook: str, *arguments: str, check: bool = True) -> str:
        output = self.controller.play(playbook, *arguments, check=check)
        self.printed += output
        return output

    def get(self, path: str, **query: str) -> dict[str, Any]:
        """The API's answer to a client that may read."""
        with self.controller.client(headers={"Authorization": f"Bearer {self.token}"}) as client:
            answer = client.get(f"/api/v1{path}", params=query)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def deployments(self) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = self.get("/deployments", service="logbook")["items"]
        return items

    def new_token(self, name: str, scope: str) -> str:
        token = self.controller.token(name, scope)
        self.secrets += [token, token.split("_", 2)[2]]
        return token

    def status(self) -> str:
        return self.controller.host.exec("slipway", "status", "logbook")


@pytest.fixture(scope="module")
def logbook(controller: Controller) -> Logbook:
    """v1.0.0 is live, then the engine gets a token, like on a new host."""
    controller.host.exec("rm", "-f", TOKEN_FILE)  # where an earlier run was on a host that was kept
    if controller.host.exec("sh", "-c", "test -e /srv/logbook/live && echo live", check=False) != "live":
        controller.play("site.yml")
    first = controller.play("deploy.yml", "-e", "version=v1.0.0", "-e", "force=true")
    made = Logbook(controller, printed=first)
    made.token = made.new_token("reader", "read")
    controller.app["logbook_token"] = made.new_token("slipway", "write")
    controller.declare()
    made.play("site.yml", "-vvv", "--diff")
    return made


def test_the_logbook_has_each_deploy_with_its_receipt(logbook: Logbook) -> None:
    known = {item["id"] for item in logbook.deployments()}
    logbook.play("deploy.yml", "-e", "version=v2.0.0", "-vvv", "--diff")
    logbook.play("rollback.yml", "-vvv", "--diff")
    assert "waits" not in logbook.status()
    rollback, second, first, *_ = logbook.deployments()
    assert {rollback["id"], second["id"], first["id"]}.isdisjoint(known), "also the one from before there was a token"
    assert [(item["kind"], item["version"], item["status"]) for item in (rollback, second, first)] == [
        ("rollback", "v1.0.0", "succeeded"),
        ("deploy", "v2.0.0", "rolled_back"),
        ("deploy", "v1.0.0", "succeeded"),
    ]
    status = logbook.controller.status()
    for item, line in zip((rollback, second, first), status["last"], strict=False):
        assert item["detail"] == line["message"]
        assert item["phases"] == line["receipt"]["phases"]
        assert (item["commit"], item["host"], item["environment"]) == (line["sha"], status["host"], "local")
    assert {"stage", "migrate", "start", "switch", "watch", "drain"} <= second["phases"].keys()
    assert second["detail"].startswith("v1.0.0 → v2.0.0 in "), "not the sentence of its receipt"


def test_the_logbook_and_the_host_agree_on_what_is_live(logbook: Logbook) -> None:
    found, status = logbook.get("/deployments/live", service="logbook"), logbook.controller.status()
    assert found["complete"]
    assert [(item["version"], item["commit"], item["host"]) for item in found["items"]] == [
        (status["live"]["tag"], status["live"]["sha"], status["host"])
    ]


def test_a_release_without_authentication_gets_no_traffic(logbook: Logbook) -> None:
    controller, live = logbook.controller, logbook.controller.ready()
    source = (scratch.PROJECT / "app/auth.py").read_text()
    controller.variant("v5.0.0", {"app/auth.py": source + OPEN})
    output = logbook.play("deploy.yml", "-e", "version=v5.0.0", check=False)
    sentence = (
        "POST /api/v1/deployments without credentials was answered with 422 by v5.0.0, but must be answered with "
    )
    assert f"{sentence}401 or 403" in flat(output)
    assert controller.ready()["sha"] == live["sha"]
    assert (controller.status()["deployment"], controller.status()["live"]["tag"]) == (None, live["release"])
    refused = logbook.deployments()[0]
    assert (refused["version"], refused["status"]) == ("v5.0.0", "failed")
    assert "without credentials" in refused["detail"]


def test_a_logbook_that_is_down_fails_no_deploy_and_gets_the_report_later(logbook: Logbook) -> None:
    host, known = logbook.controller.host, len(logbook.deployments())
    before = host.exec("cat", SETTINGS)
    host.exec("sed", "-i", 's|^logbook_url = .*|logbook_url = "https://127.0.0.1:9"|', SETTINGS)
    try:
        logbook.play("deploy.yml", "-e", "version=v2.0.0")
        assert "1 report waits (https://127.0.0.1:9 does not answer" in logbook.status()
        assert "1 report waits" in logbook.play("status.yml")
    finally:
        host.exec("sh", "-c", f"cat > {SETTINGS}", stdin=before + "\n")
    assert len(logbook.deployments()) == known
    assert host.exec("slipway", "report", "logbook") == "1 report(s) sent, none is waiting."
    assert "waits" not in logbook.status()
    newest = logbook.deployments()[0]
    assert (newest["version"], newest["status"]) == ("v2.0.0", "succeeded")
    assert newest["detail"] == logbook.controller.status()["last"][0]["message"]


def test_metrics_of_all_workers_can_be_read_on_the_host_only(logbook: Logbook) -> None:
    controller = logbook.controller
    with controller.client() as client:
        assert client.get("/metrics").status_code == 404

    def answered() -> float:
        text = controller.host.exec("python3", "-c", ASK, "/srv/logbook/live/http.sock", "/metrics")
        series = 'http_requests_total{method="GET",route="/health/ready",status="200"} '
        return sum(float(line.removeprefix(series)) for line in text.splitlines() if line.startswith(series))

    before, asked = answered(), 200
    with controller.client() as client:
        workers = {client.get("/health/ready").json()["pid"] for _ in range(asked)}
    assert len(workers) > 1
    assert answered() - before == asked


def test_people_sign_in_to_the_page_over_tls(logbook: Logbook) -> None:
    url = f"https://127.0.0.1:{logbook.controller.port(443)}"
    wrong: list[str] = []

    def note(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            wrong.append(f"{message.type}: {message.text}")

    with browser(url, logbook.controller.state / "ca.crt") as opened:
        context = opened.new_context()
        page = context.new_page()
        page.on("console", note)
        page.on("pageerror", lambda error: wrong.append(f"uncaught: {error}"))
        page.on("request", lambda asked: None if asked.url.startswith(f"{url}/") else wrong.append(asked.url))
        page.goto(url)
        page.get_by_label("Token").fill(logbook.new_token("person", "read"))
        page.get_by_role("button", name="Sign in").click()
        expect(page.locator(".live").get_by_text("v2.0.0")).to_be_visible()
        expect(page.locator(".timeline summary .version").first).to_have_text("v2.0.0")
        expect(page.get_by_text("Rolled back").first).to_be_visible()
        answer = page.reload()
        assert answer is not None
        assert answer.headers["strict-transport-security"].startswith("max-age=")
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "unsafe" not in answer.headers["content-security-policy"]
        [cookie] = context.cookies()
        assert (cookie["secure"], cookie["httpOnly"]) == (True, True)
        logbook.secrets.append(cookie["value"])
    assert wrong == []


# What the unit writes when it stops a slot on standby; no process of the app does.
ENDED = r"On standby: worker \d+ is killed, which is its proper end\."


def test_every_line_of_the_apps_log_is_json(logbook: Logbook) -> None:
    """The log lines of the app's processes in all tests here, without systemd's own lines and those of `ExecStop=`."""
    lines = [line for line in _log(logbook).splitlines() if not re.fullmatch(ENDED, line)]
    entries = [json.loads(line) for line in lines]
    assert all(isinstance(entry, dict) and {"time", "level", "message"} <= entry.keys() for entry in entries)
    recorded = [entry for entry in entries if entry.get("route") == "/api/v1/deployments" and entry["status"] == 201]
    assert {entry["token"] for entry in recorded} >= {"slipway"}
    assert {entry["release"] for entry in recorded} >= {"v1.0.0"}


def test_no_token_cookie_or_key_is_in_any_log(logbook: Logbook) -> None:
    wrong_token = "lb_0123456789ab_" + "not-a-token-of-anybody" * 2
    logbook.secrets.append(wrong_token)
    with logbook.controller.client(headers={"Authorization": f"Bearer {wrong_token}"}) as client:
        assert client.get("/api/v1/deployments").status_code == 401
    host = logbook.controller.host
    places = {
        "the app's log": _log(logbook),
        "journald": host.exec("journalctl", "--no-pager", "--output=cat"),
        "nginx's logs": host.exec("sh", "-c", "cat /var/log/nginx/*.log"),
        "the engine's journal": host.exec("cat", "/srv/logbook/journal.jsonl"),
        "the output of playbooks": logbook.printed,
    }
    assert all(places.values())
    assert len(logbook.secrets) >= 9, "or a test before this one did not leave what it saw"
    found = {name: [part for part in logbook.secrets if part in text] for name, text in places.items()}
    assert [name for name, seen in found.items() if seen] == []


def _log(logbook: Logbook) -> str:
    command = ["journalctl", "--no-pager", "--output=cat", "--unit=logbook@*", "_TRANSPORT=stdout"]
    return logbook.controller.host.exec(*command)
