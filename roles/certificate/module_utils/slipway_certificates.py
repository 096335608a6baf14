#!/usr/bin/python3
"""Certificates, each in a directory of its own: how they are judged, issued, and put in place with their key.

The module `slipway_certificate` uses it while Ansible runs. As the program slipway-certificate it renews, by a timer,
what an ACME authority has issued. It needs Python's own library, openssl, and certbot for ACME.
"""

from __future__ import annotations

import hashlib
import http.client
import ipaddress
import json
import os
import re
import secrets
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

STATE = Path("/var/lib/slipway/certificates")
AUTHORITY_DAYS = 3650
LONGEST_RUN = 3600  # seconds
SELF_SIGNED = "self_signed"
_BLOCK = re.compile(r"-----BEGIN CERTIFICATE-----\n.+?\n-----END CERTIFICATE-----\n?", re.DOTALL)


class CertificateError(Exception):
    """What is wrong with a certificate, or with getting one, in one sentence."""


@dataclass(frozen=True)
class Certificate:
    """What openssl says of a certificate; `names` are lower case, addresses in their shortest form."""

    names: frozenset[str]
    subject: str
    issuer: str
    begins: datetime
    ends: datetime
    public_key: str

    def uncovered(self, domains: Iterable[str]) -> list[str]:
        """The domains that it is not for."""
        return [name for name in map(canonical, domains) if not {name, _wildcard(name)} & self.names]

    def is_due(self, renew_days: int, now: datetime | None = None) -> bool:
        """Whether to renew it: `renew_days` before its end, but not before two thirds of its life are over."""
        ahead = min(timedelta(days=renew_days), (self.ends - self.begins) / 3)
        return self.ends - (now or datetime.now(UTC)) < ahead


@dataclass(frozen=True)
class Pair:
    """A chain with the key of its first certificate, both as PEM, and where they come from."""

    chain: str
    key: str
    source: str


@dataclass(frozen=True)
class Acme:
    """What the program needs to know to renew: <directory of the certificate>/acme.json."""

    domains: list[str]
    directory: str
    email: str
    webroot: str
    renew_days: int
    dns_hook: str = ""  # a program; with one the authority looks into the DNS, and asks no server


# Judging


def canonical(name: str) -> str:
    """A host name or an address as it is compared."""
    try:
        return str(ipaddress.ip_address(name.strip()))
    except ValueError:
        return name.strip().lower()


def _wildcard(name: str) -> str:
    return f"*.{name.partition('.')[2]}"


def read_certificate(pem: str) -> Certificate:
    """The first certificate of `pem`; CertificateError when it is none."""
    asked = ["-subject", "-issuer", "-dates", "-pubkey", "-ext", "subjectAltName", "-nameopt", "RFC2253,-esc_msb,utf8"]
    output = _openssl("x509", "-noout", *asked, stdin=pem, wrong="it is no certificate in PEM format")
    fields = dict(line.split("=", 1) for line in output.splitlines() if re.match(r"(subject|issuer|not\w+)=", line))
    key = re.search(r"-----BEGIN PUBLIC KEY-----.+?-----END PUBLIC KEY-----", output, re.DOTALL)
    return Certificate(
        names=frozenset(map(canonical, re.findall(r"(?:DNS|IP Address):([^,\s]+)", output))),
        subject=fields["subject"],
        issuer=fields["issuer"],
        begins=_time(fields["notBefore"]),
        ends=_time(fields["notAfter"]),
        public_key=key[0] if key else "",
    )


def judge(pair: Pair, domains: Iterable[str]) -> Certificate:
    """The certificate of a pair that Nginx can serve for `domains`; CertificateError says why it cannot."""
    chain = [read_certificate(block) for block in _BLOCK.findall(pair.chain)]
    if not chain:
        raise CertificateError("it is no certificate in PEM format")
    public_key = _openssl(
        "pkey", "-pubout", "-passin", "pass:", stdin=pair.key,
        wrong="its key is no private key in PEM format, or wants a passphrase",
    ).strip()  # fmt: skip
    if public_key != chain[0].public_key:
        raise CertificateError("its key belongs to another certificate")
    for number, (one, following) in enumerate(pairwise(chain), start=1):
        if one.issuer != following.subject:
            raise CertificateError(f"certificate {number} of its chain is not issued by the one that follows")
    if uncovered := chain[0].uncovered(domains):
        raise CertificateError(f"it does not cover {', '.join(uncovered)}")
    return chain[0]


