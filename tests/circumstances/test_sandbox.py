"""What an app needs beyond the sandbox: the words, the unit that they make, and how logs show that one is missing."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.template import trust_as_template

from docs import settings as page
from filter_plugins import apps
from roles.app.filter_plugins import app_settings
from slipway.base import process, sandbox
from slipway.base import settings as config
from slipway.base.errors import RefusedError
from slipway.base.settings import Settings
from slipway.slot import denials, systemd
from tests.settings import written
from tests.templates import judges, render

UNIT = "app@.service.j2"
ROOT = "/srv/logbook"


def directives(*words: str, **changes: Any) -> list[str]:
    return sandbox.directives(words, root=ROOT, **changes)


def unit(**declared: Any) -> list[str]:
    return render.render("app", UNIT, settings=declared).splitlines()


def settings(**changes: Any) -> Settings:
    return config.parse(written(**changes), source="test")


def refusals(**declared: Any) -> list[str]:
    whole = app_settings.complete({"domains": ["a.example.com"], "env": {"SECRET_KEY": "x"}, **declared})
    return app_settings.faults(whole, "logbook", "prod", whole["env"])


# The words


def test_without_words_the_unit_has_the_whole_sandbox() -> None:
    lines = unit()
    assert [line for line in directives() if line not in lines] == []
    assert {"ProtectSystem=strict", "MemoryDenyWriteExecute=yes", "ProcSubset=pid", "PrivateNetwork=yes"} <= set(lines)
    assert lines.index("SystemCallFilter=@system-service") < lines.index("SystemCallFilter=~@privileged @resources")


@pytest.mark.parametrize("word", [word for word in sandbox.NEEDS if word != "unconfined"])
def test_a_word_opens_what_it_says_and_nothing_else(word: str) -> None:
    need = sandbox.NEEDS[word]
    # listen comes with the network: what it opens is seen beside that.
    strict, opened = directives(network="outbound"), directives(word, network="outbound")
    gone = {line.partition("=")[0] for line in set(strict) - set(opened)}
    new = {line.partition("=")[0] for line in set(opened) - set(strict)}
    assert gone == set(need.instead)
    assert new == {*need.instead, *need.besides}
    assert set(need.instead) <= set(sandbox.STRICT)
    lines = unit(needs=[word], network="outbound")
    assert [line for line in opened if line not in lines] == []


def test_words_add_up_in_whatever_order() -> None:
    both = directives("psutil", "network_interfaces", "jit", network="outbound")
    assert both == directives("jit", "network_interfaces", "psutil", network="outbound")
    assert [line for line in both if "AF_NETLINK" in line] == ["RestrictAddressFamilies=AF_NETLINK"]
    assert "MemoryDenyWriteExecute=no" in both
    assert both.index("RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6") < both.index(
        "RestrictAddressFamilies=AF_NETLINK"
    )


def test_unconfined_is_no_sandbox_but_still_another_user() -> None:
    lines = unit(needs=["unconfined", "jit"])
    assert [line for line in lines if line.partition("=")[0] in sandbox.STRICT] == []
    assert {"User=logbook", "UMask=0077"} <= set(lines)


def test_unknown_words_are_refused_with_the_known_ones() -> None:
    (sentence,) = refusals(needs=["jit", "gpu"])
    assert "apps.logbook.needs is '['jit', 'gpu']', but every word must be one of jit, psutil," in sentence
    assert all(word in sentence for word in sandbox.NEEDS)
    with pytest.raises(RefusedError, match="every word must be one of jit"):
        settings(needs=["gpu"])
    assert refusals(needs=list(sandbox.NEEDS)) == []
    assert refusals(needs="jit") == []  # one word as text


def test_the_page_has_a_row_for_each_word() -> None:
    text = page.page()
    for word, need in sandbox.NEEDS.items():
        assert f"| `{word}` | {need.allows} | {need.costs} |" in text


# The data directory


def test_the_app_has_a_data_directory_as_its_home() -> None:
    lines = unit()
    assert {"StateDirectory=logbook", "StateDirectoryMode=0750", "Environment=HOME=/var/lib/logbook"} <= set(lines)
    # A HOME among the app's own variables takes precedence: what is read later counts.
    environment = [line for line in lines if line.startswith("Environment")]
    assert [line.partition("=")[0] for line in environment] == ["Environment", "Environment", "EnvironmentFile"]
    assert "d /var/lib/logbook 0750 logbook logbook" in render.render("app", "tmpfiles.conf.j2").splitlines()


@pytest.mark.parametrize("owner", ["root", "absent"])
def test_a_directory_of_somebody_else_is_not_taken_over(owner: str, tmp_path: Path) -> None:
    """As of an app that is called `dpkg`: its data directory would be one of the system's."""
    if owner != "absent":
        (tmp_path / "nosuchapp").mkdir()
    look, _, check, *_ = yaml.safe_load((render.ROLES / "app/tasks/preflight_host.yml").read_text())[1:]
    script = render.evaluate(look["slipway_look"]["script"], app_name="nosuchapp", app_root="/srv/nosuchapp").replace(
        "/var/lib", str(tmp_path)
    )
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False)
    found = render.evaluate(check["vars"]["__owners"], __app_namesakes={"stdout_lines": done.stdout.splitlines()})
    assert found == ([tmp_path.owner()] if owner != "absent" else [])


