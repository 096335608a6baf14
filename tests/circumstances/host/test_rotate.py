"""rotate.yml: a secret that the host makes gets a new value while clients are served."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from slipway.slot import envfile
from tests.controller import SECRET, flat
from tests.faults.conftest import Steady
from tests.faults.site import Site

GENERATED = "/etc/slipway/logbook.generated.env"
ROTATE = ("rotate.yml", "-e", "secret=SECRET_KEY")


def live(site: Site) -> dict[str, str]:
    """The environment of the slot that takes traffic."""
    return envfile.parse(site.sh("cat /srv/logbook/live/env"))


@pytest.fixture
def generating(site: Site) -> Iterator[Site]:
    """The host makes the app's SECRET_KEY; afterwards it is the inventory's again."""
    with site.declared(env={"SECRET_KEY": {"generate": True}}):
        site.play("site.yml")
        site.deploy(site.live())
        yield site
    site.play("site.yml")
    site.deploy(site.live())
    site.sh(f"rm {GENERATED}")


def test_a_secret_of_the_host_is_made_kept_and_rotated_without_a_failed_request(
    generating: Site, steady: Steady
) -> None:
    release, made = generating.live(), live(generating)["SECRET_KEY"]
    assert len(made) == 64
    assert generating.sh(f"stat -c '%U %a' {GENERATED}") == "root 600"
    assert "changed=0" in generating.play("site.yml")
    with steady() as load:
        output = generating.play(*ROTATE, "-vvv", "--diff")
        assert generating.live() == release
        rotated = live(generating)
    assert rotated["SECRET_KEY"] != made
    assert rotated["SECRET_KEY_PREVIOUS"] == made
    assert made not in output
    assert rotated["SECRET_KEY"] not in output
    assert load.failures == []
    assert generating.left_behind() == []
    # A rollback that follows has both values as well.
    generating.next_run()
    assert live(generating)["SECRET_KEY"] == rotated["SECRET_KEY"]


@pytest.mark.long
def test_a_rotation_that_is_killed_before_the_switch_is_repeated_with_the_same_value(generating: Site) -> None:
    made = live(generating)["SECRET_KEY"]
    run = generating.run(*ROTATE)
    generating.wait_for_phase("start")
    generating.kill_engine()
    run.kill()
    waiting = envfile.parse(generating.sh(f"cat {GENERATED}"))["SECRET_KEY"]
    assert waiting != made
    output = generating.play(*ROTATE)
    assert "SECRET_KEY was rotated before, and is not live yet." in flat(output)
    assert live(generating)["SECRET_KEY"] == waiting
    assert live(generating)["SECRET_KEY_PREVIOUS"] == made


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ((), "Pass -e secret= with the name of a variable that the host makes, such as -e secret=SECRET_KEY."),
        (("-e", "secret=SENTRY_DSN"), "SENTRY_DSN is not made by the host (made here: none)"),
        (("-e", "secret=A-KEY"), "which is no name of a variable"),
    ],
)
def test_what_cannot_be_rotated_is_said_and_nothing_changes(site: Site, given: tuple[str, ...], sentence: str) -> None:
    journal = site.journal()
    output = site.play("rotate.yml", *given, check=False)
    assert sentence in flat(output), output
    assert "changed=0" in output
    assert site.journal() == journal


@pytest.mark.long
def test_a_credential_is_a_file_for_the_unit_alone(site: Site, steady: Steady) -> None:
    main = "$(systemctl show --property=MainPID --value logbook@$(basename $(readlink /srv/logbook/live)))"
    with site.declared(credentials=["SECRET_KEY"]):
        site.play("site.yml")
        with steady() as load:
            site.deploy(site.live())
        environment = site.sh(f"tr '\\0' '\\n' < /proc/{main}/environ").splitlines()
        assert not [line for line in environment if line.startswith("SECRET_KEY")]
        (where,) = [line.partition("=")[2] for line in environment if line.startswith("CREDENTIALS_DIRECTORY=")]
        assert site.sh(f"nsenter --target {main} --mount cat {where}/SECRET_KEY") == SECRET
        assert "denied" in site.sh(f"runuser -u logbook_build -- ls {where} 2>&1; true")
        assert "denied" in site.sh("runuser -u logbook -- ls /srv/logbook/slots/blue/credentials 2>&1; true")
        assert site.sh("slipway run logbook -- env | grep -c ^SECRET_KEY=") == "1"
    site.play("site.yml")
    site.deploy(site.live())
    assert load.failures == []
    assert "SECRET_KEY" in live(site)
