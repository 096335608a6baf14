"""The table of phases of the engine: the docs and the Logbook's page have the same phases in the same order."""

from __future__ import annotations

import pytest

from app import view
from docs import phases as page
from slipway.records import phases


def test_architecture_has_the_table_of_phases() -> None:
    text = page.PAGE.read_text()
    assert text == page.page(text), "run `make docs`"


def test_a_page_without_the_table_is_refused() -> None:
    with pytest.raises(ValueError, match="has no table of phases"):
        page.page("# Architecture\n")


def test_page_sorts_phases_in_the_order_of_the_table() -> None:
    known = [phases.RENAMED_PHASES.get(name, name) for name in view.PHASES if name != "resolve"]  # on the controller
    assert list(dict.fromkeys(known)) == list(phases.NAMES)
    assert set(phases.RENAMED_PHASES) <= set(view.PHASES)  # reports of older hosts still have these names
