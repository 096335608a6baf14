from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError

from filter_plugins import environments, promotion

SHA = "a" * 40


def answer(host: str, **changes: Any) -> dict[str, Any]:
    status = {"app": "shop", "live": {"tag": "v1.2.0", "sha": SHA}, "deployment": None, **changes}
    return {"item": host, "apps": [status]}


def test_what_all_hosts_agree_on_is_promoted() -> None:
    found = promotion.promoted([answer("s1"), answer("s2")], "shop", "staging")
    assert found == {"sha": SHA, "version": "v1.2.0"}
    commit = promotion.promoted([answer("s1", live={"tag": None, "sha": SHA})], "shop", "staging")
    assert commit == {"sha": SHA, "version": SHA}


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ([answer("s1", deployment={"owner": "bob"})], "A deployment of shop is open on s1 of staging"),
        ([answer("s1", live=None)], "Nothing of shop is live on s1 of staging."),
        ([answer("s1", app="blog")], "s1 of staging has no app 'shop'"),
        ([], "staging has no host to ask."),
        (
            [answer("s1"), answer("s2", live={"tag": "v1.1.0", "sha": "b" * 40})],
            "The hosts of staging do not agree on what is live of shop: v1.2.0 on s1, v1.1.0 on s2.",
        ),
        (
            [answer("s1"), answer("s2", live={"tag": "v1.2.0", "sha": "b" * 40})],
            "The hosts of staging do not agree",
        ),
    ],
)
def test_what_cannot_be_promoted_is_refused(answers: list[dict[str, Any]], said: str) -> None:
    with pytest.raises(AnsibleFilterError, match=said.replace(".", r"\.")):
        promotion.promoted(answers, "shop", "staging")


FORWARD: dict[str, Any] = {"goes_back": False, "losses": []}


@pytest.mark.parametrize(
    ("differences", "migrate", "said"),
    [
        ([], ["alembic"], []),
        ([{"skipped": True}], ["alembic"], []),
        ([FORWARD, FORWARD], ["alembic"], []),
        ([{**FORWARD, "goes_back": True}], ["alembic"], ["it is older than what is live"]),
        ([{**FORWARD, "losses": ["5.py drops the table a"]}] * 2, ["alembic"], ["5.py drops the table a"]),
        ([{**FORWARD, "losses": ["5.py drops the table a"]}], [], []),
        ([FORWARD], ["aerich upgrade"], ["what 'aerich upgrade' deletes cannot be told"]),
    ],
)
def test_why_a_deploy_asks(differences: list[dict[str, Any]], migrate: list[str], said: list[str]) -> None:
    assert promotion.losses(differences, migrate) == said


def test_what_cannot_be_told_asks() -> None:
    (said,) = promotion.losses([{**FORWARD, "goes_back": None}], ["alembic"])
    assert "cannot be told" in said


def test_a_directory_of_an_inventory_is_an_environment() -> None:
    sources = ["/x/inventories/prod", "/x/inventories/qa", "/x/hosts.yml", "localhost,"]
    assert environments.declared(sources, ["all", "prod", "qa"], ["lab"]) == ["prod", "staging", "local", "qa", "lab"]
    assert "qa" not in environments.declared(sources, ["all", "prod"])


def fault(**hosts: list[str]) -> str:
    groups = ["prod", "staging", "qa", "web", *{name for found in hosts.values() for name in found}]
    return environments.fault(hosts, ["prod", "staging", "local", "qa"], groups)


def test_a_run_for_one_environment_is_taken() -> None:
    assert fault(a=["qa"], b=["qa", "web"]) == ""


@pytest.mark.parametrize(
    ("hosts", "said"),
    [
        ({"a": ["prod"], "b": ["staging"]}, "This run would touch prod, staging. A run is for one: pass, for example"),
        ({"a": ["prod"], "b": ["web"]}, "This run would touch prod and hosts of none (b)."),
        ({"a": ["web"]}, "This run would touch no environment and hosts of none (a)."),
        ({"a": ["stagin"]}, "The group 'stagin' of a is no environment. The nearest is 'staging'"),
        ({"a": ["web", "Prod"]}, "The group 'Prod' of a is no environment. The nearest is 'prod'"),
    ],
)
def test_any_other_run_is_refused(hosts: dict[str, list[str]], said: str) -> None:
    assert fault(**hosts).startswith(said)


def test_the_nearest_environment_of_a_name() -> None:
    assert environments.nearest("stageing", ["prod", "staging"]) == "staging"
    assert environments.nearest("moon", ["prod", "staging"]) == ""
