"""Hooks of the app's owner: what they are given, and that nothing they do can harm a deployment or hold it up."""

from __future__ import annotations

import json
import os
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from slipway.base import settings as config
from slipway.base.errors import FailedError
from slipway.cli import status
from slipway.observers import events, hook_command, hook_settings, hooks
from slipway.observers.hooks import Hooks
from slipway.records import journal
from slipway.records.deployment import Deployment, Request

from .fake_logbook import notes
from .fake_webhook import Receiver, drip, hang, receiver, stutter, talker
from .fakes import V1, V2, Host, deployed, request

ALL = list(events.EVENTS)
LONG = 20  # seconds: what hangs here does so for 30


@pytest.fixture
def webhook() -> Iterator[Receiver]:
    with receiver() as made:
        yield made


@pytest.fixture
def declare(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Write the file with these hooks, and let the engine of `host` run them."""
    monkeypatch.setattr(config, "SETTINGS_DIRECTORY", tmp_path)

    def write(*items: object, **values: object) -> None:
        content = {"version": 1, "hooks": [{"on": ALL, **item} if isinstance(item, dict) else item for item in items]}
        host.settings.hooks_file.write_text(json.dumps({**content, **values}))
        host.engine.observers = [Hooks(host.settings)]

    return write


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Make a program for a hook. In place of systemd, a stand-in runs it; the acceptance tests have the real one."""
    for name, code in (("systemd-run", SYSTEMD_RUN), ("systemctl", f"#!/bin/sh\necho \"$@\" >> '{tmp_path}/killed'\n")):
        _program(tmp_path / "bin" / name, code)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("SCRATCH", str(tmp_path))
    return lambda code: _program(tmp_path / "hook", f"#!/bin/sh\n{code}\n")


# Runs what stands after `--` with the variables that were asked for, and notes the whole line.
SYSTEMD_RUN = f"""#!{sys.executable}
import json, os, sys
arguments = sys.argv[1:]
with open(os.environ["SCRATCH"] + "/asked", "w") as file:
    json.dump(arguments, file)
given = [item.removeprefix("--setenv=") for item in arguments if item.startswith("--setenv=")]
command = [part.replace("$$", "$") for part in arguments[arguments.index("--") + 1 :]]
os.execve(command[0], command, dict(item.split("=", 1) for item in given) | {{"SCRATCH": os.environ["SCRATCH"]}})
"""


def _program(path: Path, code: str) -> str:
    path.parent.mkdir(exist_ok=True)
    path.write_text(code)
    path.chmod(0o755)
    return str(path)


def lines(host: Host) -> list[tuple[str, str]]:
    """Outcome and message of each hook's line in the journal."""
    entries = journal.read(host.settings.journal)
    return [(entry.outcome, entry.message) for entry in entries if entry.phase == journal.HOOK]


def names(webhook: Receiver) -> list[str]:
    return [body["event"] for _, body in webhook.got]


# What a hook is given


def test_a_webhook_gets_each_event_in_order(host: Host, declare: Callable[..., None], webhook: Receiver) -> None:
    declare({"url": webhook.url})
    host.engine.stage(request(V1, owner="alice@laptop (pid 7, start 1, namespace 2)"), None)
    host.engine.cut_over(None)
    opened, switched, closed = (body for _, body in webhook.got)
    assert {path for path, _ in webhook.got} == {"/services/S3CRET?token=T0KEN"}
    identity = {
        "event_version": 1,
        "app": "logbook",
        "environment": "prod",
        "host": socket.gethostname(),
        "fleet": [],
        "action": "deploy",
        "version": "v1",
        "commit": V1[1],
        "actor": "alice@laptop",
        "previous_version": None,
    }
    assert opened == {**identity, "event": "opened", "time": opened["time"]}
    assert switched == {**identity, "event": "switched", "time": switched["time"]}
    result = journal.results(journal.read(host.settings.journal), 1)[0]
    assert closed == {
        **identity,
        "event": "closed",
        "time": result.at,
        "outcome": "succeeded",
        "message": result.message,
        "live_version": "v1",
        "receipt": result.detail["receipt"],
    }
    assert opened["time"] <= switched["time"] <= closed["time"]
    assert lines(host) == [("ok", f"{event}: webhook to 127.0.0.1 answered 200") for event in ALL]
    assert notes(host) == []


def test_a_hook_is_run_only_for_the_events_that_it_is_for(
    host: Host, declare: Callable[..., None], webhook: Receiver
) -> None:
    declare({"url": webhook.url, "on": ["switched"]}, {"url": webhook.url, "on": ["closed"]})
    deployed(host, V1)
    assert names(webhook) == ["switched", "closed"]


def test_a_deployment_that_is_undone_closes_and_never_switches(
    host: Host, declare: Callable[..., None], webhook: Receiver
) -> None:
    deployed(host, V1)
    declare({"url": webhook.url})
    host.bad_gate.add(V2[1])
    with pytest.raises(FailedError):
        deployed(host, V2)
    assert names(webhook) == ["opened", "closed"]
    closed = webhook.got[-1][1]
    assert (closed["outcome"], closed["previous_version"], closed["live_version"]) == ("failed", "v1", "v1")
    assert closed["message"] == "logbook@green crashed."


def test_a_deployment_that_the_next_one_ends_has_its_own_event(
    host: Host, declare: Callable[..., None], webhook: Receiver
) -> None:
    host.engine.stage(request(V1), None)
    declare({"url": webhook.url})
    deployed(host, V2)
    ended = [(body["event"], body["version"], body.get("outcome")) for _, body in webhook.got]
    assert sorted(ended) == [
        ("closed", "v1", "reverted"),
        ("closed", "v2", "succeeded"),
        ("opened", "v2", None),
        ("switched", "v2", None),
    ]


def test_the_seconds_of_hooks_are_not_on_the_receipt(
    host: Host, declare: Callable[..., None], webhook: Receiver
) -> None:
    declare({"url": webhook.url, "on": ["opened", "switched"]})
    host.engine.stage(request(V1), None)
    host.engine.cut_over(None)
    assert [message.partition(":")[0] for _, message in lines(host)] == ["opened", "switched"]
    receipt = journal.results(journal.read(host.settings.journal), 1)[0].detail["receipt"]
    assert set(receipt["phases"]) == {"stage", "migrate", "start", "switch", "watch", "drain"}
    found = status.gather(host.settings)
    assert [item["outcome"] for item in found["last"]] == ["succeeded"]


def told(**values: Any) -> events.Event:
    """An event, for its sentence."""
    summary = {"sent": 412, "failed": 0, "phases": {"stage": 6.1, "start": 2.3, "watch": 10.0, "drain": 1.0}}
    event = {
        "event": "closed",
        "app": "logbook",
        "environment": "prod",
        "host": "app-1",
        "fleet": [],
        "action": "deploy",
        "version": "v1.2.0",
        "actor": "alice",
        "previous_version": "v1.1.0",
        "outcome": "succeeded",
        "message": "",
        "live_version": "v1.2.0",
        "receipt": summary,
    }
    return {**event, **values}


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({}, "v1.2.0 is live, deployed by alice in 8.4 s, 0 of 412 requests failed."),
        ({"receipt": {"sent": 0, "phases": {"start": 2.0}}}, "v1.2.0 is live, deployed by alice in 2.0 s."),
        ({"receipt": {}}, "v1.2.0 is live, deployed by alice."),
        (
            {"action": "rollback", "version": "v1.1.0"},
            "v1.1.0 is live again after a rollback by alice in 8.4 s, 0 of 412 requests failed.",
        ),
        (
            {"outcome": "failed", "message": "v1.2.0 took traffic,\nbut 9 of 20 failed.", "live_version": "v1.1.0"},
            "the deploy of v1.2.0 by alice failed: v1.2.0 took traffic, but 9 of 20 failed. v1.1.0 is live.",
        ),
        (
            {"outcome": "reverted", "message": "undone by request", "live_version": None, "action": "rollback"},
            "the rollback to v1.2.0 by alice was undone: undone by request. Nothing is live.",
        ),
        ({"event": "opened"}, "alice deploys v1.2.0; v1.1.0 is live."),
        ({"event": "opened", "previous_version": None}, "alice deploys v1.2.0."),
        ({"event": "opened", "action": "rollback"}, "alice rolls back to v1.2.0; v1.1.0 is live."),
        ({"event": "switched"}, "v1.2.0 takes traffic (deploy by alice)."),
        ({"event": "switched", "action": "rollback"}, "v1.2.0 takes traffic (rollback by alice)."),
    ],
)
def test_people_are_told_in_one_sentence(values: dict[str, Any], sentence: str) -> None:
    assert events.sentence(told(**values)) == f"logbook (prod): {sentence}"


