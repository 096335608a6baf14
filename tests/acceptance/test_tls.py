"""Certificates that expire, that do not match, and that an ACME authority issues or refuses.

Each test depends on those before it. The authority is pebble, the test server of Let's Encrypt, on the host.
"""

from __future__ import annotations

import json
import re
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hosts import scratch
from hosts.host import Host

from .conftest import HTTPS_PORT, Controller

DOMAIN = "logbook.acme.test"
DIRECTORY = "https://127.0.0.1:14000/dir"
PLACE = "/etc/ssl/slipway/logbook"
RENEWAL = "slipway-certificate@logbook"
ROOT = "u.urlopen('https://127.0.0.1:15000/roots/0', context=ssl._create_unverified_context())"
# Needs the openssl of Debian 13, which the host of these tests runs.
EXPIRED = (
    "openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=old -not_before 20200101000000Z -not_after 20200201000000Z"
)
SHORT, LONG = 30, 90 * 86400  # seconds that certificates of pebble are valid; one is due when a third is left


class Pebble:
    """The ACME authority, with a new root certificate at each start."""

    HOME = "/root/pebble"

    def __init__(self, host: Host) -> None:
        self.host = host

    def install(self) -> str:
        """Install it; the certificate that its clients must trust."""
        self._shell(
            "DEBIAN_FRONTEND=noninteractive apt-get install --quiet --yes --no-install-recommends pebble "
            f"&& mkdir -p {self.HOME} && cp /etc/hosts {self.HOME}/ && echo 127.0.0.1 {DOMAIN} >> /etc/hosts "
            "&& openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=pebble "
            f"-addext subjectAltName=IP:127.0.0.1 -keyout {self.HOME}/key.pem -out {self.HOME}/cert.pem"
        )
        return self.host.exec("cat", f"{self.HOME}/cert.pem")

    def start(self, seconds: int) -> str:
        """Start it, with this validity of its certificates; its root certificate."""
        settings = {
            "listenAddress": "127.0.0.1:14000",
            "managementListenAddress": "127.0.0.1:15000",
            "certificate": f"{self.HOME}/cert.pem",
            "privateKey": f"{self.HOME}/key.pem",
            "httpPort": 80,
            "tlsPort": 443,
            "retryAfter": {"authz": 1, "order": 1},
            "certificateValidityPeriod": seconds,
        }
        self._shell(f"cat > {self.HOME}/config.json", stdin=json.dumps({"pebble": settings}))
        quick = ["--setenv=PEBBLE_VA_NOSLEEP=1", "--setenv=PEBBLE_WFE_NONCEREJECT=0"]
        command = ["pebble", "-config", f"{self.HOME}/config.json"]
        self.host.exec("systemd-run", "--quiet", "--unit=pebble", "--collect", *quick, *command)
        ask = f"import ssl, urllib.request as u; print({ROOT}.read().decode())"
        deadline = time.monotonic() + 10
        while not (root := self.host.exec("python3", "-c", ask, check=False)):
            assert time.monotonic() < deadline, "pebble did not start"
            time.sleep(0.1)
        return root

    def stop(self) -> None:
        self.host.exec("systemctl", "stop", "pebble.service", check=False)

    def remove(self) -> None:
        """Remove it and its files from the host."""
        self.stop()
        self._shell(
            f"cat {self.HOME}/hosts > /etc/hosts; rm -r {self.HOME}; apt-get purge --yes pebble; "
            f"systemctl reset-failed {RENEWAL}.service"
        )

    def _shell(self, script: str, stdin: str | None = None) -> None:
        self.host.exec("sh", "-c", script, check=False, stdin=stdin)


@pytest.fixture(scope="module")
def serving(controller: Controller) -> Iterator[Controller]:
    """The host with a live release. After these tests it has the certificate of its own authority again."""
    if controller.host.exec("sh", "-c", "test -e /srv/logbook/live && echo live", check=False) != "live":
        controller.play("site.yml")
        controller.play("deploy.yml", "-e", "version=v1.0.0")
    yield controller
    controller.declare()
    controller.play("site.yml")
    assert controller.ready()["status"] == "ready"
    assert controller.host.exec("systemctl", "--failed", "--no-legend") == ""
    assert controller.host.exec("systemctl", "list-timers", "--no-legend", "slipway-certificate*") == ""
    controller.play("deploy.yml", "-e", "version=v1.0.0")


@pytest.fixture(scope="module")
def pebble(serving: Controller) -> Iterator[Pebble]:
    made = Pebble(serving.host)
    (serving.state / "pebble.crt").write_text(made.install())
    yield made
    made.remove()


