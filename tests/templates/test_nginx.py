"""Nginx's configuration, rendered over the role's real defaults; on a host Nginx tests it before it is installed."""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import itertools
import re
from typing import Any

import pytest
import yaml

from tests.templates import render as renderer

SITE = renderer.sites()[0]


def render(version: str = "1.26.3", sites: list[dict[str, Any]] | None = None, **changes: Any) -> str:
    served = [SITE] if sites is None else sites
    found = {"stdout": f"nginx version: nginx/{version}"}
    return renderer.render("nginx", "nginx.conf.j2", nginx_sites=served, __nginx_found=found, **changes)


def test_blocks_are_closed() -> None:
    text = render()
    assert text.count("{\n") == len(re.findall(r"^\s*\}$", text, re.MULTILINE))


@pytest.mark.parametrize(
    ("version", "present", "absent"),
    [
        ("1.22.1", "listen 443 ssl http2;", "http2 on;"),
        ("1.26.3", "http2 on;", "ssl http2;"),
        ("1.29.7", "keepalive 0;", "ssl http2;"),
    ],
)
def test_directives_are_those_of_the_version(version: str, present: str, absent: str) -> None:
    assert present in render(version)
    assert absent not in render(version)


def test_upstream_connections_are_never_kept() -> None:
    """A kept one would go on to the old release after the switch, and fail when that stops."""
    for version in ("1.22.1", "1.26.3"):
        upstream = re.search(r"upstream logbook \{(.*?)\n    \}", render(version), re.DOTALL)
        assert upstream
        assert "keepalive" not in re.sub(r"#.*", "", upstream[1])
    assert re.search(r"^\s*keepalive [1-9]", render("1.30.0"), re.MULTILINE) is None


def test_a_request_is_never_sent_twice() -> None:
    assert re.findall(r"proxy_next_upstream .*", render()) == ["proxy_next_upstream off;"]


def test_unknown_names_get_no_certificate_unless_a_site_is_an_address() -> None:
    assert "ssl_reject_handshake on;" in render()
    by_address = render(sites=[{**SITE, "domains": ["127.0.0.1"]}])
    assert "ssl_reject_handshake" not in by_address
    assert by_address.count("http2 on;") == 2  # a client of an address settles HTTP/2 with the server of no name
    assert by_address.count("return 444;") == 2


def test_http_is_redirected_to_the_port_that_clients_use() -> None:
    assert "return 301 https://$host$request_uri;" in render()
    assert "return 301 https://$host:8443$request_uri;" in render(sites=[{**SITE, "https_port": 8443}])


def test_without_sites_everything_is_refused() -> None:
    text = render(sites=[])
    assert "proxy_pass" not in text
    assert "ssl_reject_handshake on;" in text


def test_a_site_has_the_settings_of_its_app() -> None:
    text = render(sites=renderer.sites(request_timeout=7, client_max_body_size="3m"))
    assert re.findall(r"proxy_(?:send|read)_timeout (\w+);", text) == ["7s", "7s", "307s"]  # held ones wait longer
    assert "client_max_body_size 3m;" in text


def test_hsts_can_be_left_out() -> None:
    assert "max-age" in render()
    assert "max-age" not in render(nginx_hsts_seconds=0)


def test_the_page_may_have_the_style_that_it_has() -> None:
    """Browsers compare it with the digest in the Content-Security-Policy."""
    known = renderer.variables("nginx")
    digest = base64.b64encode(hashlib.sha256(known["__nginx_page_style"].encode()).digest()).decode()
    assert known["__nginx_page_style_hash"] == f"sha256-{digest}"
    assert f"<style>{known['__nginx_page_style']}</style>" in render()


@pytest.mark.parametrize(("openssl", "first"), [("3.0.17", "X25519"), ("3.4.1", "X25519"), ("3.5.1", "X25519MLKEM768")])
def test_the_key_exchange_is_what_openssl_has(openssl: str, first: str) -> None:
    found = {"stdout": f"nginx version: nginx/1.26.3\nOpenSSL {openssl} 1 Jul 2026 (Library: OpenSSL 3.0.1)"}
    text = renderer.render("nginx", "nginx.conf.j2", nginx_sites=[SITE], __nginx_found=found)
    assert re.findall(r"ssl_ecdh_curve \??(\w+):", text) == [first]


