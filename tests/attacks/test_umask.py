"""A login whose umask closes files to others (CIS: 027) changes nothing about what the app's user can read."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from hosts.host import USER
from tests.faults.conftest import Steady
from tests.faults.site import Site

# What site.yml has to write anew, of each kind: its files, those of other roles, and directories that it makes.
GONE = (
    "/opt/slipway /etc/slipway/logbook.toml /etc/logbook/gunicorn.conf.py /etc/systemd/system/logbook@.service "
    "/etc/sysusers.d /etc/tmpfiles.d/slipway-logbook.conf /usr/local/bin/slipway"
)
WRONG = "'(' -perm /022 -o ! -perm -444 -o -type d ! -perm -555 ')'"  # others can write, or cannot read


@pytest.fixture(params=["027", pytest.param("077", marks=pytest.mark.long)])
def mask(site: Site, request: pytest.FixtureRequest) -> Iterator[str]:
    found: str = request.param
    site.sh(f"cp /home/{USER}/.bashrc /root; sed -i '1i umask {found}' /home/{USER}/.bashrc")
    try:
        yield found
    finally:
        site.sh(f"mv /root/.bashrc /home/{USER}/; chown {USER}: /home/{USER}/.bashrc")


def test_site_deploy_and_rollback_leave_files_that_the_app_can_read(site: Site, steady: Steady, mask: str) -> None:
    known = [f"UserKnownHostsFile={site.state / 'known_hosts'}", "BatchMode=yes"]
    options = [part for option in known for part in ("-o", option)]
    login = [
        "ssh",
        "-i",
        str(site.state / "key"),
        *options,
        "-p",
        str(site.port(22)),
        f"{USER}@127.0.0.1",
        "sudo -n sh -c umask",
    ]
    shown = subprocess.run(login, capture_output=True, text=True, check=True).stdout
    assert shown.strip() == f"0{mask}", "or nothing is tested"
    site.sh(f"rm -r {GONE}")
    site.play("site.yml")
    readable = site.sh(f"find {GONE} ! -type l {WRONG} -printf '%M %p\\n'")
    assert readable == ""
    old, new = site.live(), site.version(packages="anew", migration="adds_a_table")
    with steady() as load:
        site.deploy(new)
        assert site.live() == new
        site.play("rollback.yml")
        assert site.live() == old
    assert site.sh(f"find /srv/logbook/releases/{new.release} ! -type l {WRONG} -printf '%M %p\\n' | head") == ""
    site.sh(f"umask {mask}; slipway prune logbook; slipway status logbook; slipway run logbook -- true")
    assert site.sh(f"umask {mask}; slipway run logbook -- sh -c umask") == "0022"
    assert load.failures == []
    assert load.releases == [old.sha, new.sha, old.sha]