def describe(pair: Pair | None) -> str:
    """A pair for people and diffs, without its key."""
    if pair is None:
        return "none\n"
    try:
        found = read_certificate(pair.chain)
    except CertificateError as error:
        return f"unusable: {error}\n"
    names = ", ".join(sorted(found.names))
    return f"for: {names}\nissued by: {found.issuer}\nexpires: {found.ends:%Y-%m-%d %H:%M} UTC\n"


# In place


def load(directory: Path) -> Pair | None:
    """The pair in place; None when a part of it is missing."""
    try:
        chain, key = ((directory / name).read_text() for name in ("fullchain.pem", "privkey.pem"))
    except OSError:
        return None
    source = directory / "current/source"
    return Pair(chain, key, source.read_text().strip() if source.exists() else "")


def install(directory: Path, pair: Pair) -> None:
    """Put a pair in place by one rename of a link: at no moment is the certificate one's and the key another's."""
    directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    before = load(directory)
    if before and not (directory / "current").is_symlink():
        _point(directory, before)  # two plain files become links first, with the same content
    _point(directory, pair)
    kept = (directory / "current").readlink().name
    for old in directory.glob("pair-*"):
        if old.name != kept:
            shutil.rmtree(old)


def _point(directory: Path, pair: Pair) -> None:
    digest = hashlib.sha256("\0".join(asdict(pair).values()).encode()).hexdigest()[:16]
    made = directory / f"pair-{digest}"
    if not made.is_dir():
        with _workspace(directory) as scratch:
            new = Path(scratch, "new")
            new.mkdir(mode=0o755)
            for name, content, mode in (
                ("fullchain.pem", pair.chain, 0o644),
                ("privkey.pem", pair.key, 0o600),
                ("source", f"{pair.source}\n", 0o644),
            ):
                _write(new / name, content, mode)
            new.rename(made)
    _link(directory / "current", made.name)
    for name in ("fullchain.pem", "privkey.pem"):
        if not (directory / name).is_symlink():
            _link(directory / name, f"current/{name}")


def _link(path: Path, target: str) -> None:
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    new.symlink_to(target)
    new.replace(path)


def _write(path: Path, content: str, mode: int) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
        os.fchmod(file.fileno(), mode)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _replace(path: Path, content: str, mode: int) -> None:
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    _write(new, content, mode)
    new.replace(path)


def _workspace(beside: Path) -> tempfile.TemporaryDirectory[str]:
    """A directory for root alone, on the file system of its result; those that killed runs have left are removed."""
    for left in beside.glob(".work-*"):
        if time.time() - left.stat().st_mtime > LONGEST_RUN:
            shutil.rmtree(left, ignore_errors=True)
    return tempfile.TemporaryDirectory(prefix=".work-", dir=beside)


# Self-signed: an authority of the host's own


def is_settled(directory: Path, authority: Path, domains: Sequence[str], renew_days: int, days: int = 365) -> bool:
    """Whether the host's authority has issued what is in place, for exactly these domains, and for `days` at most."""
    pair, issuer = load(directory), _authority(authority, renew_days)
    if pair is None or issuer is None or not _issued_by(authority, pair):
        return False
    try:
        found = judge(pair, domains)
    except CertificateError:
        return False
    short = found.ends - found.begins <= timedelta(days=days)
    return short and found.names == frozenset(map(canonical, domains)) and not found.is_due(renew_days)


def can_stay(directory: Path, authority: Path) -> bool:
    """Whether another authority has issued the pair in place, so that it can be served until ACME has issued one."""
    pair = load(directory)
    if pair is None or _issued_by(authority, pair):
        return False
    try:
        judge(pair, [])
    except CertificateError:
        return False
    return True


def self_sign(authority: Path, host: str, domains: Sequence[str], days: int, renew_days: int) -> Pair:
    """A new pair, issued by the host's authority, which is made where there is none."""
    issuer = _authority(authority, renew_days) or _make_authority(authority, host)
    days = max(1, min(days, (issuer.ends - datetime.now(UTC)).days))
    with _workspace(authority) as scratch:
        work = Path(scratch)
        request = _request(work, domains)
        extensions = f"""\
            subjectAltName = critical,{_alternatives(domains)}
            basicConstraints = critical,CA:FALSE
            keyUsage = critical,digitalSignature
            extendedKeyUsage = serverAuth
            subjectKeyIdentifier = hash
            authorityKeyIdentifier = keyid
            """
        (work / "extensions").write_text(textwrap.dedent(extensions))
        signed = _openssl(
            "x509", "-req", "-in", request, "-CA", authority / "ca.crt", "-CAkey", authority / "ca.key",
            "-set_serial", f"0x{_serial()}", "-days", days, "-extfile", work / "extensions",
        )  # fmt: skip
        return Pair(_BLOCK.findall(signed)[0], (work / "key.pem").read_text(), SELF_SIGNED)


