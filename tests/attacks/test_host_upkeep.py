"""Upgrades while the host serves: nothing that serves is restarted, and what waits is said. And what lynis says."""

from __future__ import annotations

import re

import pytest

from tests.faults.conftest import Steady
from tests.faults.site import Site

SERVING = "nginx.service postgresql@17-main.service logbook@{slot}.service"

# What lynis warns of, each with its reason.
WARNINGS = {
    "DBS-1828": "Debian's wrapper of psql reads PostgreSQL's settings as any user, and there is no secret in them."
}

# On a test host, whose kernel is that of this machine and keeps its settings: a machine of its own has a higher figure.
INDEX = 69


def main_processes(site: Site) -> str:
    slot = site.sh("basename $(readlink /srv/logbook/live)")
    return site.sh(f"systemctl show --property=MainPID --value {SERVING.format(slot=slot)}")


def test_an_upgrade_of_a_library_restarts_nothing_that_serves_and_status_says_so(site: Site, steady: Steady) -> None:
    before = main_processes(site)
    with steady() as outcome:
        # As dpkg does it: a new file in place of the old one, which the running processes keep.
        site.sh("for file in /usr/lib/*-linux-gnu/libssl.so.3; do cp -p $file $file.new && mv $file.new $file; done")
        said = site.sh("export DEBIAN_FRONTEND=noninteractive; needrestart -b 2>&1; needrestart -r a 2>&1")
        assert main_processes(site) == before
    assert "NEEDRESTART" in said
    assert outcome.failures == []
    waiting = site.status()["upkeep"]["restarts"]
    assert {"nginx.service", "postgresql@17-main.service"} <= set(waiting)
    assert set(waiting.values()) == {"it runs with libssl.so.3 of before an upgrade"}
    with steady() as outcome:
        site.deploy(site.live(), "-e", "force=true")
    assert outcome.failures == []
    assert [unit for unit in site.status()["upkeep"]["restarts"] if unit.startswith("logbook@")] == []
    site.sh("systemctl restart postgresql@17-main nginx")
    site.wait_until_ready(30)
    assert site.status()["upkeep"]["restarts"] == {}


@pytest.mark.long
def test_lynis_finds_a_hardened_host(site: Site) -> None:
    site.sh("command -v lynis >/dev/null || apt-get -qq install --yes --no-install-recommends lynis >/dev/null 2>&1")
    # As every day at its hour: a security upgrade that is newer than the image would be a warning.
    site.sh("apt-get -qq update && unattended-upgrade >/dev/null 2>&1")
    said = site.sh("cd /tmp && lynis audit system --quick --no-colors --cronjob 2>&1")
    index = re.search(r"Hardening index : (\d+)", said)
    assert index, said[-2000:]
    report = site.sh("cat /var/log/lynis-report.dat")
    warnings = re.findall(r"^warning\[\]=([\w-]+)\|", report, re.MULTILINE)
    site.sh("apt-get -qq purge --yes lynis >/dev/null 2>&1; rm -f /var/log/lynis*")
    assert [name for name in warnings if name not in WARNINGS] == []
    assert int(index[1]) >= INDEX
