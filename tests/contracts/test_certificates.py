"""How the role `certificate` checks, issues and installs certificates, with the real openssl; hosts are tested in
tests/acceptance/test_certificates.py."""

from __future__ import annotations

import os
import re
import stat
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleFilterError

from filter_plugins import apps
from hosts.scratch import PROJECT
from roles.certificate.module_utils import slipway_certificates as certificates
from roles.certificate.module_utils.slipway_certificates import Acme, CertificateError, Pair

DOMAINS = ["logbook.example.com", "127.0.0.1", "2001:db8::1"]


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    return tmp_path / "ca"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "logbook"


def signed(authority: Path, domains: Sequence[str] = DOMAINS, days: int = 365) -> Pair:
    return certificates.self_sign(authority, "web-1", domains, days, 30)


def refusal(pair: Pair, domains: Sequence[str] = DOMAINS) -> str:
    with pytest.raises(CertificateError) as caught:
        certificates.judge(pair, domains)
    return str(caught.value)


# Self-signed


def test_a_self_signed_certificate_is_accepted_by_a_strict_client(authority: Path) -> None:
    pair = signed(authority)
    verify = ["openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", str(authority / "ca.crt")]
    assert subprocess.run(verify, input=pair.chain, text=True, capture_output=True, check=True).stdout
    found = certificates.judge(pair, DOMAINS)
    assert found.names == frozenset(DOMAINS)
    assert (found.ends - found.begins).days == 365
    assert found.issuer == "CN=Slipway on web-1"


def test_a_certificate_is_kept_until_its_domains_change_or_it_expires_soon(authority: Path, directory: Path) -> None:
    assert not certificates.is_settled(directory, authority, DOMAINS, 30)
    certificates.install(directory, signed(authority))
    assert certificates.is_settled(directory, authority, DOMAINS, 30)
    assert not certificates.is_settled(directory, authority, [*DOMAINS, "new.example.com"], 30)
    assert not certificates.is_settled(directory, authority, DOMAINS[:1], 30)
    assert not certificates.is_settled(directory, authority, DOMAINS, 30, days=364)  # it is for longer than is wanted
    (authority / "ca.key").unlink()
    assert not certificates.is_settled(directory, authority, DOMAINS, 30)


def test_a_certificate_of_another_authority_needs_replacing_but_can_stay(
    authority: Path, directory: Path, tmp_path: Path
) -> None:
    assert not certificates.can_stay(directory, authority)
    signed(authority)
    certificates.install(directory, signed(tmp_path / "elsewhere"))
    assert not certificates.is_settled(directory, authority, DOMAINS, 30)
    assert certificates.can_stay(directory, authority)
    certificates.install(directory, signed(authority))
    assert not certificates.can_stay(directory, authority)


def test_an_authority_whose_key_does_not_match_is_created_again(authority: Path) -> None:
    signed(authority)
    (authority / "ca.key").write_text(signed(authority).key)
    assert certificates.judge(signed(authority), DOMAINS)


def test_expires_soon_means_30_days_or_the_last_third() -> None:
    begins = datetime(2027, 1, 1, tzinfo=UTC)

    def is_due(life: float, after: float) -> bool:
        found = certificates.Certificate(frozenset(), "", "", begins, begins + timedelta(days=life), "")
        return found.is_due(30, begins + timedelta(days=after))

    assert [is_due(397, 366), is_due(397, 368)] == [False, True]
    assert [is_due(90, 59), is_due(90, 61)] == [False, True]
    assert [is_due(6, 3.9), is_due(6, 4.1)] == [False, True]


# Judging