def test_each_host_of_a_fleet_gives_its_name() -> None:
    assert events.sentence(told(fleet=["app-1", "app-2"])).startswith("logbook (prod) on app-1: v1.2.0 is live")


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("slack", "a &lt;b&gt; &amp; @channel @Here @hereby"),
        ("mattermost", "a &lt;b&gt; &amp; @\u200bchannel @\u200bHere @hereby"),
    ],
)
def test_nothing_in_a_message_is_taken_for_markup_of_the_chat(
    host: Host, declare: Callable[..., None], webhook: Receiver, form: str, text: str
) -> None:
    host.watch_reason = "a <b> & @channel @Here @hereby"
    declare({"url": webhook.url, "on": ["closed"], "format": form})
    with pytest.raises(FailedError):
        deployed(host, V1)
    [(_, body)] = webhook.got
    assert list(body) == ["text"]
    assert body["text"].startswith("logbook (prod): the deploy of v1 by alice failed: v1 took traffic, but ")
    assert text in body["text"]


@pytest.mark.parametrize(
    ("release", "version"),
    [("v1.2.0-" + "a" * 12, "v1.2.0"), ("app~v1-rc.1-" + "a" * 12, "app/v1-rc.1"), ("commit-" + "a" * 12, "a" * 12)],
)
@pytest.mark.usefixtures("host")
def test_the_version_before_is_called_as_people_call_it(settings: config.Settings, release: str, version: str) -> None:
    deployment = Deployment("d", "deploy", "alice", "v2-b", "v2", "b", "blue", release, "green", "")
    assert events.event(settings, deployment, "opened")["previous_version"] == version