def test_further_directories_can_be_made_writable() -> None:
    lines = unit(writable_paths=["/mnt/uploads", "/data"])
    assert lines[-4:-2] == ["ReadWritePaths=/mnt/uploads", "ReadWritePaths=/data"]
    assert lines[-2:] == ["NoExecPaths=/mnt/uploads", "NoExecPaths=/data"]
    assert unit(writable_paths=["/data"], needs=["own_programs"])[-1] == "ReadWritePaths=/data"
    # What is written before a disk is mounted would be hidden by it.
    assert {"RequiresMountsFor=/mnt/uploads", "RequiresMountsFor=/data"} < set(lines[: lines.index("[Service]")])


@pytest.mark.parametrize(
    ("path", "line", "hidden"),
    [
        ("/srv/uploads", "BindPaths=/srv/uploads", {"/srv", "/var/log", "/etc/ssl/slipway"}),
        ("/var/log/logbook", "BindPaths=/var/log/logbook", {"/srv", "/var/log", "/etc/ssl/slipway"}),
        ("/srv", "ReadWritePaths=/srv", {"/var/log", "/etc/ssl/slipway"}),
        ("/var", "ReadWritePaths=/var", {"/srv", "/etc/ssl/slipway"}),
        ("/srv2", "ReadWritePaths=/srv2", {"/srv", "/var/log", "/etc/ssl/slipway"}),
    ],
)
def test_a_directory_below_one_that_is_hidden_is_bound_and_one_above_it_hides_nothing(
    path: str, line: str, hidden: set[str]
) -> None:
    lines = unit(writable_paths=[path])
    assert lines[-2:] == [line, f"NoExecPaths={path}"]
    assert {entry.split("=")[1].split(":")[0] for entry in lines if entry.startswith("TemporaryFileSystem=")} == hidden


# The network


@pytest.mark.parametrize(
    ("declared", "reaches"),
    [
        ({}, "none"),
        ({"env": {"SECRET_KEY": "x", "LOG_LEVEL": "info", "ALLOWED_HOSTS": "a.example.com"}}, "none"),
        ({"env": {"SECRET_KEY": "x", "PUBLIC_URL": "https://a.example.com/x"}}, "none"),
        ({"env": {"SECRET_KEY": "x", "DATABASE_URL": "postgresql+asyncpg://me@/db?host=/run/postgresql"}}, "none"),
        ({"env": {"SECRET_KEY": "x", "DATABASE_URL": "sqlite:////var/lib/a/a.db"}}, "none"),
        ({"env": {"SECRET_KEY": "x", "CACHE": "unix:///run/redis.sock"}}, "none"),
        ({"env": {"SECRET_KEY": "x", "REDIS_HOST": "/run/redis.sock"}}, "none"),
        ({"env": {"SECRET_KEY": "x", "DATABASE_URL": "postgresql://me:p@db.example.com/db"}}, "outbound"),
        ({"env": {"SECRET_KEY": "x", "DATABASE_URL": "postgresql:///db?host=db.example.com"}}, "outbound"),
        ({"env": {"SECRET_KEY": "x", "REDIS_URL": "redis://localhost:6379/0"}}, "outbound"),
        ({"env": {"SECRET_KEY": "x", "SMTP_HOST": "mail.example.com"}}, "outbound"),
        ({"env": {"SECRET_KEY": "x", "KAFKA_BROKERS": "k1:9092,k2:9092"}}, "outbound"),
        ({"env": {"SECRET_KEY": "x", "OPENAI_API_KEY": "sk-1"}}, "outbound"),
        ({"env": {"SECRET_KEY": "x", "AWS_ACCESS_KEY_ID": "AKIA"}}, "outbound"),
        ({"env": {"SECRET_KEY": "x", "ORIGINS": ["https://a.example.com", "https://b.example"]}}, "outbound"),
        ({"needs": ["listen"]}, "outbound"),
        ({"network": "outbound"}, "outbound"),
        ({"network": "none", "env": {"SECRET_KEY": "x", "OPENAI_API_KEY": "sk-1"}}, "none"),
    ],
)
def test_the_network_is_open_where_the_declaration_names_somebody_else(declared: dict[str, Any], reaches: str) -> None:
    whole = app_settings.complete({"domains": ["a.example.com"], "env": {"SECRET_KEY": "x"}, **declared})
    assert app_settings.network(whole) == reaches
    private = "PrivateNetwork=yes" in unit(**{"domains": ["a.example.com"], "env": {"SECRET_KEY": "x"}, **declared})
    assert private is (reaches == "none")


