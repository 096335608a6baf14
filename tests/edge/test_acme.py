"""What a host finds out about its names before it asks an ACME authority, and about what Nginx serves afterwards."""

from __future__ import annotations

import http.server
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from roles.certificate.module_utils import slipway_certificates as certificates
from roles.certificate.module_utils.slipway_certificates import Acme, CertificateError

from .edge import NAME, Edge

OTHER = "127.0.0.2"


@pytest.fixture
def elsewhere(edge: Edge) -> Iterator[None]:
    """Another server, of somebody else, at the same port."""

    class Server(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Quiet."""

    with http.server.HTTPServer((OTHER, edge.http), Server) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield
        server.shutdown()
        thread.join()


@pytest.fixture
def dns(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str] | None]:
    """What DNS says; this host has these addresses."""
    records: dict[str, list[str] | None] = {NAME: ["127.0.0.1"]}
    monkeypatch.setattr(certificates, "_resolve", lambda name: records[name])
    monkeypatch.setattr(certificates, "_own_addresses", lambda: ["10.0.0.5", "93.184.216.34", "2606:2800:220:1::1"])
    return records


def misdirected(edge: Edge, *domains: str) -> list[str]:
    try:
        return certificates.misdirected(domains, edge.directory / "acme", edge.http)
    finally:
        assert list((edge.directory / "acme/.well-known/acme-challenge").iterdir()) == []


def test_a_name_that_leads_here_is_asked_for(edge: Edge, dns: dict[str, list[str] | None]) -> None:
    assert dns[NAME] == ["127.0.0.1"]
    assert misdirected(edge, NAME) == []


@pytest.mark.usefixtures("elsewhere")
def test_the_record_that_is_wrong_is_named_with_what_it_should_be(edge: Edge, dns: dict[str, list[str] | None]) -> None:
    dns |= {NAME: ["127.0.0.1", OTHER], "www.example.com": []}
    with pytest.raises(CertificateError) as caught:
        misdirected(edge, NAME, "www.example.com")
    assert str(caught.value) == (
        "The authority was not asked, as it could not reach this host: the A record of logbook.example.com is "
        "127.0.0.2, where another server answers: change it to 93.184.216.34; www.example.com has no address in "
        "DNS: create an A record with 93.184.216.34."
    )


def test_what_cannot_be_told_from_here_is_a_doubt(edge: Edge, dns: dict[str, list[str] | None]) -> None:
    """As where a router does not lead the host back to itself."""
    dns |= {NAME: ["127.0.0.1", "127.0.0.3"], "www.example.com": None}
    assert misdirected(edge, NAME, "www.example.com") == [
        f"the A record of {NAME} is 127.0.0.3, which does not answer on port {edge.http} from here",
        "DNS did not answer for www.example.com",
    ]


def test_a_host_with_private_addresses_only_has_no_better_word() -> None:
    assert certificates._should_be(["10.0.0.5"], 4) == "the public address of this host"
    assert certificates._should_be(["10.0.0.5"], 6) == "the public address of this host, or remove it if it has none"


def test_dns_is_asked_as_every_program_does(monkeypatch: pytest.MonkeyPatch) -> None:
    assert certificates._resolve("localhost")
    for error, found in ((socket.EAI_NONAME, []), (socket.EAI_AGAIN, None)):

        def fail(*_: object, error: int = error, **__: object) -> None:
            raise socket.gaierror(error, "no")

        monkeypatch.setattr(socket, "getaddrinfo", fail)
        assert certificates._resolve("x.example") == found


def test_what_nginx_shows_is_read_from_a_handshake(edge: Edge) -> None:
    assert certificates.served(NAME, edge.https) == (edge.directory / "fullchain.pem").read_text().strip()
    assert certificates.served("evil.example", edge.https) == ""
    assert certificates.served(NAME, 1) == ""


def test_a_certificate_that_nginx_does_not_load_is_no_success(
    edge: Edge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = (edge.directory / "fullchain.pem").read_text()
    monkeypatch.setattr(certificates, "_run", lambda *_: subprocess.CompletedProcess([], 0))
    monkeypatch.setattr(certificates, "served", lambda _: shown.strip())
    certificates.install(tmp_path / "logbook", certificates.Pair(shown, "key\n", "x"))
    certificates._wait_until_served(tmp_path / "logbook", [NAME], 0.1)
    other = shown.replace("MII", "MIJ")
    certificates.install(tmp_path / "logbook", certificates.Pair(other, "key\n", "x"))
    with pytest.raises(CertificateError, match=f"Nginx serves another one for {NAME}"):
        certificates._wait_until_served(tmp_path / "logbook", [NAME], 0.1)


@pytest.mark.parametrize(
    ("hook", "asked"),
    [
        ("", ["--webroot", "--webroot-path", "/web"]),
        (
            "/usr/local/sbin/dns",
            ["--manual", "--preferred-challenges", "dns", "--manual-auth-hook", "/usr/local/sbin/dns present",
             "--manual-cleanup-hook", "/usr/local/sbin/dns remove"],
        ),
    ],
)  # fmt: skip
def test_how_the_authority_is_shown_that_a_domain_is_ours(hook: str, asked: list[str]) -> None:
    assert certificates._proof(Acme(["*.example.com"], "https://a/dir", "", "/web", 30, hook)) == asked