def _authority(authority: Path, renew_days: int) -> Certificate | None:
    """The host's authority; None if there is none, or it cannot issue any more."""
    try:
        chain, key = ((authority / name).read_text() for name in ("ca.crt", "ca.key"))
        found = judge(Pair(chain, key, ""), [])
    except (OSError, CertificateError):
        return None
    return None if found.is_due(renew_days) else found


def _make_authority(authority: Path, host: str) -> Certificate:
    authority.mkdir(mode=0o755, parents=True, exist_ok=True)
    name = re.sub(r"[^A-Za-z0-9._-]", "_", host)[:40]
    with _workspace(authority) as scratch:
        work = Path(scratch)
        configuration = f"""\
            [req]
            prompt = no
            distinguished_name = name
            x509_extensions = extensions
            [name]
            CN = Slipway on {name}
            [extensions]
            basicConstraints = critical,CA:TRUE,pathlen:0
            keyUsage = critical,keyCertSign,cRLSign
            subjectKeyIdentifier = hash
            """
        (work / "configuration").write_text(textwrap.dedent(configuration))
        key = _key(work)
        pem = _openssl(
            "req", "-x509", "-new", "-key", key, "-config", work / "configuration",
            "-set_serial", f"0x{_serial()}", "-days", AUTHORITY_DAYS,
        )  # fmt: skip
        # A run that is killed between the two leaves a pair that does not match; the next run makes a new one.
        _replace(authority / "ca.key", key.read_text(), 0o600)
        _replace(authority / "ca.crt", pem, 0o644)
    return read_certificate(pem)


def _issued_by(authority: Path, pair: Pair) -> bool:
    if not (authority / "ca.crt").exists():
        return False
    only_it = ["-no-CApath", "-no-CAstore", "-CAfile", str(authority / "ca.crt")]
    return _run("openssl", "verify", "-no_check_time", *only_it, stdin=pair.chain).returncode == 0