@pytest.mark.parametrize(
    ("declared", "sentence"),
    [
        ({"needs": ["listen"]}, "apps.logbook.needs has listen, but network is none"),
        (
            {"env": {"SECRET_KEY": "x", "DATABASE_URL": "postgresql://u:hidden@db/x"}},
            "apps.logbook.env.DATABASE_URL is a database that is reached by a network",
        ),
    ],
)
def test_a_network_that_would_cut_off_what_is_declared_is_refused(declared: dict[str, Any], sentence: str) -> None:
    (found,) = refusals(network="none", **declared)
    assert sentence in found
    assert "hidden" not in found


@pytest.mark.parametrize(
    "log",
    [
        "socket.gaierror: [Errno -3] Temporary failure in name resolution",
        "httpx.ConnectError: [Errno -3] Temporary failure in name resolution",
        "Traceback\n    sock = socket.socket(family)\nOSError: [Errno 97] Address family not supported by protocol",
        "OSError: [Errno 101] Network is unreachable",
    ],
)
def test_a_lack_of_network_is_named_unless_the_app_has_it(log: str) -> None:
    (found,) = remedies(log)
    assert found == "The sandbox denies it. Set apps.logbook.network: outbound, run site.yml and deploy again."
    assert remedies(log, network="outbound") == []


@pytest.mark.parametrize(("network", "most"), [("none", 0.3), ("outbound", 1.0)])
def test_systemd_has_little_to_say_of_the_sandbox(network: str, most: float, tmp_path: Path) -> None:
    file = tmp_path / "logbook@blue.service"
    file.write_text("\n".join(unit(network=network)))
    said = judges.run(judges.product("systemd-analyze"), "security", "--offline=yes", "--no-pager", file)
    assert float(said.split("Overall exposure level")[1].split()[2]) <= most, said


@pytest.mark.parametrize(
    ("paths", "sentence"),
    [
        (["uploads"], "each must be the absolute path of a directory for data"),
        (["/"], "each must be the absolute path"),
        (["/etc/app"], "and none of the system's"),
        (["/mnt/../etc"], "none of the system's"),
        (["/mnt/a b"], "each must be the absolute path"),
        (["/mnt/%i"], "each must be the absolute path"),
        (["/mnt/a", "/mnt/a/b"], "none may be inside of another one."),
        (["/mnt/a/./b/c", "/mnt/a/b"], "none may be inside of another one."),
        (["/home/ann/files"], "the sandbox hides home directories. Move it to another place, or add writable_home"),
    ],
)
def test_a_path_that_cannot_be_opened_is_refused(paths: list[str], sentence: str) -> None:
    (found,) = refusals(writable_paths=paths)
    assert sentence in found


def test_a_path_inside_of_that_of_another_app_is_refused() -> None:
    """The other app could put a link there before the path is made."""
    declared = {"domains": ["a.example.com"], "env": {"SECRET_KEY": "x"}}

    def said(**paths: list[str]) -> list[str]:
        return apps.faults({name: {**declared, "writable_paths": found} for name, found in paths.items()})

    assert said(one=["/mnt/a/b", "/mnt/c"], two=["/mnt/a"]) == [
        "apps.one.writable_paths has /mnt/a/b, which is inside of /mnt/a of apps.two. Give each app directories of its "
        "own."
    ]
    assert said(one=["/mnt/a"], two=["/mnt/ab", "/mnt/a-b"]) == []
    assert said(one=["/mnt/a", "/mnt/a/b"], two=[]) == [], "the rule of the setting says so"
    assert said(one=["/mnt/shared"], two=["/mnt/shared"]) == []


