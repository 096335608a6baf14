"""Nginx and its certificates: what is wrong with them is refused or reported, and keeps nobody from deploying."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from tests.controller import flat

from .conftest import Steady
from .site import Site

CERTIFICATES = "/etc/ssl/slipway/logbook"


@pytest.mark.row(34, "nginx", "the new configuration is invalid")
def test_a_configuration_refused_by_nginx_is_not_installed(site: Site, steady: Steady) -> None:
    old = site.live()
    digest = ["sha256sum", "/etc/nginx/nginx.conf"]
    before = site.host.exec(*digest)
    with steady() as load:
        with site.declared(nginx_snippet="no_such_directive 1;"):
            output = site.play("site.yml", check=False)
        assert site.host.exec(*digest) == before
        site.host.exec("nginx", "-t")
        assert site.live() == old
        site.next_run()
    assert 'unknown directive "no_such_directive"' in flat(output), output
    assert load.failures == []


@contextmanager
def expired(site: Site) -> Iterator[None]:
    """Nginx shows a certificate of the host's own authority whose time is over."""
    site.sh(
        f"""cp -a {CERTIFICATES} /root/certificates && cd {CERTIFICATES}
        openssl req -x509 -CA ../ca/ca.crt -CAkey ../ca/ca.key -newkey rsa:2048 -nodes -subj /CN=old \
            -addext subjectAltName=IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE \
            -not_before 20200101000000Z -not_after 20200201000000Z -keyout /root/old.key -out /root/old.pem 2>/dev/null
        cat /root/old.key > privkey.pem && cat /root/old.pem > fullchain.pem"""
    )
    reload_nginx(site)
    try:
        yield
    finally:
        site.sh(
            f"""cd {CERTIFICATES} && cat /root/certificates/privkey.pem > privkey.pem
            cat /root/certificates/fullchain.pem > fullchain.pem && rm -r /root/certificates /root/old.*"""
        )
        reload_nginx(site)
        assert refusal(site) == ""


def reload_nginx(site: Site) -> None:
    """Have Nginx read its files again, and wait until its processes of before are gone.

    Until then they serve what they have read, and a connection that they take is closed after its next answer.
    """
    site.sh(
        """before=$(pgrep --parent "$(cat /run/nginx.pid)") && systemctl reload nginx
        for pid in $before; do timeout 60 tail --pid="$pid" -s 0.05 -f /dev/null || exit 1; done"""
    )


def refusal(site: Site) -> str:
    """Why a client that verifies the certificate stays away; "" when it does not."""
    try:
        site.ready()
    except httpx.ConnectError as error:
        return str(error)
    return ""


@pytest.mark.row(35, "tls", "the certificate has expired (the steady client takes it all the same)")
def test_with_an_expired_certificate_deploys_work_and_it_is_reported(site: Site, steady: Steady) -> None:
    old, new = site.live(), site.version()
    with expired(site):
        assert "expired" in refusal(site)
        with steady(verify=False) as load:
            site.deploy(new)
            status = site.status()
            shown = site.play("status.yml")
            assert site.left_behind() == []
    assert status["live"]["tag"] == new.tag
    assert status["certificate"]["days_left"] < -2000
    assert "2020-02-01" in shown
    assert site.live() == new
    site.next_run()
    assert load.failures == []
    assert load.releases == [old.sha, new.sha]
