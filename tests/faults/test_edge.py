"""Nginx and its certificates: what is wrong with them is refused or reported, and keeps nobody from deploying."""

from __future__ import annotations

import ssl

import pytest

from tests.controller import flat

from .conftest import Steady
from .site import Site

CERTIFICATES = "/etc/ssl/slipway/logbook"


@pytest.mark.row(34, "nginx", "the new configuration is invalid")
def test_a_configuration_that_nginx_refuses_is_not_installed(site: Site, steady: Steady) -> None:
    old = site.live()
    digest = ["sha256sum", "/etc/nginx/nginx.conf"]
    before = site.host.exec(*digest)
    with steady() as load:
        with site.declared(client_max_body_size="lots"):
            output = site.play("site.yml", check=False)
        assert site.host.exec(*digest) == before
        site.host.exec("nginx", "-t")
        assert site.live() == old
        site.next_run()
    assert "directive invalid value" in flat(output), output
    assert load.failures == []


@pytest.mark.row(35, "tls", "the certificate has expired (clients that verify it stay away until it is renewed)")
def test_with_an_expired_certificate_deploys_work_and_it_is_reported(site: Site, steady: Steady) -> None:
    site.sh(
        f"""cd {CERTIFICATES} && cp -p fullchain.pem /root/fullchain.pem
        openssl x509 -in fullchain.pem -days -1 -signkey privkey.pem -copy_extensions copyall -out expired.pem \
            2>/dev/null || openssl req -x509 -key privkey.pem -subj /CN=127.0.0.1 -not_before 20200101000000Z \
            -not_after 20200201000000Z -out expired.pem
        cat expired.pem > fullchain.pem && rm expired.pem && systemctl reload nginx"""
    )
    try:
        with pytest.raises(ssl.SSLError if False else Exception, match=r"expired|CERTIFICATE_VERIFY_FAILED"):
            site.ready()
        new = site.version()
        site.deploy(new)
        status = site.status()
        shown = site.play("status.yml")
    finally:
        site.sh(f"cat /root/fullchain.pem > {CERTIFICATES}/fullchain.pem && systemctl reload nginx")
    assert status["live"]["tag"] == new.tag
    assert status["certificate"]["days_left"] < 0
    assert "days left" in shown
    assert site.live() == new
    with steady() as load:
        site.next_run()
    assert load.failures == []
