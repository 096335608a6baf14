"""Hooks on a real host: real commands in real units, and a webhook on the host itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from .conftest import Controller

HOOKS_FILE = "/etc/slipway/logbook.hooks.json"
RECEIVED = "/run/received.jsonl"
PORT = 8099

# Notes what is posted to it.
RECEIVER = f"""
import http.server, json

class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with open("{RECEIVED}", "a") as file:
            file.write(json.dumps([self.path, json.loads(body)]) + "\\n")
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass

http.server.HTTPServer(("127.0.0.1", {PORT}), Handler).serve_forever()
"""

# Tells the receiver what it was given, and what it may do.
ANNOUNCE = f"""#!/usr/bin/python3
import http.client, json, os, pathlib, sys

def attempt(action):
    try:
        action()
    except OSError as error:
        return type(error).__name__
    return "done"

found = {{
    "event": json.load(sys.stdin),
    "arguments": sys.argv[1:],
    "variables": {{name: value for name, value in os.environ.items() if name.startswith("SLIPWAY_")}},
    "uid": os.getuid(),
    "groups": os.getgroups(),
    "status": pathlib.Path("/proc/self/status").read_text().split(),
    "read": {{
        path: attempt(pathlib.Path(path).read_bytes)
        for path in ("/etc/logbook/env", "{HOOKS_FILE}", "/etc/slipway/logbook.logbook-token", "/etc/shadow",
                     "/run/slipway/logbook.lock", "/root", "/srv/logbook/live/env")
    }},
    "write": {{
        path: attempt(pathlib.Path(path, "mark").touch)
        for path in ("/etc", "/srv/logbook", "/usr/local/bin", "/var/lib", "/tmp")
    }},
}}
connection = http.client.HTTPConnection("127.0.0.1", {PORT})
connection.request("POST", "/command", json.dumps(found))
connection.getresponse()
print("no such channel")
sys.exit(3 if found["event"]["event"] == "switched" else 0)
"""

HANG = """#!/bin/sh
trap '' TERM
setsid sleep 98761 &
sleep 98762
"""

DECLARED = [
    {"on": ["opened", "switched", "closed"], "command": ["/usr/local/bin/announce", "a b", "$HOME"], "timeout": 10},
    {"on": ["closed"], "url": f"http://127.0.0.1:{PORT}/services/S3CRET", "format": "slack", "timeout": 10},
    {"on": ["closed"], "command": ["/usr/local/bin/hang"], "timeout": 1},
]


@pytest.fixture(scope="module")
def deployed(controller: Controller) -> Iterator[Controller]:
    """v1.0.0 was deployed with three hooks on the host."""
    host = controller.host
    if host.exec("sh", "-c", "test -e /srv/logbook/live && echo live", check=False) != "live":
        controller.play("site.yml")
    for path, content in (
        ("/usr/local/bin/announce", ANNOUNCE),
        ("/usr/local/bin/hang", HANG),
        ("/usr/local/bin/receiver.py", RECEIVER),
    ):
        host.exec("sh", "-c", f"cat > {path}; chmod 755 {path}", stdin=content)
    host.exec("rm", "-f", RECEIVED)
    host.exec("systemd-run", "--quiet", "--unit=receiver", "python3", "/usr/local/bin/receiver.py")
    content = json.dumps({"version": 1, "hooks": DECLARED})
    host.exec("sh", "-c", f"umask 077; cat > {HOOKS_FILE}", stdin=content)
    try:
        controller.play("deploy.yml", "-e", "version=v1.0.0", "-e", "force=true")
        yield controller
    finally:
        host.exec("systemctl", "stop", "receiver")
        host.exec("rm", "-f", HOOKS_FILE, RECEIVED)


@pytest.fixture(scope="module")
def received(deployed: Controller) -> list[tuple[str, Any]]:
    return [tuple(json.loads(line)) for line in deployed.host.exec("cat", RECEIVED).splitlines()]


@pytest.fixture(scope="module")
def told(received: list[tuple[str, Any]]) -> list[dict[str, Any]]:
    """What the command found, each time that it was run."""
    return [body for path, body in received if path == "/command"]


def test_the_command_is_run_for_each_event_with_the_event_and_its_arguments(told: list[dict[str, Any]]) -> None:
    assert [found["event"]["event"] for found in told] == ["opened", "switched", "closed"]
    assert all(found["event"]["version"] == "v1.0.0" for found in told)
    assert {tuple(found["arguments"]) for found in told} == {("a b", "$HOME")}
    closed = told[-1]
    assert closed["event"]["outcome"] == "succeeded"
    assert closed["event"]["receipt"]["failed"] == 0
    assert closed["variables"] == {
        "SLIPWAY_APP": "logbook",
        "SLIPWAY_EVENT": "closed",
        "SLIPWAY_OUTCOME": "succeeded",
        "SLIPWAY_VERSION": "v1.0.0",
    }


def test_the_command_is_a_user_of_its_own_that_reads_no_secret_and_writes_nowhere(
    deployed: Controller, told: list[dict[str, Any]]
) -> None:
    others = {int(deployed.host.exec("id", "-u", name)) for name in ("root", "logbook", "logbook_build", "postgres")}
    for found in told:
        assert found["uid"] not in others
        assert found["groups"] in ([], [found["uid"]])
        status = found["status"]
        assert status[status.index("NoNewPrivs:") + 1] == "1"
        assert status[status.index("CapEff:") + 1] == status[status.index("CapBnd:") + 1] == "0" * 16
        read = found["read"]
        if found["event"]["previous_version"] is None and found["event"]["event"] == "opened":
            assert read.pop("/srv/logbook/live/env") == "FileNotFoundError", "nothing is live yet"
        assert set(read.values()) == {"PermissionError"}, read
        written = found["write"]
        assert written.pop("/tmp") == "done", "a directory of its own"  # noqa: S108  # it is what is tested
        assert set(written.values()) == {"OSError"}, written  # the file system is read-only to it
    deployed.host.exec("test", "!", "-e", "/tmp/mark")  # noqa: S108  # the host's own is untouched


def test_the_webhook_gets_a_sentence(received: list[tuple[str, Any]]) -> None:
    [(path, body)] = [(path, body) for path, body in received if path != "/command"]
    assert path == "/services/S3CRET"
    assert body["text"].startswith("logbook (local): v1.0.0 is live, deployed by ")


def test_what_became_of_each_hook_is_in_the_journal_and_of_none_on_the_receipt(deployed: Controller) -> None:
    text = deployed.host.exec("cat", "/srv/logbook/journal.jsonl")
    entries = [json.loads(line) for line in text.splitlines()]
    last = entries[-1]["deployment"]
    entries = [entry for entry in entries if entry["deployment"] == last]
    assert [(entry["outcome"], entry["message"]) for entry in entries if entry["phase"] == "hook"] == [
        ("ok", "opened: command /usr/local/bin/announce ended with code 0"),
        ("failed", "switched: command /usr/local/bin/announce ended with code 3: no such channel"),
        ("ok", "closed: command /usr/local/bin/announce ended with code 0"),
        ("ok", "closed: webhook to 127.0.0.1 answered 200"),
        ("failed", "closed: command /usr/local/bin/hang did not end within 1 s"),
    ]
    [result] = [entry for entry in entries if entry["phase"] == "result"]
    assert result["outcome"] == "succeeded"
    assert "hook" not in result["detail"]["receipt"]["phases"]
    assert deployed.status()["last"][0]["outcome"] == "succeeded"
    assert "S3CRET" not in text


def test_nothing_of_a_hook_is_left_behind(deployed: Controller) -> None:
    assert "9876" not in deployed.host.exec("ps", "-eo", "args")
    assert deployed.host.exec("systemctl", "list-units", "slipway-hook-*", "--all", "--no-legend") == ""
    assert "S3CRET" not in deployed.host.exec("journalctl", "--no-pager", "--output=cat")
