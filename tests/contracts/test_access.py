"""Who reaches the host and whom its users reach: the pure parts of role `access`, and what the apps tell it."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.template import trust_as_template

from filter_plugins import apps
from roles.access.filter_plugins import access
from tests.templates import render

Program = Callable[..., subprocess.CompletedProcess[str]]
INPUTS: dict[str, Any] = yaml.safe_load((render.ROLES / "access/defaults/main.yml").read_text())


def declared(**settings: Any) -> dict[str, Any]:
    """What role `access` is told of the realistic app."""
    (found,) = apps.access(render.declared(**settings))
    return found


def rules(**changes: Any) -> str:
    return render.render("access", "firewall.nft.j2", **changes)


def chain(name: str, text: str) -> list[str]:
    """The rules of a chain."""
    found = re.search(rf"^  chain {name} {{\n(.*?)^  }}", text, re.DOTALL | re.MULTILINE)
    assert found, name
    return [line.strip() for line in found[1].splitlines()]


def test_ports_that_are_going_to_be_closed_are_known_by_their_programs() -> None:
    lines = [
        "listens tcp 22 sshd",
        "listens tcp 9100 node_exporter",
        "listens udp 9100",
        "listens tcp 5000 docker-proxy",
        "listens udp 161 snmpd",
        "port 22",
        "",
    ]
    opened: list[dict[str, Any]] = [{"port": 5000, "from": ["10.0.0.0/8"]}, {"port": 161}]
    assert access.closed(lines, [22, 80, 443], opened) == ["udp 161 (snmpd)", "tcp 9100 (node_exporter)", "udp 9100"]


# The apps


@pytest.mark.parametrize(
    ("url", "places"),
    [
        ("", []),
        ("postgresql+asyncpg://me@/db?host=/run/postgresql", []),
        ("sqlite:////var/lib/x/x.db", []),
        ("no url at all", []),
        ("postgresql://u:p@db.example.com/x", [{"host": "db.example.com", "port": 5432}]),
        ("postgresql://u:p@192.0.2.9:6432/x", [{"host": "192.0.2.9", "port": 6432}]),
        ("postgresql://u:p@[2001:db8::9]:6432/x", [{"host": "2001:db8::9", "port": 6432}]),
        ("postgresql://u:p@/x?host=a:1&host=b:2", [{"host": "a", "port": 1}, {"host": "b", "port": 2}]),
    ],
)
def test_a_database_elsewhere_is_named_by_its_hosts_and_ports(url: str, places: list[dict[str, Any]]) -> None:
    assert declared(env={"SECRET_KEY": "x", "DATABASE_URL": url} if url else {"SECRET_KEY": "x"})["database"] == places


def test_indexes_and_proxies_of_builds_are_found_in_their_variables() -> None:
    variables = {
        "UV_DEFAULT_INDEX": "https://user:hidden@pypi.example.com/simple",
        "UV_INDEX": "own=https://own.example.com:8443/simple http://10.0.0.5/simple",
        "HTTPS_PROXY": "proxy.example.com:3128",
        "NO_PROXY": "localhost,10.0.0.0/8",
        "SSL_CERT_FILE": "/etc/ssl/certs/ca-certificates.crt",
        "UV_HTTP_TIMEOUT": 60,
    }
    assert declared(build_env=variables)["build_from"] == [
        {"host": "pypi.example.com", "port": 443},
        {"host": "own.example.com", "port": 8443},
        {"host": "10.0.0.5", "port": 80},
        {"host": "proxy.example.com", "port": 3128},
    ]
    assert "hidden" not in str(declared(build_env=variables))


# What goes out


def test_each_user_of_an_app_has_the_chain_of_its_kind() -> None:
    output = chain("output", rules())
    assert 'meta skuid 990 jump apps comment "logbook"' in output
    assert 'meta skuid 991 jump builds comment "logbook_build"' in output
    assert 'meta skuid 992 jump nothing comment "logbook_migrate"' in output
    assert chain("apps", rules())[-1] == "jump cloud"
    assert chain("nothing", rules()) == ["reject with icmpx admin-prohibited"]


def test_a_user_that_is_not_there_does_not_break_the_rules() -> None:
    known = {"stdout": "", "stdout_lines": [line for line in render.HOST if "logbook_build" not in line]}
    assert "logbook_build" not in rules(__access_found=known)


@pytest.mark.parametrize(
    ("url", "rule"),
    [
        ("postgresql://u:p@192.0.2.9:6432/x", "ip daddr 192.0.2.9 tcp dport 6432 accept"),
        ("postgresql://u:p@[2001:db8::9]/x", "ip6 daddr 2001:db8::9 tcp dport 5432 accept"),
        ("postgresql://u:p@db.example.com/x", "tcp dport 5432 accept"),
    ],
)
def test_migrations_reach_their_database_alone(url: str, rule: str) -> None:
    text = rules(settings={"env": {"SECRET_KEY": "x", "DATABASE_URL": url}})
    assert 'meta skuid 992 jump database_logbook comment "logbook_migrate"' in chain("output", text)
    assert chain("database_logbook", text)[-2:] == [rule, "reject with icmpx admin-prohibited"]
    assert "jump cloud" in chain("database_logbook", text)


def test_builds_reach_public_https_and_the_indexes_that_are_named() -> None:
    found = ["index 10.0.0.5 443", "index 93.184.216.34 443", "index 93.184.216.34 8443", "index 2001:db8::5 443"]
    known = {"stdout": "", "stdout_lines": [*render.HOST, *found]}
    builds = chain("builds", rules(__access_found=known))
    assert builds[1:4] == [
        "ip daddr 10.0.0.5 tcp dport 443 accept",
        "ip daddr 93.184.216.34 tcp dport 8443 accept",
        "ip6 daddr 2001:db8::5 tcp dport 443 accept",
    ]
    assert builds[-2:] == ["tcp dport 443 accept", "reject with icmpx admin-prohibited"]


def test_networks_of_builds_take_the_place_of_everybody() -> None:
    builds = chain("builds", rules(access_build_networks=["10.20.0.0/17", "10.20.128.0/17", "2001:db8::/32"]))
    assert builds == [
        "meta l4proto { tcp, udp } ct original proto-dst 53 accept",
        "ip daddr { 10.20.0.0/16 } accept",
        "ip6 daddr { 2001:db8::/32 } accept",
        "reject with icmpx admin-prohibited",
    ]


# What comes in


def test_ssh_is_open_on_the_ports_of_sshd_and_on_those_that_are_asked_for() -> None:
    known = {"stdout": "", "stdout_lines": [*render.HOST, "port 2222"]}
    assert "tcp dport { 22, 2200, 2222 } jump ssh" in chain(
        "input", rules(__access_found=known, access_ssh_ports=[2200])
    )


def test_nothing_else_is_open_unless_it_is_asked_for() -> None:
    opened = [line for line in chain("input", rules()) if "dport" in line]
    assert opened[1:] == ["tcp dport { 22 } jump ssh", "tcp dport { 80, 443 } accept"]
    assert "udp dport 546" in opened[0]
    more = chain(
        "input", rules(access_http3=True, access_open_ports=[{"port": 9100, "from": ["10.0.0.0/8", "fd00::/8"]}])
    )
    assert more[-3:] == [
        "udp dport 443 accept",
        "ip saddr { 10.0.0.0/8 } tcp dport 9100 accept",
        "ip6 saddr { fd00::/8 } tcp dport 9100 accept",
    ]


def test_protocols_without_ports_and_whole_interfaces_can_be_let_in() -> None:
    opened = [{"protocol": "esp"}, {"protocol": "vrrp", "from": ["10.0.0.0/8"]}]
    trusted = ["wg0", "br-*"]
    assert access.faults(INPUTS | {"access_open_ports": opened, "access_trusted_interfaces": trusted}) == []
    found = chain("input", rules(access_open_ports=opened, access_trusted_interfaces=trusted))
    assert found[-2:] == ["meta l4proto 50 accept", "ip saddr { 10.0.0.0/8 } meta l4proto 112 accept"]
    assert found[found.index('iifname "lo" accept') + 1 :][:2] == ['iifname "wg0" accept', 'iifname "br-*" accept']


def test_other_tables_are_not_touched() -> None:
    assert "flush" not in rules()
    assert re.findall(r"^(?:delete )?table .*", rules(), re.MULTILINE) == [
        "table inet slipway",
        "delete table inet slipway",
        "table inet slipway {",
    ]


# sshd


@pytest.mark.parametrize(
    ("older", "offered"),
    [
        (False, ["mlkem768x25519-sha256", "sntrup761x25519-sha512@openssh.com"]),
        (True, ["mlkem768x25519-sha256", "sntrup761x25519-sha512@openssh.com", "curve25519-sha256"]),
    ],
)
def test_key_exchanges_are_those_that_this_openssh_has(older: bool, offered: list[str]) -> None:
    known = ["kex curve25519-sha256", "kex sntrup761x25519-sha512@openssh.com", "kex mlkem768x25519-sha256", "kex x"]
    assert access.key_exchanges(known, older) == offered


@pytest.mark.parametrize(("line", "has_rsa"), [("rsa 3072", True), ("rsa 2048", False), ("", False)])
def test_a_short_rsa_key_of_the_host_is_not_offered(line: str, has_rsa: bool) -> None:
    assert ("rsa-sha2-512" in access.host_keys([line])) is has_rsa


@pytest.mark.parametrize(("said", "value"), [(["root no"], "no"), ([], "prohibit-password")])
def test_root_that_may_not_log_in_still_may_not(said: list[str], value: str) -> None:
    known = {"stdout": "", "stdout_lines": [*render.HOST, *said]}
    assert f"\nPermitRootLogin {value}\n" in render.render("access", "00-slipway.conf.j2", __access_found=known)


# What is refused


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"access_ssh_ports": [0]}, "access_ssh_ports has 0, but a port is a number from 1 to 65535."),
        ({"access_web_ports": [70000]}, "access_web_ports has 70000, but a port is"),
        ({"access_open_ports": [{"port": 0}]}, "access_open_ports has 0, but a port is"),
        ({"access_open_ports": [{"protocol": "udp"}]}, "access_open_ports has an entry of udp without a port. Add one"),
        ({"access_open_ports": [{"protocol": "esp", "port": 50}]}, "access_open_ports has port 50 of esp"),
        ({"access_trusted_interfaces": ["*"]}, "access_trusted_interfaces has '*', which is no name of an interface"),
        ({"access_trusted_interfaces": ['a" accept']}, "access_trusted_interfaces has 'a\" accept', which is no name"),
        ({"access_trusted_interfaces": ["longer-than-15-c"]}, "access_trusted_interfaces has 'longer-than-15-c'"),
        ({"access_open_ports": [{"port": 1, "from": ["home"]}]}, "access_open_ports has 'home', which is no network"),
        (
            {"access_build_networks": ["pypi.org"]},
            "access_build_networks has 'pypi.org', which is no network: write it as",
        ),
        ({"access_ssh_unlimited": ["10.0.0.0/40"]}, "access_ssh_unlimited has '10.0.0.0/40', which is no network"),
        ({"access_confirm_seconds": 5}, "access_confirm_seconds is 5, but a new login needs its time"),
    ],
)
def test_a_value_that_cannot_be_meant_is_refused(change: dict[str, Any], sentence: str) -> None:
    (found,) = access.faults(INPUTS | change)
    assert found.startswith(sentence)


def wrong(said: list[str], **changes: Any) -> str:
    """What the preflight says of a host that has said this."""
    return preflight(said, 1, "__wrong", **changes)


def preflight(said: list[str], task: int, sentences: str, **changes: Any) -> str:
    """The sentences of a task of the preflight."""
    told = yaml.safe_load((render.ROLES / "access/tasks/preflight.yml").read_text())[task]["vars"]
    found = {"stdout": "", "stdout_lines": said}
    known = render.variables("access", __access_found=found, inventory_hostname="web-1", **changes)
    known |= {name: trust_as_template(text) for name, text in told.items() if isinstance(text, str)}
    known["__access_settings_text"] = render.render("access", "00-slipway.conf.j2", __access_found=found, **changes)
    known["__inputs"] = INPUTS
    return str(render.evaluate(f"{{{{ {sentences} | join(' ') }}}}", **known))


def test_a_login_that_would_not_be_possible_afterwards_is_refused() -> None:
    without_key = [line for line in render.HOST if not line.startswith("key ")]
    assert wrong(render.HOST) == ""
    said = wrong(without_key, ansible_host="192.0.2.7")
    assert "'ops', who has logged in to web-1, has no key there: type `ssh-copy-id ops@192.0.2.7`" in said
    assert wrong(without_key, access_sshd=False) == ""
    assert wrong(without_key, ansible_connection="community.docker.docker") == ""


def test_a_firewall_that_would_close_ssh_is_refused() -> None:
    without_port = [line for line in render.HOST if not line.startswith("port ")]
    assert "the firewall would close SSH: set access_ssh_ports" in wrong(without_port)
    assert wrong(without_port, access_ssh_ports=[22]) == ""
    assert wrong(without_port, access_firewall=False) == ""


def test_a_kernel_without_nftables_is_refused_unless_the_firewall_is_in_force() -> None:
    without = [line for line in render.HOST if line != "kernel has nftables"]
    assert "The kernel of web-1 has no nftables" in wrong(without)
    assert wrong(without, access_firewall=False) == ""
    assert wrong([*without, "loaded"]) == ""


VPN = ["vpn wg0", "listens udp 51820", "listens udp 5353 avahi-daemon", "listens tcp 22 sshd"]


@pytest.mark.parametrize(
    ("said", "opened", "ports"),
    [
        (VPN, [], ["udp 51820"]),
        (VPN, [{"port": 51820}], ["udp 51820"]),
        (VPN, [{"port": 51820, "protocol": "udp"}], []),
        (VPN[1:], [], []),
        (["vpn tun0", "listens udp 1194 openvpn", "listens udp 53 dnsmasq"], [], ["udp 1194"]),
        (["vpn tun0", "listens udp 53 dnsmasq"], [], []),
        (["vpn wg0", "listens udp 51820", "listens udp 4789"], [{"port": 51820, "protocol": "udp"}], []),
    ],
)
def test_a_firewall_that_would_close_the_vpn_of_the_controller_is_refused(
    said: list[str], opened: list[dict[str, Any]], ports: list[str]
) -> None:
    assert access.vpn_ports(said, opened) == ports
    found = wrong([*render.HOST, *said], access_open_ports=opened)
    assert (f"has come to web-1 by {said[0].split()[1]}, a VPN" in found) is bool(ports)
    assert found.count("such as {port: 51820, protocol: udp}") == len(ports)
    assert wrong([*render.HOST, *said, "loaded"], access_open_ports=opened) == ""


MAIN = "/etc/ssh/sshd_config"
INCLUDE = f"set {MAIN} Include /etc/ssh/sshd_config.d/*.conf"


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ([INCLUDE], ""),
        ([f"set {MAIN} Port 2222", f"set {MAIN} passwordauthentication no", INCLUDE], ""),
        ([INCLUDE, f"set {MAIN} PasswordAuthentication yes", f"set {MAIN} UsePAM yes"], ""),
        ([f"set {MAIN} include sshd_config.d/*"], ""),
        ([f"set {MAIN} PermitRootLogin without-password", INCLUDE], ""),
        ([INCLUDE, "set /etc/ssh/sshd_config.d/50-cloud-init.conf PasswordAuthentication yes"], ""),
        (
            [f"set {MAIN} PasswordAuthentication yes # as ever", INCLUDE],
            f"{MAIN} sets passwordauthentication to 'yes' before it includes /etc/ssh/sshd_config.d/*.conf: make 'I",
        ),
        (
            [f"set {MAIN} ChallengeResponseAuthentication=yes", INCLUDE],
            f"{MAIN} sets kbdinteractiveauthentication to 'yes' before it includes",
        ),
        ([f"set {MAIN} UsePAM yes"], f"{MAIN} does not include /etc/ssh/sshd_config.d/*.conf, so Slipway's"),
        ([f"match {MAIN} Include /etc/ssh/sshd_config.d/*.conf"], f"{MAIN} does not include"),
        (
            [INCLUDE, "set /etc/ssh/sshd_config.d/00-a.conf MaxAuthTries 6"],
            "/etc/ssh/sshd_config.d/00-a.conf sets maxauthtries to '6' and is read before 00-slipway.conf, so it",
        ),
    ],
)
def test_settings_of_sshd_that_would_not_count_are_refused(lines: list[str], sentence: str) -> None:
    host = [line for line in render.HOST if not line.startswith("set ")]
    found = wrong([*host, *lines])
    assert found.startswith(sentence)
    assert bool(found) is bool(sentence)
    assert wrong([*host, *lines], access_sshd=False) == ""


def test_logins_that_are_allowed_more_than_others_are_named() -> None:
    blocks = [
        f"match {MAIN} PasswordAuthentication yes",
        f"match {MAIN} MaxAuthTries 6",
        f"match {MAIN} PermitRootLogin prohibit-password",
        "match /etc/ssh/sshd_config.d/sftp.conf DisableForwarding no",
        "match /etc/ssh/sshd_config.d/sftp.conf PubkeyAuthentication yes",
    ]
    said = preflight([*render.HOST, *blocks], 2, "__notes")
    assert f"passwordauthentication yes ({MAIN}), disableforwarding no (/etc/ssh/sshd_config.d/sftp.conf)." in said
    assert preflight(render.HOST, 2, "__notes") == ""
    assert preflight([*render.HOST, *blocks], 2, "__notes", access_sshd=False) == ""
    closing = preflight([*render.HOST, "listens tcp 9100 node"], 2, "__notes")
    assert closing.startswith(
        "The firewall closes ports of web-1 on which programs listen for other machines: tcp 9100"
    )


# What the host says


def look(name: str, tmp_path: Path, programs: dict[str, str], files: dict[str, str]) -> list[str]:
    """The answer to a part of the look, in a directory in place of /proc, /sys and /etc/ssh."""
    script = str(render.evaluate(f"{{{{ {name} }}}}", **render.variables("access")))
    for directory in ("/proc", "/sys", "/etc/ssh"):
        script = script.replace(f"{directory}/", f"{tmp_path}{directory}/")
    (tmp_path / "bin").mkdir()
    for program, text in programs.items():
        (tmp_path / "bin" / program).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / "bin" / program).chmod(0o755)
    for path, text in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    environment = {"PATH": f"{tmp_path}/bin:/usr/bin:/bin"}
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False, env=environment)
    return [line.replace(str(tmp_path), "") for line in done.stdout.splitlines()]


def test_the_kernel_is_asked_for_nftables_where_no_program_can() -> None:
    script = str(render.evaluate("{{ __access_look_kernel }}", **render.variables("access")))
    alone = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--net"]
    without_right = ["setpriv", "--bounding-set=-net_admin"]
    said = [
        subprocess.run([*alone, *more, "sh", "-c", script], capture_output=True, text=True, check=False).stdout
        for more in ([], without_right)
    ]
    assert said == ["kernel has nftables\n", ""]


def process(number: int, parent: int, user: int, command: str) -> dict[str, str]:
    status = f"Name:\tsshd\nPPid:\t{parent}\nUid:\t{user}\t{user}\t{user}\t{user}\n"
    return {f"proc/{number}/status": status, f"proc/{number}/cmdline": command}


def test_ports_that_people_have_forwarded_are_none_of_sshd(tmp_path: Path) -> None:
    """In Debian 12 a login is called sshd as well, and one that is older than a restart of sshd belongs to nobody."""
    sockets = [
        'LISTEN 0 128 0.0.0.0:2222 0.0.0.0:* users:(("sshd",pid=10,fd=3))',
        'LISTEN 0 128 [::]:22 [::]:* users:(("sshd",pid=11,fd=3),("systemd",pid=1,fd=40))',
        'LISTEN 0 128 127.0.0.1:6010 0.0.0.0:* users:(("sshd",pid=20,fd=9))',
        'LISTEN 0 128 0.0.0.0:9000 0.0.0.0:* users:(("sshd",pid=21,fd=9))',
        'LISTEN 0 128 0.0.0.0:9002 0.0.0.0:* users:(("sshd",pid=22,fd=9))',
        'LISTEN 0 128 0.0.0.0:9001 0.0.0.0:* users:(("sshd",pid=30,fd=9))',
        'LISTEN 0 128 0.0.0.0:80 0.0.0.0:* users:(("nginx",pid=10,fd=9))',
    ]
    files = {
        **process(10, 1, 0, "sshd: /usr/sbin/sshd -D [listener] 0 of 10-100 startups"),
        **process(11, 1, 0, "sshd: /usr/sbin/sshd -D -o Banner=a@b [listener] 0 of 10-100 startups"),
        **process(20, 19, 1000, "sshd: ops@pts/0"),
        **process(21, 1, 0, "sshd: root@notty"),
        **process(22, 10, 0, "sshd: ops [priv]"),
        **process(30, 1, 990, "sshd: /usr/sbin/sshd -D [listener] 0 of 10-100 startups"),
    }
    said = "\n".join(sockets)
    assert look("__access_look_sshd", tmp_path, {"ss": f"cat <<'E'\n{said}\nE"}, files) == ["0.0.0.0:2222", "[::]:22"]


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"sys/class/net/wg0/uevent": "DEVTYPE=wireguard\nINTERFACE=wg0\n"}, ["vpn wg0"]),
        ({"sys/class/net/wg0/uevent": "INTERFACE=wg0\n", "sys/class/net/wg0/tun_flags": "0x1001\n"}, ["vpn wg0"]),
        ({"sys/class/net/wg0/uevent": "INTERFACE=wg0\n"}, []),
    ],
)
def test_the_way_back_to_the_controller_is_known_behind_sudo(
    tmp_path: Path, files: dict[str, str], said: list[str]
) -> None:
    route = 'test "$*" = "route get 10.8.0.2" && echo "10.8.0.2 dev wg0 src 10.8.0.1 uid 0"'
    script = f"PPid:\t{7}\n"
    known = {
        "proc/7/status": "PPid:\t6\n",
        "proc/7/environ": "SUDO_USER=ops\0",
        "proc/6/status": "PPid:\t1\n",
        "proc/6/environ": "HOME=/\0SSH_CONNECTION=10.8.0.2 5123 10.8.0.1 22\0SHELL=/bin/sh\0",
    }
    start = str(render.variables("access")["__access_look_way"])
    assert "process=$$" in start
    changed = {**files, **known, "proc/self/status": script}
    assert look("__access_look_way | replace('$$', '7')", tmp_path, {"ip": route}, changed) == said


def test_settings_of_sshd_are_told_by_their_files_and_blocks(tmp_path: Path) -> None:
    files = {
        "etc/ssh/sshd_config": "# Port 1\n\n  Port 22\nMatch User a\n  PermitTunnel yes\nMATCH all\nUsePAM no\n",
        "etc/ssh/sshd_config.d/00-a.conf": "MaxAuthTries 6\n",
        "etc/ssh/sshd_config.d/other": "Port 23\n",
    }
    assert look("__access_look_settings", tmp_path, {}, files) == [
        "set /etc/ssh/sshd_config   Port 22",
        "match /etc/ssh/sshd_config   PermitTunnel yes",
        "match /etc/ssh/sshd_config UsePAM no",
        "set /etc/ssh/sshd_config.d/00-a.conf MaxAuthTries 6",
    ]


# The program that brings a change into force


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """slipway-access in a directory, with programs that do nothing in place of those that would change this machine."""
    text = (render.ROLES / "access/files/slipway-access").read_text()
    for old, new in (
        ("/var/lib/slipway", tmp_path / "state"),
        ("/etc/slipway", tmp_path / "etc"),
        ("/etc/ssh/sshd_config.d", tmp_path / "sshd"),
        ("PATH=/usr/local/sbin:", f"PATH={tmp_path}/bin:"),
    ):
        assert str(old) in text
        text = text.replace(str(old), str(new))
    text = text.replace("command -v sshd >/dev/null || return 0", "return 0")
    (tmp_path / "slipway-access").write_text(text)
    (tmp_path / "bin").mkdir()
    for name in ("nft", "systemctl", "systemd-run"):
        (tmp_path / "bin" / name).write_text("#!/bin/sh\n")
        (tmp_path / "bin" / name).chmod(0o755)
    for path, content in (("etc/firewall.nft", "old rules"), ("sshd/00-slipway.conf", "old settings")):
        (tmp_path / path).parent.mkdir()
        (tmp_path / path).write_text(content)
    wanted = tmp_path / "state/access/wanted"
    wanted.mkdir(parents=True)
    (wanted / "firewall.nft").write_text("new rules")
    (wanted / "00-slipway.conf").write_text("new settings")

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["sh", tmp_path / "slipway-access", *words], capture_output=True, text=True, check=False)

    return run


def in_force(directory: Path) -> list[str]:
    return [(directory / name).read_text() for name in ("etc/firewall.nft", "sshd/00-slipway.conf")]


def test_a_change_goes_back_and_one_that_is_confirmed_stays(tmp_path: Path, program: Program) -> None:
    assert program("try", "60").returncode == 0
    assert in_force(tmp_path) == ["new rules", "new settings"]
    assert program("back").returncode == 0
    assert in_force(tmp_path) == ["old rules", "old settings"]
    program("try", "60")
    assert program("confirm", "without-ssh").returncode == 0
    program("boot")
    assert in_force(tmp_path) == ["new rules", "new settings"]
    assert sorted(path.name for path in (tmp_path / "state/access").iterdir()) == ["lock", "wanted"]


def test_a_way_back_that_is_killed_while_it_cleans_up_is_not_gone_again(tmp_path: Path, program: Program) -> None:
    """The second time would take off the host what is not in `before` any more: the firewall, and sshd's settings."""
    (tmp_path / "bin/rm").write_text(
        '#!/bin/sh\ncase $2 in */access/*) /bin/rm "$2/firewall.nft"; kill $PPID ;; *) exec /bin/rm "$@" ;; esac\n'
    )
    program("try", "60")
    (tmp_path / "bin/rm").chmod(0o755)
    assert program("back").returncode != 0
    (tmp_path / "bin/rm").unlink()
    program("boot")
    assert in_force(tmp_path) == ["old rules", "old settings"]


def test_what_is_gone_back_to_is_on_the_disk_before_anything_is_replaced(tmp_path: Path, program: Program) -> None:
    log = tmp_path / "log"
    for name in ("sync", "mv"):
        (tmp_path / "bin" / name).write_text(f'#!/bin/sh\necho {name} "$@" >>{log}\nexec /bin/{name} "$@"\n')
        (tmp_path / "bin" / name).chmod(0o755)
    program("try", "60")
    said = [line.replace(str(tmp_path), "") for line in log.read_text().splitlines()]
    kept = "/state/access/before.new"
    files = [f"{kept}/{name}" for name in ("firewall.nft", "00-slipway.conf", "since")]
    synced, *rest = said
    assert set(synced.split()[1:]) == {kept, *files}
    assert rest == [
        f"mv {kept} /state/access/before",
        "sync /state/access",
        *("sync /etc/firewall.nft.new", "mv /etc/firewall.nft.new /etc/firewall.nft", "sync /etc"),
        *(
            "sync /sshd/00-slipway.conf.new",
            "mv /sshd/00-slipway.conf.new /sshd/00-slipway.conf",
            "sync /sshd",
        ),
    ]