def _key(work: Path) -> Path:
    path = work / "key.pem"
    _write(path, _openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"), 0o600)
    return path


def _request(work: Path, domains: Sequence[str]) -> Path:
    """A request for `domains`, in a file beside its new key `key.pem`."""
    path = work / "request.pem"
    alternatives = f"subjectAltName={_alternatives(domains)}"
    path.write_text(_openssl("req", "-new", "-key", _key(work), "-subj", "/", "-addext", alternatives))
    return path


def _alternatives(domains: Sequence[str]) -> str:
    return ",".join(f"{'IP' if _is_address(name) else 'DNS'}:{name}" for name in map(canonical, domains))


def _is_address(name: str) -> bool:
    return ":" in name or re.fullmatch(r"[0-9.]+", name) is not None


def _serial() -> str:
    return f"{secrets.randbits(126) | 1:x}"


# ACME


def acme_settings(directory: Path) -> Acme:
    return Acme(**json.loads((directory / "acme.json").read_text()))


def is_wanted(directory: Path, settings: Acme) -> bool:
    """Whether the ACME authority has to issue: it never has, for other domains, or what it issued is near its end."""
    pair = load(directory)
    if pair is None or pair.source != settings.directory:
        return True
    try:
        found = judge(pair, settings.domains)
    except CertificateError:
        return True
    return found.names != frozenset(map(canonical, settings.domains)) or found.is_due(settings.renew_days)


def renew(directory: Path) -> str:
    """Have the certificate issued where that is due, and Nginx load it; one sentence, what was done."""
    settings = acme_settings(directory)
    unloaded = directory / "unloaded"  # outlives a run that is killed before Nginx has loaded the pair
    done = "is not due for renewal"
    if is_wanted(directory, settings):
        pair = request(directory.name, settings)
        unloaded.touch()
        install(directory, pair)
        done = f"was issued by {settings.directory}"
    if unloaded.exists():
        _reload_nginx()
        _wait_until_served(directory, settings.domains)
        unloaded.unlink()
    return f"The certificate of {directory.name} {done}."


def request(name: str, settings: Acme) -> Pair:
    """The certificate that the ACME authority issues for a new key; CertificateError with the authority's reason."""
    doubts = [] if settings.dns_hook else misdirected(settings.domains, Path(settings.webroot))
    state = STATE / name
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _workspace(state) as scratch:
        work = Path(scratch)
        asked = _request(work, settings.domains)
        done = _certbot(settings, state, work, asked)
        if done.returncode != 0 and "error:accountDoesNotExist" in _log(state):
            shutil.rmtree(state / "certbot")  # the authority does not know the account any more: make a new one
            done = _certbot(settings, state, work, asked)
        if done.returncode != 0:
            why = [f"{settings.directory} did not issue: {reason(done.stderr)}", *doubts]
            raise CertificateError(f"{'; '.join(why)}.")
        pair = Pair((work / "fullchain.pem").read_text(), (work / "key.pem").read_text(), settings.directory)
    try:
        judge(pair, settings.domains)
    except CertificateError as error:
        raise CertificateError(f"What {settings.directory} issued cannot be used: {error}.") from error
    return pair


def _certbot(settings: Acme, state: Path, work: Path, request: Path) -> subprocess.CompletedProcess[str]:
    """Ask for a certificate by a request of our own, so that certbot keeps no state but the account."""
    contact = ["--email", settings.email] if settings.email else ["--register-unsafely-without-email"]
    return _run(
        "certbot", "certonly", "--non-interactive", "--agree-tos", *contact, "--server", settings.directory,
        *_proof(settings), "--csr", request, "--cert-path", work / "cert.pem",
        "--chain-path", work / "chain.pem", "--fullchain-path", work / "fullchain.pem",
        "--config-dir", state / "certbot", "--work-dir", work, "--logs-dir", state / "log", "--max-log-backups", 20,
    )  # fmt: skip


def _proof(settings: Acme) -> list[str]:
    """How the authority is shown that the domains are ours."""
    if not settings.dns_hook:
        return ["--webroot", "--webroot-path", settings.webroot]
    hooks = [
        "--manual-auth-hook",
        f"{settings.dns_hook} present",
        "--manual-cleanup-hook",
        f"{settings.dns_hook} remove",
    ]
    return ["--manual", "--preferred-challenges", "dns", *hooks]


def misdirected(domains: Sequence[str], webroot: Path, port: int = 80) -> list[str]:
    """CertificateError when DNS leads a domain to another server: the authority would find that out, and counts it.

    Each address of a domain is asked for a file that only this host has. An address that does not answer is a doubt, a
    sentence each: a host may not reach itself by the address that others reach it by.
    """
    secret = secrets.token_hex(16)
    file = webroot / ".well-known/acme-challenge" / f"slipway-{secret}"
    file.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    own = _own_addresses()
    wrong: list[str] = []
    doubts: list[str] = []
    try:
        _write(file, secret, 0o644)
        for domain in domains:
            addresses = _resolve(domain)
            if addresses is None:
                doubts.append(f"DNS did not answer for {domain}")
            elif not addresses:
                wrong.append(f"{domain} has no address in DNS: create an A record with {_should_be(own, 4)}")
            for address in addresses or ():
                kind = 6 if ":" in address else 4
                record = f"the {'AAAA' if kind == 6 else 'A'} record of {domain} is {address}"
                said = _fetch(address, port, domain, file.name)
                if said is None:
                    doubts.append(f"{record}, which does not answer on port {port} from here")
                elif said != secret:
                    wrong.append(f"{record}, where another server answers: change it to {_should_be(own, kind)}")
    finally:
        file.unlink(missing_ok=True)
    if wrong:
        raise CertificateError(f"The authority was not asked, as it could not reach this host: {'; '.join(wrong)}.")
    return doubts


def _resolve(domain: str) -> list[str] | None:
    """The addresses of a domain; None when DNS does not answer."""
    try:
        found = socket.getaddrinfo(domain, None, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        return [] if error.errno in (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", -5)) else None
    return sorted({str(item[4][0]) for item in found})


def _fetch(address: str, port: int, domain: str, name: str) -> str | None:
    """What a server answers for the file of that name; None when it does not."""
    connection = http.client.HTTPConnection(address, port, timeout=5)
    try:
        connection.request("GET", f"/.well-known/acme-challenge/{name}", headers={"Host": domain})
        return connection.getresponse().read(100).decode(errors="replace")
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def _own_addresses() -> list[str]:
    return _run("hostname", "--all-ip-addresses").stdout.split()


def _should_be(own: Sequence[str], kind: int) -> str:
    """The addresses of this host that clients of the internet could use, in words."""
    public = [name for name in own if (found := ipaddress.ip_address(name)).version == kind and found.is_global]
    if public:
        return " or ".join(public)
    return "the public address of this host" + ("" if kind == 4 else ", or remove it if it has none")


# What is served


def _wait_until_served(directory: Path, domains: Sequence[str], seconds: float = 10) -> None:
    """Nginx takes a moment to load a certificate; CertificateError when it goes on to serve another one."""
    pair = load(directory)
    if pair is None or _run("systemctl", "--quiet", "is-active", "nginx.service").returncode != 0:
        return
    deadline = time.monotonic() + seconds
    while others := [name for name in domains if served(name) != _BLOCK.findall(pair.chain)[0].strip()]:
        if time.monotonic() > deadline:
            raise CertificateError(
                f"The new certificate of {directory.name} is in place, but Nginx serves another one for "
                f"{', '.join(others)}: see `journalctl -u nginx`."
            )
        time.sleep(0.1)


def served(name: str, port: int = 443) -> str:
    """The certificate, as PEM, that Nginx on this host shows to clients of `name`; "" when it shows none."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    asked = None if _is_address(name) else name.replace("*", "any")
    try:
        with (
            socket.create_connection(("127.0.0.1", port), timeout=5) as plain,
            context.wrap_socket(plain, server_hostname=asked) as connection,
        ):
            return ssl.DER_cert_to_PEM_cert(connection.getpeercert(binary_form=True) or b"").strip()
    except OSError:
        return ""


def _log(state: Path) -> str:
    """What certbot has logged of its last run."""
    path = state / "log/letsencrypt.log"
    return path.read_text(errors="replace") if path.exists() else ""


def reason(errors: str) -> str:
    """Why certbot failed, from its standard error: what the authority says of a domain, else its last own line."""
    details = re.findall(r"^\s*Domain:\s*(\S+)\n(?:\s*Type:.*\n)?\s*Detail:\s*(.+)$", errors, re.MULTILINE)
    if details:
        return "; ".join(f"{domain}: {detail.strip().rstrip('.')}" for domain, detail in dict(details).items())
    noise = r"Ask for help|See the logfile|Saving debug log|Some challenges have failed|An unexpected error"
    lines = [line.strip() for line in errors.splitlines() if line.strip() and not re.match(noise, line.strip())]
    return re.sub(r"^[\w.]+(Error|Exception): ", "", lines[-1]).rstrip(".")[:400] if lines else "certbot gave no reason"


def _reload_nginx() -> None:
    if _run("systemctl", "--quiet", "is-active", "nginx.service").returncode != 0:
        return  # it reads the pair when it starts
    for command in (["nginx", "-t", "-q"], ["systemctl", "reload", "nginx.service"]):
        done = _run(*command)
        if done.returncode != 0:
            why = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise CertificateError(f"The new certificate is in place, but Nginx could not load it: {why}")


# Programs


def _run(*command: str | Path | int, stdin: str = "") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    try:
        return subprocess.run(
            [str(part) for part in command], input=stdin, capture_output=True, text=True, check=False, env=environment
        )
    except FileNotFoundError as error:
        raise CertificateError(f"{command[0]} is not installed: run site.yml") from error


def _openssl(*arguments: str | Path | int, stdin: str = "", wrong: str = "") -> str:
    done = _run("openssl", *arguments, stdin=stdin)
    if done.returncode != 0:
        raise CertificateError(wrong or f"openssl {arguments[0]} failed: {done.stderr.strip().splitlines()[-1:]}")
    return done.stdout


def _time(text: str) -> datetime:
    """A time as openssl prints it: Nov 24 11:25:01 2027 GMT."""
    return datetime.strptime(text.removesuffix(" GMT"), "%b %d %H:%M:%S %Y").replace(tzinfo=UTC)


def main(arguments: Sequence[str]) -> int:
    """Renew the certificate of a directory. Why it failed is printed, and kept in the file `failure` there."""
    if len(arguments) != 1:
        print("usage: slipway-certificate DIRECTORY", file=sys.stderr)  # noqa: T201  # a program
        return 2
    directory = Path(arguments[0])
    try:
        done = renew(directory)
    except (CertificateError, OSError, ValueError, TypeError) as error:
        if directory.is_dir():
            _replace(directory / "failure", f"{error}\n", 0o644)
        print(error, file=sys.stderr)  # noqa: T201  # for the journal
        return 1
    (directory / "failure").unlink(missing_ok=True)
    print(done)  # noqa: T201  # for the journal
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