def test_an_unusable_pair_is_refused_with_the_reason(authority: Path, tmp_path: Path) -> None:
    pair = signed(authority)
    assert certificates.judge(pair, ["LOGBOOK.example.com", "2001:0db8::0001"])
    assert refusal(Pair(pair.chain, signed(authority).key, "")) == "its key belongs to another certificate"
    assert refusal(Pair("", pair.key, "")) == "it is no certificate in PEM format"
    assert refusal(Pair("hello", pair.key, "")) == "it is no certificate in PEM format"
    mangled = pair.chain.replace("MII", "AAA", 1)
    assert refusal(Pair(mangled, pair.key, "")) == "it is no certificate in PEM format"
    assert "no private key in PEM format" in refusal(Pair(pair.chain, pair.chain, ""))
    assert refusal(pair, ["a.example.com", *DOMAINS, "b.c"]) == "it does not cover a.example.com, b.c"
    assert certificates.judge(Pair(pair.chain + (authority / "ca.crt").read_text(), pair.key, ""), DOMAINS)
    unrelated = certificates.self_sign(tmp_path / "unrelated", "other", DOMAINS, 9, 3)
    chain = pair.chain + unrelated.chain
    assert "certificate 1 of its chain is not issued by" in refusal(Pair(chain, pair.key, ""))


def test_a_key_with_a_passphrase_is_refused_without_asking_for_it(authority: Path) -> None:
    pair = signed(authority)
    encrypt = ["openssl", "pkey", "-aes256", "-passout", "pass:secret"]
    key = subprocess.run(encrypt, input=pair.key, text=True, capture_output=True, check=True).stdout
    assert "wants a passphrase" in refusal(Pair(pair.chain, key, ""))


def test_a_wildcard_covers_one_label(authority: Path) -> None:
    pair = signed(authority, ["*.example.com"])
    assert certificates.judge(pair, ["a.example.com"])
    assert refusal(pair, ["example.com"])
    assert refusal(pair, ["b.a.example.com"])


# In place


def test_an_installed_key_is_readable_by_root_only(authority: Path, directory: Path) -> None:
    pair = signed(authority)
    certificates.install(directory, pair)
    assert certificates.load(directory) == pair
    modes = [stat.S_IMODE((directory / name).stat().st_mode) for name in ("fullchain.pem", "privkey.pem")]
    assert modes == [0o644, 0o600]


def test_a_new_pair_replaces_the_old_one_atomically(authority: Path, directory: Path) -> None:
    for _ in range(3):
        certificates.install(directory, pair := signed(authority))
        assert certificates.load(directory) == pair
    assert len(list(directory.glob("pair-*"))) == 1
    assert sorted(path.name for path in directory.glob(".*")) == []


def test_keys_left_by_a_killed_run_are_removed_by_the_next(authority: Path, directory: Path) -> None:
    for name, age in (("old", 2), ("new", 0)):
        (left := directory / f".work-{name}").mkdir(parents=True)
        then = datetime.now(UTC).timestamp() - age * 3600
        os.utime(left, (then, then))
    certificates.install(directory, signed(authority))
    assert [path.name for path in directory.glob(".*")] == [".work-new"]


@pytest.mark.parametrize("plain", [True, False])
def test_a_killed_installation_leaves_a_matching_pair(
    authority: Path, directory: Path, monkeypatch: pytest.MonkeyPatch, *, plain: bool
) -> None:
    """Killed at each call that changes the directory, also when the old pair is two plain files, as in old versions."""
    old, new = signed(authority), signed(authority)
    changes = ["symlink_to", "replace", "rename", "unlink", "mkdir"]

    class KilledError(Exception):
        pass

    survived = 0
    for fatal in range(60):
        place = directory.with_name(f"logbook-{fatal}")
        if plain:
            place.mkdir()
            (place / "fullchain.pem").write_text(old.chain)
            (place / "privkey.pem").write_text(old.key)
        else:
            certificates.install(place, old)
        calls = 0

        def killing(original: Any, fatal: int = fatal) -> Any:
            def call(*arguments: Any, **options: Any) -> Any:
                nonlocal calls
                calls += 1
                if calls == fatal + 1:
                    raise KilledError
                return original(*arguments, **options)

            return call

        with monkeypatch.context() as patched:
            for name in changes:
                patched.setattr(Path, name, killing(getattr(Path, name)))
            try:
                certificates.install(place, new)
                survived += 1
            except KilledError:
                pass
        found = certificates.load(place)
        assert found is not None
        assert (found.chain, found.key) in [(old.chain, old.key), (new.chain, new.key)], fatal
        certificates.install(place, new)
        assert certificates.load(place) == new
        if survived:
            break
    assert survived
    assert fatal > 4, "or nothing was killed"


