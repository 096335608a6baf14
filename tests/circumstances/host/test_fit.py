"""Releases that were built for a host as it was: each is built again when it is chosen, and that is said."""

from __future__ import annotations

import pytest

from tests.controller import flat
from tests.faults.conftest import Steady
from tests.faults.site import Site


def other_good(site: Site) -> tuple[str, str]:
    """The good version that is not live: its tag, and the path of its release on the host."""
    live = site.live()
    version = next(item for item in site.good if item != live)
    return version.tag, f"/srv/logbook/releases/{version.release}"


def test_5_a_release_that_another_umask_has_closed_is_built_again(site: Site, steady: Steady) -> None:
    tag, path = other_good(site)
    site.sh(f"chmod -R go-rwx {path}")
    with steady() as load:
        output = flat(site.play("deploy.yml", "-e", f"version={tag}"))
        assert site.live().tag == tag
    assert "was built again, as" in output, output
    assert "logbook cannot use it, or could change it" in output, output
    assert site.left_behind() == []
    assert load.failures == []


@pytest.mark.row(59, "host", "an upgrade of the distribution: the release's Python is gone (requests fail until then)")
def test_a_release_whose_python_is_gone_is_built_again_by_the_same_command(site: Site) -> None:
    live = site.live()
    path = f"/srv/logbook/releases/{live.release}"
    # As after an upgrade of the distribution: the virtualenv's Python leads nowhere, and no slot comes up.
    site.sh(f"ln -sfn /usr/bin/python3.2 {path}/.venv/bin/python; systemctl kill --signal=KILL 'logbook@*.service'")
    shown = site.host.exec("slipway", "status", "logbook")
    assert "not ready" in shown, shown
    output = flat(site.play("deploy.yml", *live.chosen))
    assert site.live() == live
    assert "was built again, as its Python" in output, output
    assert site.left_behind() == []
    site.next_run()


def test_files_that_the_app_could_change_are_not_run(site: Site, steady: Steady) -> None:
    tag, path = other_good(site)
    site.sh(f"chown -R logbook {path}/app")
    with steady() as load:
        output = flat(site.play("deploy.yml", "-e", f"version={tag}"))
        assert site.live().tag == tag
    assert "was built again, as app" in output, output
    assert site.sh(f"find {path} -user logbook") == ""
    assert load.failures == []