# Commands


def test_a_command_reads_the_event_and_has_its_heart_as_variables(
    host: Host, declare: Callable[..., None], script: Callable[[str], str], tmp_path: Path
) -> None:
    command = script('{ cat; echo; env | grep ^SLIPWAY_ | sort; echo "$@"; } >> "$SCRATCH/got"; echo quiet')
    declare({"command": [command, "a b", "$HOME", "$$"], "on": ["closed"]})
    deployed(host, V1)
    event, *rest = (tmp_path / "got").read_text().splitlines()
    assert json.loads(event)["outcome"] == "succeeded"
    assert rest == [
        "SLIPWAY_APP=logbook",
        "SLIPWAY_EVENT=closed",
        "SLIPWAY_OUTCOME=succeeded",
        "SLIPWAY_VERSION=v1",
        "a b $HOME $$",
    ]
    assert lines(host) == [("ok", f"closed: command {command} ended with code 0")]


def test_a_command_runs_in_a_unit_that_may_do_little(
    host: Host, declare: Callable[..., None], script: Callable[[str], str], tmp_path: Path
) -> None:
    declare({"command": [script("exit 0")], "on": ["switched"], "timeout": 7})
    deployed(host, V1)
    asked = json.loads((tmp_path / "asked").read_text())
    deployment = journal.read(host.settings.journal)[0].deployment
    assert f"--unit=slipway-hook-logbook-{deployment}-switched-1" in asked
    wanted = {"DynamicUser=yes", "NoNewPrivileges=yes", "ProtectSystem=strict", "ProtectHome=yes", "PrivateTmp=yes"}
    wanted |= {"PrivateDevices=yes", "KillSignal=SIGKILL", "MemoryMax=256M", "TasksMax=64", "RuntimeMaxSec=7"}
    assert wanted <= {item.removeprefix("--property=") for item in asked}
    assert {"--wait", "--pipe", "--collect"} <= set(asked)


@pytest.mark.parametrize(
    ("code", "end"),
    [
        ("echo first; echo 'no such\033[2J channel' >&2; exit 3", "ended with code 3: no such [2J channel"),
        ("exit 1", "ended with code 1"),
        ("head -c 3000000 /dev/zero | tr '\\0' x; echo; echo last; exit 4", "ended with code 4: last"),
    ],
)
def test_a_command_that_fails_is_written_down_and_said(
    host: Host, declare: Callable[..., None], script: Callable[[str], str], code: str, end: str
) -> None:
    command = script(code)
    declare({"command": [command], "on": ["opened"]}, {"command": [command], "on": ["closed"]})
    deployed(host, V1)
    assert host.results() == [("deploy", "v1", "succeeded")]
    assert lines(host) == [("failed", f"{event}: command {command} {end}") for event in ("opened", "closed")]
    shown = "; ".join(f"{event}: command {command} {end}" for event in ("opened", "closed"))
    assert notes(host) == [f"Hooks that failed: {shown}."]


