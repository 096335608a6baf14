from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from slipway.base.errors import FailedError
from slipway.cli import status
from slipway.records import deployment, manifest
from slipway.release import store
from slipway.schema import database
from slipway.slot import health

from .fakes import V1, V2, Host, Programs, deployed, request


def _shown(host: Host) -> list[str]:
    """The rendered lines, each with its blanks made one."""
    return [" ".join(line.split()) for line in status.render(status.gather(host.settings)).splitlines()]


@pytest.mark.parametrize(("day", "number"), [("Nov 24", 24), ("Nov  4", 4)])
def test_the_end_of_a_certificate_is_read_in_utc(day: str, number: int) -> None:
    end = status.parse_end_date(f"notAfter={day} 11:25:01 2027 GMT\n")
    assert end == datetime(2027, 11, number, 11, 25, 1, tzinfo=UTC)


def test_status_without_a_release_shows_what_to_run(host: Host) -> None:
    assert "live nothing yet: run deploy.yml" in _shown(host)


def test_a_live_release_is_shown_with_its_slot_its_unit_and_its_last_deploy(host: Host) -> None:
    deployed(host, V1)
    shown = "\n".join(_shown(host))
    assert "app logbook (prod) on " in shown
    assert "live v1 111111111111 in blue, since 20" in shown
    assert "unit active\n" in shown
    assert "database at 0001, nothing pending" in shown
    assert re.search(r"UTC deploy v1: succeeded in \d+\.\d s, alice", shown)


def test_an_open_deployment_is_shown_with_owner_and_state(host: Host) -> None:
    deployed(host, V1)
    host.engine.stage(request(V2, owner="bob (pid 7)"), None)
    assert "open deploy of v2 by bob: staged" in _shown(host)
    assert status.gather(host.settings)["deployment"]["phase"] == "stage"


def test_a_record_of_a_later_version_hides_nothing_else(host: Host) -> None:
    deployed(host, V1)
    host.settings.deployment.write_text(json.dumps({"format": deployment.FORMAT + 1}))
    shown = "\n".join(_shown(host))
    assert f"open {host.settings.deployment} was written by a newer version of Slipway" in shown
    assert "unit active\n" in shown


def test_changed_settings_are_shown(host: Host) -> None:
    deployed(host, V1)
    host.settings.env_file.write_text('SECRET_KEY="rotated"\n')
    assert "unit active; its settings were changed since it was started: deploy again to apply them" in _shown(host)


@pytest.mark.parametrize(
    ("revision", "text"),
    [(None, "at no revision, pending: 0001"), ("0009", "at 0009, ahead of this release")],
)
def test_a_database_that_is_not_at_the_head_is_shown(host: Host, revision: str | None, text: str) -> None:
    deployed(host, V1)
    host.revision = revision
    assert f"database {text}" in _shown(host)


