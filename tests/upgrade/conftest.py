"""A host that an earlier commit of Slipway has provisioned and deployed to, and controllers of both versions."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from hosts import scratch
from hosts.container_runtime import run as run_here
from hosts.host import Host
from tests.faults.site import CALLS, Site, Version
from tests.load import Load

SSH_PORT, HTTP_PORT, HTTPS_PORT = 27022, 27080, 27443
CACHE = scratch.PROJECT / ".cache/upgrade"
EARLIER = "98ed69e"  # the last commit whose records on the host had no format
IMAGE = "slipway-upgrade:earlier"
DEPLOYED = 2  # versions that are on the host when the earlier commit is done with it

# As the inventory of that time has it: settings by the names that they had then.
APP = {
    "watch_seconds": 3,
    "warm_deadline": 60,
    "drain_seconds": 5,
    "keep_releases": 20,
    "workers": 2,
}
VARIABLES = {
    "nginx_keepalive_requests": 1_000_000,  # a client that is told to connect anew would count a failure
    # To turn them on restarts PostgreSQL once, which costs requests and is announced: tests/backup does that.
    "backups": False,
}


def check_out(directory: Path) -> None:
    """Put the files of the earlier commit there; the test fails where the clone does not have that commit."""
    archive = subprocess.run(
        ["git", "-C", str(scratch.PROJECT), "archive", "--format=tar", EARLIER], capture_output=True, check=False
    )
    if archive.returncode != 0:
        pytest.fail(
            f"This clone does not have commit {EARLIER}, whose playbooks this test runs: type `git fetch --unshallow`.",
            pytrace=False,
        )
    directory.mkdir(parents=True)
    subprocess.run(["tar", "--extract", "--directory", str(directory)], input=archive.stdout, check=True)


@dataclass
class Upgrade:
    """One host, with a controller of the earlier version and one of this version."""

    before: Site
    now: Site

    def restore(self) -> None:
        """Make the host as the earlier version left it."""
        self.now.host.down()
        self.now.up()
        self.now.wait_until_ready(30)

    def version(self) -> Version:
        """Tag the next version of the app."""
        return self.now.version()

    @property
    def deployed(self) -> Version:
        """What the earlier version deployed last."""
        tag = f"v{DEPLOYED}.0.0"
        return Version(tag, self.now.sha(tag))

    def load(self) -> Load:
        """GET and POST over HTTP/1.1 and HTTP/2, each on a connection of its own that it keeps."""
        return Load(self.now, CALLS, http2=(False, True), pause=0.04)

    def load_of_single_requests(self) -> Load:
        """GET and POST, each request on a new connection.

        For a time in which Nginx is reloaded: it closes connections that wait for a request, and a client that sends
        one at that moment has to send it again (measured: 4 of 240 clients whose connection a reload closed). HTTP/2
        is left out because the earlier version does not have it for a client that asks for an address.
        """
        return Load(self.now, CALLS, pause=0.04, keep=False)

    def holdings(self) -> dict[str, object]:
        """What must be there after an upgrade as it was before."""
        site = self.now
        return {
            "journal": site.journal(),
            "releases": set(site.sh("cd /srv/logbook/releases && ls -d */.complete").split()),
            "schema": site.revision(),
            # What clients trust: a certificate that is valid for more than a year is made anew.
            "authority": site.sh("sha256sum < /etc/ssl/slipway/ca/ca.crt"),
            # All that was in it: a later version may add variables, and the URL of the same database names a host now.
            "environment": site.sh(
                "grep -v '^STATE_DIRECTORY=' /etc/logbook/env | sed 's#@/logbook?#@localhost/logbook?#' | sha256sum"
            ),
        }


@pytest.fixture(scope="session")
def image() -> Iterator[Upgrade]:
    """The controllers of a host that can be restored from an image. SLIPWAY_KEEP_HOST=1 keeps that for the next run."""
    keep = os.environ.get("SLIPWAY_KEEP_HOST") == "1"
    host = Host("slipway-upgrade", "13", {SSH_PORT: 22, HTTP_PORT: 80, HTTPS_PORT: 443})
    state = CACHE / "state"
    made = bool(run_here("docker", "image", "ls", "--quiet", IMAGE)) and state.exists()
    if not (keep and made):
        forget(host)
        check_out(CACHE / "checkout")
        site = Site(host, state, APP, VARIABLES, project=CACHE / "checkout")
        versions = [site.version() for _ in range(DEPLOYED)]
        site.up()
        site.play("site.yml")
        for version in versions:
            site.deploy(version)
        host.keep_as(IMAGE)
    restored = replace(host, image=IMAGE)
    now = Site(restored, state, APP, VARIABLES)
    yield Upgrade(replace(now, project=CACHE / "checkout"), now)
    if keep:
        host.down()
    else:
        forget(host)


def forget(host: Host) -> None:
    host.down()
    run_here("docker", "image", "rm", "--force", IMAGE, check=False)
    shutil.rmtree(CACHE, ignore_errors=True)


@pytest.fixture(scope="module")
def earlier(image: Upgrade) -> Upgrade:
    """A host as the earlier version left it."""
    image.restore()
    return image


@pytest.fixture(scope="module")
def upgraded(earlier: Upgrade) -> Upgrade:
    """That host after the site.yml of this version, under traffic."""
    held = earlier.holdings()
    with earlier.load_of_single_requests() as load:
        earlier.now.play("site.yml")
    assert load.failures == []
    assert load.releases == [earlier.deployed.sha]
    assert earlier.holdings() == held
    return earlier
