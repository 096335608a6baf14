"""Seven apps on one host: each is deployed, fails to be deployed and is rolled back, and the others notice nothing."""

from __future__ import annotations

import pytest

from tests.controller import flat
from tests.load import Load

from . import shapes
from .conftest import PAUSE, Clients
from .site import CALLS, Environment


def others(name: str) -> list[str]:
    return [app for app in shapes.NAMES if app != name]


@pytest.mark.parametrize("name", ["prod", "staging"])
def test_all_apps_serve_https_at_once(environments: dict[str, Environment], name: str) -> None:
    environment = environments[name]
    assert {environment.of(app).live() for app in shapes.NAMES} <= {shapes.FIRST, shapes.SECOND}
    failed = environment.host.exec("systemctl", "--failed", "--plain", "--no-legend")
    assert failed == ""


@pytest.mark.parametrize("where", ["prod", "staging"])
@pytest.mark.parametrize("name", shapes.NAMES)
def test_a_deploy_a_failed_one_and_a_rollback_touch_no_other_app(
    environments: dict[str, Environment], clients: Clients, name: str, where: str
) -> None:
    environment = environments[where]
    app = environment.of(name)
    _, phase, word = shapes.BREAKS[name]
    if app.live() != shapes.FIRST:
        environment.deploy(name, shapes.FIRST)
    with clients(environment, others(name)), Load(app, CALLS[name], pause=PAUSE) as own:
        environment.deploy(name, shapes.SECOND)
        assert app.live() == shapes.SECOND
        said = flat(environment.deploy_fails(name, shapes.BROKEN))
        assert app.live() == shapes.SECOND
        environment.roll_back(name)
        assert app.live() == shapes.FIRST
    assert own.failures == []
    assert own.releases == [shapes.FIRST, shapes.SECOND, shapes.FIRST]
    assert word in said
    failed = [line["phase"] for line in app.journal() if line["tag"] == shapes.BROKEN and line["outcome"] == "failed"]
    assert failed[0] == phase