def test_status_shows_the_rest_when_the_database_does_not_answer(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    deployed(host, V1)

    def silent(*_: object) -> str:
        raise FailedError("PostgreSQL does not answer the migration role.")

    monkeypatch.setattr(database, "current_revision", silent)
    shown = _shown(host)
    assert "database PostgreSQL does not answer the migration role." in shown
    assert "unit active" in shown


@pytest.mark.parametrize(
    ("issuer", "name"),
    [
        ("CN=R11,O=Let's Encrypt,C=US", "R11"),
        ("C=US,O=Let's Encrypt,CN=R11", "R11"),
        (r"CN=Acme\, Inc. CA", r"Acme\, Inc. CA"),
        ("OU=without a name", "OU=without a name"),
    ],
)
def test_the_issuer_of_a_certificate_is_read(issuer: str, name: str) -> None:
    assert status.parse_issuer(f"notAfter=Nov 24 11:25:01 2027 GMT\nissuer={issuer}\n") == name


def _certified(host: Host, programs: Programs, year: int, issuer: str) -> None:
    host.settings = replace(host.settings, certificate=str(host.settings.root / "fullchain.pem"))
    programs.answers["openssl"] = (0, f"notAfter=Nov 24 11:25:01 {year} GMT\nissuer={issuer}\n", "")


def test_a_certificate_is_shown_with_the_days_that_are_left_and_its_issuer(host: Host, programs: Programs) -> None:
    _certified(host, programs, 2101, "CN=R11,O=Let's Encrypt,C=US")
    shown = "\n".join(_shown(host))
    assert re.search(r"^tls expires 2101-11-24 \(\d+ days left\), issued by R11$", shown, re.MULTILINE), shown


def test_an_expired_certificate_is_shown_as_expired(host: Host, programs: Programs) -> None:
    _certified(host, programs, 2001, "CN=Slipway on web-1")
    assert "tls expired on 2001-11-24, self-signed" in _shown(host)
    found = status.gather(host.settings)["certificate"]
    assert found["days_left"] < 0
    assert found["self_signed"]


def test_why_a_certificate_was_not_renewed_is_shown(host: Host, programs: Programs) -> None:
    _certified(host, programs, 2001, "CN=R11")
    (host.settings.root / "failure").write_text("The authority is down.\n")
    assert "tls expired on 2001-11-24, issued by R11; not renewed: The authority is down." in _shown(host)


@pytest.mark.parametrize(
    ("shown", "said"),
    [
        ("", "; Nginx does not show it to clients"),
        ("PEM of another\n", "; this is not the one in {file}: systemctl reload nginx"),
        ("PEM of the first\n", ""),
    ],
)
def test_the_certificate_that_is_served_counts_and_not_that_of_the_file(
    host: Host, programs: Programs, monkeypatch: pytest.MonkeyPatch, shown: str, said: str
) -> None:
    _certified(host, programs, 2001, "CN=R11")
    host.settings = replace(host.settings, watch_url="https://logbook.test/health/ready")
    Path(host.settings.certificate).write_text("PEM of the first\nPEM of its issuer\n")
    monkeypatch.setattr(health, "served_certificate", lambda _: shown)
    expected = said.format(file=host.settings.certificate)
    assert f"tls expired on 2001-11-24, issued by R11{expected}" in _shown(host)
    asked = next(line for line in programs.ran if line.startswith("openssl x509"))
    assert ("-in" in asked) is (shown == "")


def test_a_certificate_that_cannot_be_read_is_named(host: Host, programs: Programs) -> None:
    host.settings = replace(host.settings, certificate="/etc/nginx/logbook.pem")
    programs.answers["openssl"] = (1, "", "no such file")
    assert "tls /etc/nginx/logbook.pem cannot be read" in _shown(host)


def test_a_live_release_whose_marker_is_gone_is_shown_and_kept_and_can_be_deployed_again(host: Host) -> None:
    deployed(host, V1, V2)
    place = host.settings.release("v2-222222222222")
    (place / manifest.COMPLETE).unlink()
    shown = _shown(host)
    assert any(line.startswith("live v2 222222222222 in ") for line in shown)
    assert "release the manifest of v2-222222222222 cannot be read: deploy this version again" in shown
    assert "database not compared with v2-222222222222, whose manifest cannot be read" in shown
    assert store.prune(host.settings) == []
    assert host.engine.deploy(request(V2), None).changed
    assert not any(line.startswith("release ") for line in _shown(host))


def test_releases_are_listed_newest_deploy_first_and_the_live_one_is_marked(host: Host) -> None:
    assert status.render_releases(status.list_releases(host.settings)) == "no releases"
    deployed(host, V1, V2)
    host.build(host.settings, "v0-0", "v0", "0" * 40)
    lines = status.render_releases(status.list_releases(host.settings)).splitlines()
    assert lines[0].startswith("* v2-222222222222 ")
    assert lines[1].startswith("  v1-111111111111 ")
    assert lines[2].split() == ["v0-0", "never", "live"]