@pytest.mark.parametrize("mode", [None, 0o644])
def test_a_command_that_is_not_there_is_said_to_be_missing(
    host: Host, declare: Callable[..., None], tmp_path: Path, mode: int | None
) -> None:
    command = tmp_path / "absent"
    if mode is not None:
        command.touch(mode)
    declare({"command": [str(command)], "on": ["closed"]})
    deployed(host, V1)
    assert lines(host) == [("failed", f"closed: command {command} is not there, or cannot be executed")]


def test_a_command_that_hangs_is_killed_at_the_end_of_its_time(
    host: Host, declare: Callable[..., None], script: Callable[[str], str], tmp_path: Path
) -> None:
    command = script("trap '' TERM; exec sleep 30")
    declare({"command": [command], "on": ["closed"], "timeout": 0.3})
    started = time.monotonic()
    deployed(host, V1)
    assert time.monotonic() - started < LONG
    assert lines(host) == [("failed", f"closed: command {command} did not end within 0.3 s")]
    unit = f"slipway-hook-logbook-{journal.read(host.settings.journal)[0].deployment}-closed-1.service"
    assert (tmp_path / "killed").read_text() == f"--no-ask-password kill --signal=SIGKILL {unit}\n"


def test_without_systemd_a_command_fails_and_the_deployment_does_not(
    host: Host, declare: Callable[..., None], script: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command = script("exit 0")
    monkeypatch.setenv("PATH", "/nowhere")
    declare({"command": [command], "on": ["closed"]})
    deployed(host, V1)
    assert lines(host) == [("failed", f"closed: command {command} failed: FileNotFoundError")]


# Webhooks that misbehave


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"status": 204}, ("ok", "answered 204")),
        ({"status": 404}, ("failed", "answered 404")),
        ({"status": 500}, ("failed", "answered 500")),
        ({"status": 307, "location": "/elsewhere"}, ("failed", "answered 307, and a redirect is not followed")),
        ({"endless": True}, ("ok", "answered 200")),
        ({"delay": 30}, ("failed", "did not end within 0.5 s")),
    ],
)
def test_what_a_webhook_answers_is_written_down_and_changes_nothing(
    host: Host, declare: Callable[..., None], webhook: Receiver, answer: dict[str, Any], said: tuple[str, str]
) -> None:
    for name, value in answer.items():
        setattr(webhook, name, value)
    declare({"url": webhook.url, "on": ["closed"], "timeout": 0.5 if "delay" in answer else 10})
    started = time.monotonic()
    deployed(host, V1)
    assert time.monotonic() - started < LONG
    assert host.results() == [("deploy", "v1", "succeeded")]
    assert lines(host) == [(said[0], f"closed: webhook to 127.0.0.1 {said[1]}")]
    assert len(webhook.got) == 1, "sent once, and to nowhere else"
    assert notes(host) == ([] if said[0] == "ok" else [f"Hooks that failed: closed: webhook to 127.0.0.1 {said[1]}."])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("talk", "said"),
    [
        (hang, "did not end within 0.5 s"),
        (drip, "did not end within 0.5 s"),
        (stutter, "did not answer: BadStatusLine"),
    ],
)
def test_a_webhook_that_does_not_answer_is_given_up_and_never_shown(
    host: Host, declare: Callable[..., None], talk: Callable[[socket.socket], None], said: str
) -> None:
    with talker(talk) as url:
        declare({"url": url, "timeout": 10 if talk is stutter else 0.5})
        started = time.monotonic()
        deployed(host, V1)
        assert time.monotonic() - started < LONG
    assert host.results() == [("deploy", "v1", "succeeded")]
    assert lines(host) == [("failed", f"{event}: webhook to 127.0.0.1 {said}") for event in ALL]
    assert "S3CRET" not in host.stream.getvalue() + host.settings.journal.read_text()