def check(role_file: str = "writable_paths_check.yml") -> list[dict[str, Any]]:
    tasks: list[dict[str, Any]] = yaml.safe_load((render.ROLES / "app/tasks" / role_file).read_text())
    return tasks


def test_a_directory_is_made_only_where_root_alone_can_change_what_is_above_it(tmp_path: Path) -> None:
    """The look, run here: the directory of a test is in one that everybody may write to, or somebody's own."""
    look, judge = check()
    here, link = tmp_path / "here", tmp_path / "link"
    here.mkdir()
    link.symlink_to("/")
    places = ["/slipway-is-not-here/x", f"{tmp_path}/absent/x", f"{link}/slipway-is-not-here", str(here)]
    known = render.variables("app", {"writable_paths": places}, inventory_hostname="web-1")
    known["__app_settings"] = {"writable_paths": places}
    script = str(render.evaluate(look["slipway_look"]["script"], **known)).replace("getent passwd", "false")
    found = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout.splitlines()
    assert {line.split()[1] for line in found} == {places[1], places[2]}
    assert not any(line.split()[3] == "/" for line in found)

    def refused(lines: list[str]) -> str:
        told = known | {name: trust_as_template(text) for name, text in judge["vars"].items()}
        told |= {"__app_writable": {"stdout_lines": lines}}
        holds = render.evaluate(f"{{{{ {judge['ansible.builtin.assert']['that']} }}}}", **told)
        text = str(render.evaluate(judge["ansible.builtin.assert"]["fail_msg"], **told))
        assert holds is (text == "")
        return text

    assert refused([]) == ""
    said = refused(["above /mnt/a/b is /mnt/a (of ann:ann, mode 755)", "/mnt/c (directory of root:root, mode 755)"])
    assert "the user logbook of web-1 cannot write to /mnt/c (directory of root:root, mode 755). Each must be" in said
    assert "could lead it elsewhere by a link: /mnt/a/b is /mnt/a (of ann:ann, mode 755). Create it there" in said


def test_a_path_below_home_is_taken_with_the_word() -> None:
    assert refusals(writable_paths=["/home/ann/files"], needs=["writable_home"]) == []


# What logs show

NICE = """\
Traceback (most recent call last):
  File "/srv/logbook/slots/blue/release/app/main.py", line 7, in slow
    os.nice(5)
    ~~~~~~~^^^
PermissionError: [Errno 1] Operation not permitted"""

LOGS = {
    "listen": [
        "Traceback\n    server.bind(('0.0.0.0', 9100))\nPermissionError: [Errno 1] Operation not permitted",
        "PermissionError: [Errno 1] error while attempting to bind on address ('0.0.0.0', 9100): not permitted",
    ],
    "own_programs": [
        "ImportError: /var/lib/logbook/ext.so: failed to map segment from shared object",
        "PermissionError: [Errno 13] Permission denied: '/var/lib/logbook/.cache/ms-playwright/chrome-linux/chrome'",
        "/bin/sh: 1: /var/lib/logbook/tool: Permission denied",
    ],
    "priorities": [NICE],
    "jit": [
        "MemoryError: Cannot allocate write+execute memory for ffi.callback(). You might be running on a system",
        "PermissionError: [Errno 13] cannot allocate executable memory. This may be due to security restrictions",
        "Traceback\n    mmap.mmap(-1, 4096, prot=PROT_EXEC)\nPermissionError: [Errno 13] Permission denied",
        "LLVM ERROR: Unable to allocate section memory!",
    ],
    "psutil": [
        "FileNotFoundError: [Errno 2] No such file or directory: '/proc/meminfo'",
        "FileNotFoundError: [Errno 2] No such file or directory: '/proc/1/cmdline'",
        "OSError: Load averages are unobtainable",
    ],
    "network_interfaces": [
        "Traceback\n    cext.net_if_addrs()\nOSError: [Errno 97] Address family not supported by protocol",
        "Cannot open netlink socket: Address family not supported by protocol",
    ],
    "devices": ["FileNotFoundError: [Errno 2] No such file or directory: '/dev/ttyUSB0'"],
    "namespaces": ["unshare: unshare failed: Operation not permitted", "FATAL: No usable sandbox!"],
    "suid_files": ["Traceback\n    os.chmod(path, 0o2775)\nPermissionError: [Errno 1] Operation not permitted: 'x'"],
    "chown": ["Traceback\n    shutil.chown(path, 'app')\nPermissionError: [Errno 1] Operation not permitted: 'x'"],
    "debugger": ["Traceback\n    libc.ptrace(0)\nPermissionError: [Errno 1] Operation not permitted"],
    "writable_home": ["PermissionError: [Errno 13] Permission denied: '/home/ann/x'"],
    "unconfined": ["sudo: effective uid is not 0, is /usr/bin/sudo on a file system with the 'nosuid' option set"],
}


