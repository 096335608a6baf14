"""No value of a variable or of a URL is shown, whatever fails, however it fails."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator

import pytest

from tests.controller import flat
from tests.faults.site import JOURNAL, UNIT, Site

ENV, MIGRATE = "/etc/logbook/env", "/etc/logbook/migrate.env"


@contextlib.contextmanager
def added(site: Site, path: str, text: str) -> Iterator[None]:
    """Variables added to an environment file, for a while."""
    before = site.host.exec("cat", path)
    site.host.exec("sh", "-c", f"cat >> {path}", stdin=f"\n{text}\n")
    try:
        yield
    finally:
        site.host.exec("sh", "-c", f"cat > {path}", stdin=f"{before}\n")


@pytest.mark.parametrize(("variant", "migration"), [("", "shows_its_environment"), ("shows_its_environment", "")])
def test_a_step_that_fails_with_its_environment_in_its_message_shows_no_value(
    site: Site, variant: str, migration: str
) -> None:
    canary = f"canary-{secrets.token_hex(8)}"
    old, new = site.live(), site.version(variant, migration=migration)
    lines = [f'PLAIN="{canary}"', f'SENTRY_DSN="https://key:{canary}@sentry.example/1"', f'TWO="{canary} and more"']
    with added(site, ENV, "\n".join(lines)):
        output = site.fails(new, "-vvv")
        status = site.host.exec("slipway", "status", "logbook")
    assert site.live() == old
    assert "[PLAIN]" in output, output
    logged = site.host.exec("journalctl", "--quiet", "--unit", UNIT, "--since=-10min")
    for text in (output, status, logged, site.host.exec("cat", JOURNAL)):
        assert canary not in text
    site.next_run()


PLACES = ("127.0.0.1", "the host in the URL")
URLS = ["pa#{0}", "{0}#12", "pa/{0}", "{0}@x", "{0}:1:2", "pa?{0}", "%zz{0}"]


@pytest.mark.parametrize("password", URLS)
def test_12_a_url_with_signs_in_its_password_is_never_shown(site: Site, password: str) -> None:
    canary = f"c{secrets.token_hex(8)}"
    url = f"postgresql+asyncpg://me:{password.format(canary)}@127.0.0.1:1/logbook"
    with added(site, MIGRATE, f"DATABASE_URL='{url}'"):
        said = site.sh("slipway status logbook 2>&1; slipway --version; slipway rollback --plan logbook 2>&1; true")
    assert canary not in said
    assert "Traceback" not in said
    answers = ("does not answer", "has a name that this host cannot resolve")
    assert any(f"PostgreSQL at {place} {answer}." in flat(said) for place in PLACES for answer in answers) or (
        "DATABASE_URL" in said
    ), said


def test_12_two_hosts_in_a_url_are_both_tried(site: Site) -> None:
    url = "postgresql+asyncpg://logbook_migrate@/logbook?host=127.0.0.1:1&host=127.0.0.2:2"
    with added(site, MIGRATE, f"DATABASE_URL='{url}'"):
        said = site.sh("slipway rollback --plan logbook 2>&1; true")
    assert "could not translate host name" not in said
    assert "127.0.0.1" in said, said
    assert "127.0.0.2" in said, said