def test_a_name_that_takes_long_to_look_up_counts_against_the_time(
    host: Host, declare: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: time.sleep(30))
    declare({"url": "https://hooks.example.com/S3CRET", "on": ["closed"], "timeout": 0.3})
    started = time.monotonic()
    deployed(host, V1)
    assert time.monotonic() - started < LONG
    assert lines(host) == [("failed", "closed: webhook to hooks.example.com did not end within 0.3 s")]


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("https://hooks.invalid/S3CRET", "webhook to hooks.invalid did not answer: Name or service not known"),
        ("https://a..b/S3CRET", "webhook to a..b did not answer: it is no host name"),
        ("http://127.0.0.1:1/S3CRET", "webhook to 127.0.0.1 did not answer: Connection refused"),
        ("http://localhost:99999/S3CRET", "webhook to localhost did not answer: ValueError"),
    ],
)
def test_an_address_that_leads_nowhere_is_written_down_without_its_secret(
    host: Host, declare: Callable[..., None], monkeypatch: pytest.MonkeyPatch, url: str, said: str
) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    if "invalid" in url:
        monkeypatch.setattr(socket, "getaddrinfo", unknown)
    declare({"url": url, "on": ["closed"]})
    deployed(host, V1)
    assert lines(host) == [("failed", f"closed: {said}")]
    assert "S3CRET" not in host.stream.getvalue() + host.settings.journal.read_text()


def test_a_webhook_whose_certificate_nobody_vouches_for_is_sent_nothing(
    host: Host,
    declare: Callable[..., None],
    webhook: Receiver,
    monkeypatch: pytest.MonkeyPatch,
    certificate: tuple[Path, Path, Path],
) -> None:
    chain, key, authority = certificate
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key)
    webhook.socket = context.wrap_socket(webhook.socket, server_side=True)
    declare({"url": webhook.url.replace("http:", "https:"), "on": ["closed"]})
    deployed(host, V1)
    [(outcome, message)] = lines(host)
    assert outcome == "failed"
    assert message.startswith("closed: webhook to 127.0.0.1 did not answer: its certificate cannot be trusted, ")
    assert webhook.got == []
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    deployed(host, V2)
    assert (lines(host)[-1][0], len(webhook.got)) == ("ok", 1)


# Time and order


def test_a_hook_that_hangs_holds_up_no_phase(host: Host, declare: Callable[..., None]) -> None:
    """The hook of `opened` ends only when it finds the result of the deployment in the journal."""

    def answer(caller: socket.socket) -> None:
        while not host.results():
            time.sleep(0.01)
        caller.sendall(b"HTTP/1.1 200 OK\r\n\r\n")

    with talker(answer) as url:
        declare({"url": url, "on": ["opened"]})
        deployed(host, V1)
    order = [entry.phase for entry in journal.read(host.settings.journal)]
    assert order.index(journal.RESULT) < order.index(journal.HOOK)
    assert lines(host) == [("ok", "opened: webhook to 127.0.0.1 answered 200")]


def test_hooks_run_one_after_another_in_their_order(
    host: Host, declare: Callable[..., None], webhook: Receiver, script: Callable[[str], str]
) -> None:
    slow = script("sleep 0.3")
    declare({"command": [slow], "on": ["opened"]}, {"url": webhook.url})
    deployed(host, V1)
    assert [message.partition(" to")[0] for _, message in lines(host)] == [
        f"opened: command {slow} ended with code 0",
        *(f"{event}: webhook" for event in ALL),
    ]
    assert names(webhook) == ALL


def test_all_hooks_together_are_waited_for_no_longer_than_they_may(
    host: Host, declare: Callable[..., None], webhook: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hooks, "PATIENCE", 1.5)
    with talker(hang) as url:
        declare({"url": url, "timeout": 60}, {"url": webhook.url})
        started = time.monotonic()
        deployed(host, V1)
        assert time.monotonic() - started < LONG
    assert host.results() == [("deploy", "v1", "succeeded")]
    given_up = "127.0.0.1 was given up: a run waits 1.5 s for its hooks"
    assert lines(host) == [("failed", f"{event}: webhook to {given_up}") for event in ALL for _ in range(2)]
    [note] = notes(host)
    assert note.count("was given up") == 6
    assert webhook.got == []


