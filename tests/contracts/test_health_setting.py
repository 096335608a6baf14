"""The setting `health` in its forms."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError

from roles.app.filter_plugins import app_settings


def complete(health: Any, **more: Any) -> dict[str, Any]:
    return app_settings.complete({"domains": ["a.example.com"], "health": health, **more})


def test_a_text_is_the_path() -> None:
    found = complete("/up")
    assert (found["health"], found["health_path"], found["health_status"]) == ("", "/up", [200, 204])


def test_a_mapping_has_all_of_it_and_the_whole_form_stays_as_it_is() -> None:
    given = {"path": "/up", "status": 429, "host": "a.example.com", "headers": {"X-A": "b"}, "every": 2}
    found = complete(given)
    assert (found["health_path"], found["health_status"], found["health_every"]) == ("/up", [429], 2.0)
    assert (found["health_host"], found["health_headers"]) == ("a.example.com", {"X-A": "b"})
    assert app_settings.complete(found) == found


def test_without_it_the_flat_names_count() -> None:
    assert complete("", health_path="/flat")["health_path"] == "/flat"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"pth": "/up"}, "health.pth is no setting. The nearest is 'path'."),
        ({"every": "often"}, "health.every is 'often', but must be a number of seconds"),
        ({"status": ["ok"]}, 'health.status is ["ok"], but must be a list such as [200, 429].'),
        (["/up"], 'health is ["/up"]. Write the path'),
        (True, "health is true. Write the path"),
    ],
)
def test_other_forms_are_refused_in_one_sentence(given: Any, said: str) -> None:
    with pytest.raises(AnsibleFilterError) as refused:
        complete(given)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"path": "up"}, "health_path is 'up', but must be a path"),
        ({"status": [500]}, "apps.shop.health_status has 500"),
        ({"every": 120}, "apps.shop.health_every is 120"),
    ],
)
def test_values_that_no_app_can_mean_are_named(given: Any, said: str) -> None:
    found = complete(given, repository=".", env={"SECRET_KEY": "x" * 40})
    faults = app_settings.faults(found, "shop", "prod", found["env"])
    assert any(said in fault for fault in faults), faults