@pytest.mark.parametrize(
    ("changes", "sent"),
    [
        ({}, "max-age=31536000"),
        ({"nginx_hsts_subdomains": True}, "max-age=31536000; includeSubDomains"),
        ({"nginx_hsts_subdomains": True, "nginx_hsts_preload": True}, "max-age=31536000; includeSubDomains; preload"),
    ],
)
def test_how_long_and_for_what_https_only_goes(changes: dict[str, Any], sent: str) -> None:
    assert f'"on:"    "{sent}";' in render(**changes)


def _as_nginx_writes_it(groups: tuple[int, ...], shortest: int) -> str:
    """An IPv6 address with its longest run of zeros left out, where that has so many groups; of equal ones the first.

    How short a run Nginx leaves out has not been the same in all versions.
    """
    words = [f"{group:x}" for group in groups]
    runs = [(0, 0)] + [
        (length, -start)
        for start in range(8)
        for length in range(shortest, 9 - start)
        if not any(groups[start : start + length])
    ]
    length, start = max(runs)
    return f"{':'.join(words[:-start])}::{':'.join(words[length - start :])}" if length else ":".join(words)


@pytest.mark.parametrize("shortest", [1, 2])
def test_a_network_of_ipv6_has_few_keys_and_none_of_another(shortest: int) -> None:
    """All addresses of groups that are zero or not, but for those that begin with zeros: no client has one of them."""
    clients = re.search(r"map \$remote_addr \$slipway_client {(.*?)\n    }", render(), re.DOTALL)
    assert clients
    rules = [re.compile(rule.replace("(?<", "(?P<")) for rule in re.findall(r'"~(\S+)"', clients[1])]
    assert len(rules) == 7
    keys: dict[str, set[str]] = {}
    for bits in itertools.product((0, 1), repeat=7):
        groups = (0x2001, *(0xDB8 * bit for bit in bits))
        text = _as_nginx_writes_it(groups, shortest)
        address = ipaddress.IPv6Address(text)
        assert address == ipaddress.IPv6Address(":".join(f"{group:x}" for group in groups))
        found = next((match["client_network"] for rule in rules if (match := rule.search(text))), text)
        keys.setdefault(str(ipaddress.ip_network((address, 64), strict=False)), set()).add(found)
    assert len(keys) == 8
    assert max(len(found) for found in keys.values()) <= 3
    assert len(set.union(*keys.values())) == sum(len(found) for found in keys.values())


def test_requests_are_held_for_as_long_as_nginx_waits_for_them() -> None:
    asked = yaml.safe_load((renderer.ROLES.parent / "playbooks/vars/maintenance.yml").read_text())
    assert asked["longest_hold"] == renderer.variables("nginx")["__nginx_longest_hold"]


def test_addresses_of_limits_and_of_who_may_reach_an_app_are_in_the_configuration() -> None:
    changed = renderer.sites(allow_from=["192.0.2.0/24"], unlimited_from=["198.51.100.7"], maintenance_allow=["::2"])
    text = render(sites=changed)
    assert text.count("allow 192.0.2.0/24;") == 1  # for the whole server, also for locations of a snippet
    assert text.count("deny all;") == 1
    assert "198.51.100.7 0;" in text
    assert "::2 1;" in text
    assert "set_real_ip_from" not in text
    assert "quic" not in text
    assert "listen 443 quic reuseport default_server;" in render(nginx_http3=True)


def test_files_of_a_release_are_looked_for_in_the_live_one_and_the_one_before_it() -> None:
    text = render(sites=renderer.sites(static={"/a/": "x/", "/a/b/": "y/", "/robots.txt": "z/robots.txt"}))
    assert re.findall(r"root (/srv/logbook/\S+);", text) == [
        *["/srv/logbook/live/release"] * 3,
        "/srv/logbook/slots/blue/release",
        "/srv/logbook/slots/green/release",
    ]
    assert text.index('"^/a/b/') < text.index('"^/a/(')
    assert "slipway_asset" not in render()