def test_what_does_not_even_end_when_it_is_given_up_is_left_behind(
    host: Host, declare: Callable[..., None], webhook: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck = threading.Event()
    monkeypatch.setattr(hooks, "PATIENCE", 0.5)
    monkeypatch.setattr(hooks, "_call", lambda *_: (stuck.wait(30), ""))
    declare({"url": webhook.url, "on": ["opened", "closed"]})
    started = time.monotonic()
    deployed(host, V1)
    assert time.monotonic() - started < LONG
    assert host.results() == [("deploy", "v1", "succeeded")]
    given_up = "; ".join(f"{event}: webhook to 127.0.0.1 was given up" for event in ("opened", "closed"))
    assert notes(host) == [f"Hooks that failed: {given_up}."]
    stuck.set()


def test_at_boot_the_live_release_serves_before_hooks_are_waited_for(
    host: Host, declare: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    deployed(host, V1)
    host.engine.stage(request(V2), None)
    host.running.clear()  # the host has booted
    declare({"command": ["/bin/true"], "on": ["closed"]})
    serving: list[set[str]] = []

    def look(*_: object) -> tuple[bool, str]:
        serving.append(set(host.running))
        return True, ""

    monkeypatch.setattr(hooks, "_call", look)
    host.engine.recover()
    assert serving == [{"blue"}]


def test_a_command_that_ends_without_a_result_waits_for_its_hooks(
    host: Host, declare: Callable[..., None], webhook: Receiver
) -> None:
    """As `stage` does: when its process ends, a hook that is still running would be cut off."""
    webhook.delay = 0.5
    declare({"url": webhook.url, "on": ["opened"]})
    host.engine.stage(request(V1), None)
    assert lines(host) == [("ok", "opened: webhook to 127.0.0.1 answered 200")]


def test_the_time_that_hooks_may_take_is_short() -> None:
    assert hooks.PATIENCE <= 15


def test_no_thread_is_left_when_hooks_have_run(host: Host, declare: Callable[..., None], webhook: Receiver) -> None:
    """Else the program would end without ado, as it does while a thread is at work."""
    before = set(threading.enumerate())
    declare({"url": webhook.url})
    deployed(host, V1)

    def left() -> set[str]:
        return {thread.name for thread in set(threading.enumerate()) - before if "request" not in thread.name}

    deadline = time.monotonic() + 5
    while left() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert left() == set()


# What is wrong with the file, the journal or ourselves


def test_without_a_file_there_are_no_hooks(
    host: Host, declare: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    declare()
    host.settings.hooks_file.unlink()
    monkeypatch.setattr(threading, "Thread", None)
    deployed(host, V1)
    assert (lines(host), notes(host)) == ([], [])


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "{path} is not JSON, so no hook is run. Run site.yml to write it again."),
        ("\xff", "{path} is not JSON, so no hook is run. Run site.yml to write it again."),
        ("[" * 200_000, "{path} is not JSON, so no hook is run. Run site.yml to write it again."),
        ("[]", "{path} has no list of hooks, so no hook is run. Run site.yml to write it again."),
        ('{"version": 1}', "{path} has no list of hooks, so no hook is run. Run site.yml to write it again."),
        (
            '{"version": 2, "hooks": [{"url": "https://example.com/S3CRET"}]}',
            "{path} was written by a newer version of Slipway (version 2; this version reads up to 1), "
            "so no hook is run. Run site.yml with the newer version.",
        ),
    ],
)
def test_a_file_that_cannot_be_used_is_named_and_the_deployment_goes_on(
    host: Host, declare: Callable[..., None], content: str, sentence: str
) -> None:
    declare()
    host.settings.hooks_file.write_bytes(content.encode("latin-1"))
    deployed(host, V1)
    assert host.results() == [("deploy", "v1", "succeeded")]
    assert notes(host) == [sentence.format(path=host.settings.hooks_file)]


def test_a_file_that_cannot_be_read_is_named(host: Host, declare: Callable[..., None]) -> None:
    declare()
    host.settings.hooks_file.unlink()
    host.settings.hooks_file.mkdir()
    said = "it is a directory, and only a regular file is read. Remove it"
    deployed(host, V1)
    assert notes(host) == [f"{host.settings.hooks_file} could not be read ({said}), so no hook is run."]


