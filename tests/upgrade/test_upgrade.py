"""A host of an earlier version of Slipway meets this version: nothing is lost, and no request fails."""

from __future__ import annotations

import json

import pytest

from slipway.records import deployment
from tests.controller import flat
from tests.faults.site import LOCK, UNIT, Site

from .conftest import Upgrade

RECORD = "/srv/logbook/deployment.json"


@pytest.mark.parametrize("playbook", ["deploy.yml", "rollback.yml"])
def test_before_site_yml_a_run_says_that_it_comes_first_and_changes_nothing(earlier: Upgrade, playbook: str) -> None:
    held = earlier.holdings()
    output = earlier.now.play(playbook, check=False)
    assert "The engine on slipway-upgrade is older than this controller" in flat(output), output
    assert "run `ansible-playbook site.yml -l local` first" in flat(output), output
    assert "changed=0" in output
    assert earlier.holdings() == held
    assert earlier.now.live() == earlier.deployed


def test_a_deploy_and_a_rollback_to_a_release_of_the_earlier_version(upgraded: Upgrade) -> None:
    site, new = upgraded.now, upgraded.version()
    held = site.journal()
    with upgraded.load() as load:
        site.deploy(new)
        assert site.live() == new
        site.play("rollback.yml")
    assert site.live() == upgraded.deployed
    assert site.left_behind() == []
    assert site.journal()[: len(held)] == held
    assert load.failures == []
    assert load.releases == [upgraded.deployed.sha, new.sha, upgraded.deployed.sha]


def test_a_controller_of_the_earlier_version_still_works(upgraded: Upgrade) -> None:
    old, new = upgraded.now.live(), upgraded.version()
    with upgraded.load() as load:
        upgraded.before.deploy(new)
        assert upgraded.now.live() == new
        again = upgraded.before.deploy(new)
        upgraded.before.play("rollback.yml")
    assert upgraded.now.live() == old
    assert upgraded.now.left_behind() == []
    assert f"{new.tag} is live already" in flat(again), again
    assert "changed=0" in again
    assert load.failures == []
    assert load.releases == [old.sha, new.sha, old.sha]


def test_a_record_of_a_later_version_is_refused_and_the_live_release_serves_on(upgraded: Upgrade) -> None:
    site, new = upgraded.now, upgraded.version()
    old, journal = site.live(), site.journal()
    later = {"format": deployment.FORMAT + 1, "who": "somebody", "what": {"release": new.release}}
    with upgraded.load() as load:
        site.write(RECORD, json.dumps(later))
        for playbook in (("deploy.yml", *new.chosen), ("rollback.yml",)):
            output = site.play(*playbook, check=False)
            assert f"{RECORD} was written by a newer version of Slipway" in flat(output), output
            assert "changed=0" in output
        booting = site.sh("slipway recover logbook; echo code $?")
        assert site.ready()["sha"] == old.sha
        assert site.journal() == journal
        assert json.loads(site.sh(f"cat {RECORD}")) == later
        site.sh(f"rm {RECORD}")
        site.deploy(new)
    assert booting.endswith("code 3"), booting
    assert site.live() == new
    assert site.left_behind() == []
    assert load.failures == []
    assert load.releases == [old.sha, new.sha]


MOMENTS = {
    "before the switch": f"""grep -q '"phase": "warm"' {LOCK}""",
    "after the switch": f"""grep -q '"state": "switched"' {RECORD}""",
}


def kill_in_the_middle(site: Site, moment: str, *arguments: str) -> None:
    """A deploy whose controller and engine are killed at that moment: nobody undoes or finishes it."""
    run = site.run("deploy.yml", *arguments)
    site.wait_there(f"systemctl -q is-active {UNIT}")
    run.freeze()
    site.wait_there(MOMENTS[moment], then=f"systemctl kill --signal=KILL {UNIT}")
    run.kill()


@pytest.mark.parametrize("moment", MOMENTS)
def test_an_upgrade_in_the_middle_of_a_deploy_that_was_killed_ends_that_deploy(image: Upgrade, moment: str) -> None:
    image.restore()
    site, new = image.now, image.version()
    with image.load_of_single_requests() as load:
        kill_in_the_middle(image.before, moment, *new.chosen)
        held = image.holdings()
        opened = json.loads(site.sh(f"cat {RECORD}"))
        site.play("site.yml")
        assert image.holdings() == held
        assert json.loads(site.sh(f"cat {RECORD}")) == opened
        assert site.live() == (new if moment == "after the switch" else image.deployed)
        site.deploy(new)
        assert site.live() == new
        assert site.left_behind() == []
        site.play("rollback.yml")
    assert site.live() == image.deployed
    assert site.left_behind() == []
    assert "format" not in opened, "the earlier version did not write it"
    assert opened["tag"] == new.tag
    outcome = "succeeded" if moment == "after the switch" else "reverted"
    ends = [
        line["outcome"] for line in site.journal() if (line["deployment"], line["phase"]) == (opened["id"], "result")
    ]
    assert ends == [outcome]
    # Also when the first of them had ended well, the second was needed: site.yml changed the settings of the app.
    assert [(item["action"], item["tag"], item["outcome"]) for item in site.status()["last"]] == [
        ("rollback", image.deployed.tag, "succeeded"),
        ("deploy", new.tag, "succeeded"),
        ("deploy", new.tag, outcome),
        ("deploy", image.deployed.tag, "succeeded"),
        ("deploy", "v1.0.0", "succeeded"),
    ]
    assert load.failures == []
    assert load.releases == [image.deployed.sha, new.sha, image.deployed.sha]