# ACME


def wanted(place: Path, **changes: Any) -> bool:
    settings = {"domains": DOMAINS, "directory": "https://acme.example/dir", "email": "", "webroot": "/w"}
    return certificates.is_wanted(place, Acme(**{**settings, "renew_days": 30, **changes}))


def test_an_acme_certificate_is_requested_until_a_valid_one_is_installed(authority: Path, directory: Path) -> None:
    assert wanted(directory)
    pair = signed(authority)
    certificates.install(directory, pair)
    assert wanted(directory), "a self-signed one only stands in"
    certificates.install(directory, Pair(pair.chain, pair.key, "https://acme.example/dir"))
    assert not wanted(directory)
    assert wanted(directory, directory="https://other.example/dir")
    assert wanted(directory, domains=DOMAINS[:1])
    assert wanted(directory, renew_days=398) is False, "not before two thirds of its life"
    certificates.install(directory, Pair(pair.chain, signed(authority).key, "https://acme.example/dir"))
    assert wanted(directory), "a pair that does not match"


@pytest.mark.parametrize(
    ("errors", "said"),
    [
        (
            "Saving debug log to /x\n\nCertbot failed to authenticate some domains (authenticator: webroot). The "
            "Certificate Authority reported these problems:\n  Domain: a.example.com\n  Type:   connection\n  Detail: "
            "192.0.2.1: Connection refused.\n\nHint: The Certificate Authority failed.\n\nSome challenges have "
            "failed.\nAsk for help or search for solutions at https://community.example. See the logfile /x.\n",
            "a.example.com: 192.0.2.1: Connection refused",
        ),
        (
            "Saving debug log to /x\nAn unexpected error occurred:\nValueError: Requesting a/dir: Connection refused\n"
            "Ask for help or search for solutions at https://community.example.\n",
            "Requesting a/dir: Connection refused",
        ),
        ("", "certbot gave no reason"),
    ],
)
def test_the_reason_why_nothing_was_issued_is_one_clause(errors: str, said: str) -> None:
    assert certificates.reason(errors) == said


# The role and its neighbours


def _specification(role: str) -> Any:
    text = (PROJECT / f"roles/{role}/meta/argument_specs.yml").read_text()
    return yaml.safe_load(text)["argument_specs"]["main"]["options"]


def test_every_provider_that_can_be_declared_is_a_row_of_the_table_and_the_first_is_the_default() -> None:
    provider = _specification("certificate")["certificate_source"]["options"]["provider"]
    table = yaml.safe_load((PROJECT / "roles/certificate/vars/main.yml").read_text())["__certificate_providers"]
    assert set(provider["choices"]) == set(table)
    assert provider["default"] == next(iter(table))


def test_the_methods_of_the_providers_are_those_of_the_module() -> None:
    table = yaml.safe_load((PROJECT / "roles/certificate/vars/main.yml").read_text())["__certificate_providers"]
    module = (PROJECT / "roles/certificate/library/slipway_certificate.py").read_text()
    documented, taken = re.findall(r"choices\"?: \[(\"?self_signed.*?)\]", module)
    methods = set(documented.split(", "))
    assert methods == set(taken.replace('"', "").split(", "))
    assert {row["method"] for row in table.values()} <= methods


def test_what_an_app_may_declare_as_tls_is_what_the_role_takes() -> None:
    options = _specification("certificate")["certificate_source"]
    assert apps.specification()["tls"]["default"] == options["default"]
    with pytest.raises(AnsibleFilterError, match=r"tls.provider is 'acmee', but must be one of self_signed, acme"):
        apps.settings({"logbook": {"tls": {"provider": "acmee"}}})


def test_nginx_answers_from_where_challenges_are_put() -> None:
    handed = yaml.safe_load((PROJECT / "playbooks/vars/apps.yml").read_text())
    assert handed["certificate_webroot"] == "{{ nginx_acme_directory }}"