@pytest.mark.parametrize(
    ("item", "problem"),
    [
        ("x", "it is not an object"),
        ({"on": []}, "'on' must be a list of opened, switched, closed"),
        ({"on": ["ended"]}, "'on' must be a list of opened, switched, closed"),
        ({"on": [["closed"]]}, "'on' must be a list of opened, switched, closed"),
        ({"on": "closed"}, "'on' must be a list of opened, switched, closed"),
        ({}, "it must have either a 'command' or a 'url'"),
        ({"command": ["/bin/true"], "url": "https://example.com"}, "it must have either a 'command' or a 'url'"),
        ({"command": "/bin/true"}, "'command' must be a list of strings"),
        ({"command": ["/bin/true", 1]}, "'command' must be a list of strings"),
        ({"command": ["true"]}, "'command' must begin with the path of a program, such as /usr/local/bin/announce"),
        ({"url": "http://S3CRET.example.com"}, "'url' must begin with https:// (http:// only to this host itself)"),
        ({"url": "https://example.com/S3CRET x"}, "'url' must begin with https:// (http:// only to this host itself)"),
        ({"url": "https://S3CRET@example.com/"}, "'url' must begin with https:// (http:// only to this host itself)"),
        ({"url": ["https://S3CRET"]}, "'url' must begin with https:// (http:// only to this host itself)"),
        ({"url": "https://S3CRET/", "format": "teams"}, "'format' must be one of json, slack, mattermost"),
        ({"url": "https://S3CRET/", "format": ["json"]}, "'format' must be one of json, slack, mattermost"),
        ({"url": "https://S3CRET/", "timeout": -1}, "'timeout' must be a number of seconds above 0"),
        ({"url": "https://S3CRET/", "timeout": "10"}, "'timeout' must be a number of seconds above 0"),
        ({"url": "https://S3CRET/", "timeout": True}, "'timeout' must be a number of seconds above 0"),
        ({"url": "https://S3CRET/", "timeout": float("inf")}, "'timeout' must be a number of seconds above 0"),
    ],
)
def test_a_hook_that_cannot_be_run_is_named_without_its_secret_and_the_others_run(
    host: Host, declare: Callable[..., None], webhook: Receiver, item: object, problem: str
) -> None:
    declare(item, {"url": webhook.url, "on": ["closed"]})
    deployed(host, V1)
    [note] = notes(host)
    assert note.startswith(f"Hook 1 of {host.settings.hooks_file} is not run: {problem}")
    assert "S3CRET" not in note
    assert names(webhook) == ["closed"]


def test_what_is_not_said_has_a_default_and_what_is_not_known_is_passed_over(
    host: Host, declare: Callable[..., None]
) -> None:
    declare({"url": "https://example.com/x", "command": None, "colour": "teal"}, more=1)
    found, wrong = hook_settings.load(host.settings.hooks_file)
    assert found == [hook_settings.Hook(("opened", "switched", "closed"), (), "https://example.com/x", "json", 10.0)]
    assert wrong == []


def test_a_journal_that_cannot_be_written_is_said(
    host: Host, declare: Callable[..., None], webhook: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    declare({"url": webhook.url, "on": ["closed"]})
    monkeypatch.setattr(journal, "append", full)
    deployed(host, V1)
    assert names(webhook) == ["closed"]
    assert notes(host)[-1] == f"Hooks that failed: {host.settings.journal} could not be written (OSError)."


@pytest.mark.parametrize("error", [KeyError("S3CRET"), RuntimeError("can't start new thread"), RecursionError()])
def test_no_mistake_of_our_own_in_a_hook_fails_a_deploy_or_stops_the_next_hook(
    host: Host,
    declare: Callable[..., None],
    webhook: Receiver,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    script: Callable[[str], str],
) -> None:
    def mistaken(*_: object) -> None:
        raise error

    command = script("exit 0")
    monkeypatch.setattr(hook_command, "run", mistaken)
    declare({"command": [command], "on": ["closed"]}, {"url": webhook.url, "on": ["closed"]})
    deployed(host, V1)
    assert host.results() == [("deploy", "v1", "succeeded")]
    assert lines(host)[0] == ("failed", f"closed: command {command} failed: {type(error).__name__}")
    assert names(webhook) == ["closed"]


def test_a_rollback_has_its_hooks(host: Host, declare: Callable[..., None], webhook: Receiver) -> None:
    deployed(host, V1, V2)
    declare({"url": webhook.url, "format": "slack", "on": ["closed"]})
    host.engine.rollback(Request(owner="bob"))
    [(_, body)] = webhook.got
    assert body["text"].startswith("logbook (prod): v1 is live again after a rollback by bob in ")
