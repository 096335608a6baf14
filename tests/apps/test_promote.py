"""The release of one environment is taken to the other, over SSH, with an inventory that has both."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.controller import flat

from .conftest import Clients
from .site import Environment
from .test_cutover import others


@pytest.fixture
def both(prod: Environment, staging: Environment) -> Iterator[Environment]:
    """prod, with the inventory of staging beside its own."""
    prod.more_inventories = (staging.inventory,)
    try:
        yield prod
    finally:
        prod.more_inventories = ()


def test_prod_gets_the_very_commit_that_staging_serves(
    both: Environment, staging: Environment, clients: Clients
) -> None:
    app = staging.of("billing")
    if app.live() == both.of("billing").live():
        staging.deploy("billing", app.other())
    with clients(both, others("billing")):
        both.play("promote.yml", "-e", "from=staging", "-e", "app=billing", limit=None)
    assert both.of("billing").live() == app.live()
    shas = [environment.status("billing")["live"]["sha"] for environment in (both, staging)]
    assert shas[0] == shas[1]
    again = both.play("promote.yml", "-e", "from=staging", "-e", "app=billing", limit=None)
    assert "is live already" in flat(again)


def test_what_is_live_nowhere_is_not_promoted(both: Environment) -> None:
    said = both.play("promote.yml", "-e", "from=qa", "-e", "app=billing", limit=None, check=False)
    assert "qa" in flat(said)
    assert "staging" in flat(said)