def declare_acme(controller: Controller, **changes: Any) -> None:
    trusted = [name for name in ["/etc/ssl/certs/ca-certificates.crt"] if Path(name).exists()]
    controller.declare(
        **{"domains": [DOMAIN], "tls": {"provider": "acme", "directory": DIRECTORY}, **changes},
        settings={"host_ca_certificates": [*trusted, str(controller.state / "pebble.crt")]},
    )


def served(name: str = DOMAIN, root: str | None = None) -> dict[str, Any]:
    """The certificate that Nginx sends to a client for `name`, verified if a root is given."""
    trust = ssl.create_default_context(cadata=root) if root else ssl.create_default_context()
    if not root:
        trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", HTTPS_PORT), timeout=10) as plain,
        trust.wrap_socket(plain, server_hostname=name) as connection,
    ):
        return {**(connection.getpeercert() or {}), "der": connection.getpeercert(binary_form=True)}


def renew(controller: Controller) -> str:
    """Start the service of the timer; `success`, or how it failed."""
    controller.host.exec("systemctl", "start", f"{RENEWAL}.service", check=False)
    return controller.host.exec("systemctl", "show", f"{RENEWAL}.service", "--property=Result", "--value")


class Handshakes:
    """A client with a new connection for each request, as a reload closes idle connections; use it in a `with`."""

    def __init__(self) -> None:
        self.failures: list[str] = []
        self.seen: list[bytes] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work)

    def __enter__(self) -> Handshakes:
        self._thread.start()
        time.sleep(0.5)
        return self

    def __exit__(self, *_: object) -> None:
        time.sleep(0.5)
        self._stop.set()
        self._thread.join()

    def _work(self) -> None:
        trust = ssl.create_default_context()
        trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE
        while not self._stop.wait(0.01):
            try:
                with (
                    socket.create_connection(("127.0.0.1", HTTPS_PORT), timeout=10) as plain,
                    trust.wrap_socket(plain, server_hostname=DOMAIN) as connection,
                ):
                    shown = connection.getpeercert(binary_form=True) or b""
                    connection.sendall(f"GET /health/ready HTTP/1.0\r\nHost: {DOMAIN}\r\n\r\n".encode())
                    answer = connection.recv(100)
            except OSError as error:
                self.failures.append(repr(error))
                continue
            if b" 200 " not in answer:
                self.failures.append(answer.decode(errors="replace"))
            if shown not in self.seen:
                self.seen.append(shown)


def changed(output: str) -> int:
    """The number of changes in the recap."""
    return sum(int(count) for count in re.findall(r"changed=(\d+)", output))


def make_pair(directory: Path, name: str, domains: str) -> tuple[Path, Path]:
    """A certificate and its key, in files on the controller."""
    certificate, key = directory / f"{name}.pem", directory / f"{name}.key"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "90", "-subj", f"/CN={name}"]
    names = ["-addext", f"subjectAltName={domains}", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*command, *names], check=True, capture_output=True)
    return certificate, key


def flat(output: str) -> str:
    return " ".join(output.split())


def test_35_an_expired_certificate_does_not_stop_a_deploy_and_is_reported(serving: Controller) -> None:
    serving.host.exec(
        "sh", "-c",
        f"cd {PLACE} && {EXPIRED} -CA ../ca/ca.crt -CAkey ../ca/ca.key -keyout new.key -out new.pem "
        "&& cat new.key > privkey.pem && cat new.pem > fullchain.pem && rm new.* && systemctl reload nginx",
    )  # fmt: skip
    scratch.git(serving.repository, "tag", "--force", "-a", "v8.0.0", "-m", "again", "v2.0.0^{commit}")
    serving.play("deploy.yml", "-e", "version=v8.0.0")
    assert serving.status()["live"]["tag"] == "v8.0.0"
    assert "expired on 2020-02-01, self-signed" in serving.play("status.yml")
    assert serving.status()["certificate"]["days_left"] < -2000