def remedies(log: str, **changes: Any) -> list[str]:
    return [denial.remedy for denial in denials.find(log.splitlines(), settings(**changes))]


def test_each_word_has_a_log_that_shows_its_lack() -> None:
    assert set(LOGS) == set(sandbox.NEEDS)


@pytest.mark.parametrize(("word", "log"), [(word, log) for word, logs in LOGS.items() for log in logs])
def test_a_denial_is_named_with_its_word_unless_the_app_has_it(word: str, log: str) -> None:
    assert remedies(log) == [f"The sandbox denies it. Add {word} to apps.logbook.needs, run site.yml and deploy again."]
    assert remedies(log, needs=[word]) == []
    assert remedies(log, needs=["unconfined"]) == []


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (
            "OSError: [Errno 30] Read-only file system: 'uploads'",
            "A release is never written to. Set apps.logbook.data: [uploads/], run site.yml",
        ),
        ("OSError: [Errno 30] Read-only file system: 'logs/app.log'", "data: [logs/], "),
        ("OSError: [Errno 30] Read-only file system: '/srv/logbook/slots/blue/release/a/up'", "data: [a/up/], "),
        ("PermissionError: [Errno 13] Permission denied: '/srv/logbook/releases/v1-1/app.db'", "data: [app.db], "),
        ("sqlite3.OperationalError: unable to open database file", "data: [app.db], "),
        ("PermissionError: [Errno 13] Permission denied: 'data.json'", "A release is never written to."),
        ("OSError: [Errno 30] Read-only file system: '/srv/logbook/live/x'", "A release is never written to."),
        ("sqlite3.OperationalError: unable to open database file", "data directory /var/lib/logbook"),
        ("sqlite3.OperationalError: attempt to write a readonly database", "data directory /var/lib/logbook"),
        (
            "OSError: [Errno 30] Read-only file system: '/mnt/media/x'",
            "add the directory to apps.logbook.writable",
        ),
        ("cp: cannot create regular file 'x': Read-only file system", "A release is never written to."),
        (
            "logbook@blue.service: Failed to set up mount namespacing: /mnt/media: No such file or directory",
            "Run site.yml, which creates /mnt/media, or take it out of apps.logbook.writable_paths.",
        ),
        ("PermissionError: [Errno 1] Operation not permitted", "Perhaps the sandbox denies it."),
    ],
)
def test_a_write_beside_the_data_directory_is_named(line: str, sentence: str) -> None:
    (found,) = remedies(line)
    assert sentence in found


@pytest.mark.parametrize(
    "log",
    [
        "FileNotFoundError: [Errno 2] No such file or directory: 'settings.json'",
        "FileNotFoundError: [Errno 2] No such file or directory: '/proc/self/x'",
        "Traceback\n    numbers = [0] * 10**12\nMemoryError",
        "INFO psutil.virtual_memory() is called soon",
        "PermissionError: [Errno 13] Permission denied: '/var/lib/other'",
        "ConnectionRefusedError: [Errno 111] Connect call failed",
    ],
)
def test_other_errors_are_not_the_sandboxs(log: str) -> None:
    assert remedies(log) == []


def test_the_same_denial_is_named_once() -> None:
    assert len(remedies("\n".join([NICE] * 3))) == 1


def test_a_traceback_in_a_line_of_json_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    message = json.dumps({"level": "error", "message": "Exception in ASGI application", "exc_info": NICE})

    def run(command: list[Any], **_: object) -> Any:
        return type("Done", (), {"stdout": json.dumps({"MESSAGE": message}) if "--output=json" in command else ""})

    monkeypatch.setattr(process, "run", run)
    log = systemd.log("logbook", "blue", 0, 10)
    assert len(denials.find(log, replace(settings(), needs=[]))) == 1
