"""site.yml for one app alone, by the expressions of playbooks/vars/site.yml."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from hosts.scratch import PROJECT
from tests.templates import render

APPS: dict[str, Any] = {"shop": {"domains": ["s.example"]}, "blog": {"state": "absent"}, "old": {"state": "absent"}}
NAMES = ("prepared_apps", "site_absent", "site_purged", "site_has", "run_fault", "__checks", "__names")


def site(**given: str) -> dict[str, Any]:
    texts = yaml.safe_load((PROJECT / "playbooks/vars/site.yml").read_text())
    known = {name: render.trusted(texts[name]) for name in NAMES}
    known |= {
        "apps": APPS,
        "declared_apps": {"shop": APPS["shop"]},
        "site_found": {"stdout_lines": ["app shop", "app blog", "app old"]},
        "environment_name": "qa",
        "serves_apps": True,
    }
    wanted = ("run_fault", "prepared_apps", "site_absent")
    found = {name: render.evaluate(f"{{{{ {name} }}}}", **known, **given) for name in wanted}
    return {name: sorted(value) if isinstance(value, list) else value for name, value in found.items()}


def test_without_a_name_all_are_prepared_and_those_that_are_absent_taken_away() -> None:
    assert site() == {"run_fault": "", "prepared_apps": ["shop"], "site_absent": ["blog", "old"]}


def test_one_that_is_present_is_prepared_alone() -> None:
    assert site(app="shop") == {"run_fault": "", "prepared_apps": ["shop"], "site_absent": []}


def test_one_that_is_absent_is_taken_away_alone() -> None:
    assert site(app="blog") == {"run_fault": "", "prepared_apps": [], "site_absent": ["blog"]}


@pytest.mark.parametrize("name", ["other", "sho"])
def test_one_that_nothing_declares_is_refused(name: str) -> None:
    said = site(app=name)["run_fault"]
    assert said == f"There is no app '{name}' in qa: pass -e app= with one of shop, or leave it out for all."