@pytest.mark.parametrize(
    ("pair", "sentence"),
    [
        (("good.pem", "other.key"), "refused: its key belongs to another certificate. The one in place stays."),
        (("other.pem", "other.key"), "refused: it does not cover 127.0.0.1, localhost. The one in place stays."),
        (("old.pem", "old.pem"), "refused: it expired on 2020-02-01. The one in place stays."),
        (
            ("none.pem", "other.key"),
            "apps.logbook.tls.certificate is '{state}/none.pem', which is not a readable file on the controller.",
        ),
    ],
)
def test_37_a_certificate_and_key_that_do_not_match_are_not_installed(
    serving: Controller, pair: tuple[str, str], sentence: str
) -> None:
    make_pair(serving.state, "good", "IP:127.0.0.1,DNS:localhost")
    make_pair(serving.state, "other", "DNS:other.example")
    old = serving.host.exec("sh", "-c", f"{EXPIRED} -addext subjectAltName=IP:127.0.0.1,DNS:localhost -keyout -")
    (serving.state / "old.pem").write_text(old)
    before = served()["der"]
    certificate, key = (str(serving.state / name) for name in pair)
    serving.declare(tls={"provider": "files", "certificate": certificate, "key": key})
    output = serving.play("site.yml", check=False)
    assert sentence.format(state=serving.state) in flat(output), output
    assert "changed=0" in output
    assert served()["der"] == before


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_36_a_domain_that_acme_cannot_certify_is_refused_first(serving: Controller, name: str) -> None:
    serving.declare(domains=[DOMAIN, name], tls={"provider": "acme"})
    output = serving.play("site.yml", check=False)
    assert f"apps.logbook.domains has '{name}', for which no authority such as Let's Encrypt" in flat(output), output
    assert "changed=0" in output


def test_36_without_the_authority_the_first_certificate_is_self_signed_with_a_warning(
    serving: Controller, pebble: Pebble
) -> None:
    assert pebble.host.exec("systemctl", "is-active", "pebble.service", check=False) == "inactive"
    declare_acme(serving)
    output = serving.play("site.yml")
    assert f"The certificate of logbook is not there yet: {DIRECTORY} did not issue: " in flat(output), output
    assert "A self-signed one serves until then. The host tries again every hour by itself" in flat(output)
    own = (serving.state / "ca.crt").read_text()
    assert served(root=own)["subjectAltName"] == (("DNS", DOMAIN),)
    assert re.search(r"days left\), self-signed; not renewed: https\S+ did not issue", serving.play("status.yml"))
    assert "active" in serving.host.exec("systemctl", "is-active", f"{RENEWAL}.timer")


def test_36_with_the_authority_its_certificate_is_used(serving: Controller, pebble: Pebble) -> None:
    root = pebble.start(SHORT)
    output = serving.play("site.yml")
    assert changed(output) == 1, "the certificate alone"
    assert served(root=root)["subjectAltName"] == (("DNS", DOMAIN),)
    found = serving.status()["certificate"]
    assert found["issuer"].startswith("Pebble Intermediate CA")
    assert (found["self_signed"], found["failure"]) == (False, None)


def test_36_a_failed_renewal_keeps_the_old_certificate_until_the_authority_is_back(
    serving: Controller, pebble: Pebble
) -> None:
    old = served()["der"]
    assert renew(serving) == "success"
    assert served()["der"] == old, "it was not due"
    pebble.stop()
    deadline = time.monotonic() + SHORT
    while renew(serving) == "success":
        assert time.monotonic() < deadline, "it was never due"
        time.sleep(1)
    assert served()["der"] == old
    assert RENEWAL in serving.host.exec("systemctl", "--failed", "--no-legend")
    assert "did not issue: " in serving.host.exec("journalctl", f"--unit={RENEWAL}", "--output=cat", "--lines=5")
    root = pebble.start(LONG)
    with Handshakes() as outcome:
        assert renew(serving) == "success"
    assert outcome.failures == []
    assert outcome.seen == [old, served(root=root)["der"]]
    assert serving.host.exec("systemctl", "--failed", "--no-legend") == ""


def test_36_the_next_run_changes_nothing(serving: Controller, pebble: Pebble) -> None:
    pebble.stop()
    output = serving.play("site.yml")
    assert changed(output) == 0, output
    assert "[WARNING]" not in output


def test_37_a_matching_certificate_and_key_are_installed_and_no_key_is_printed(serving: Controller) -> None:
    certificate, key = make_pair(serving.state, "good", "IP:127.0.0.1,DNS:localhost")
    lines = key.read_text().splitlines()[1:-1]
    password = serving.state / "password"
    password.write_text("of-the-tests")
    program = str(Path(sys.executable).with_name("ansible-vault"))  # also where its directory is not on the path
    vault = [program, "encrypt", "--vault-password-file", str(password), str(key)]
    subprocess.run(vault, check=True, capture_output=True, cwd=scratch.PROJECT)
    serving.declare(tls={"provider": "files", "certificate": str(certificate), "key": str(key)})
    output = serving.play("site.yml", "--vault-password-file", str(password), "-vvv", "--diff")
    assert served("127.0.0.1", certificate.read_text())["subject"] == ((("commonName", "good"),),)
    assert "+issued by: CN=good" in output, "the diff has what can be shown"
    output += serving.host.exec("journalctl", "--no-pager", "--output=cat")
    assert [line for line in lines if line in output] == []
    assert serving.host.exec("stat", "--dereference", "--format=%a %U", f"{PLACE}/privkey.pem") == "600 root"
