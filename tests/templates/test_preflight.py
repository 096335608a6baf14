"""What the roles refuse, by their own expressions over the facts and inputs of hosts that we do not have here."""

from __future__ import annotations

import pytest
import yaml

from tests.templates.render import ROLES, evaluate, variables

GOOD = {"os_family": "Debian", "distribution": "Debian", "service_mgr": "systemd", "python_version": "3.11.2"}


def refusals(**facts: str) -> list[str]:
    """The messages of the host role's checks that fail on a host with these facts."""
    tasks = yaml.safe_load((ROLES / "host/tasks/preflight.yml").read_text())
    known = {"ansible_facts": GOOD | facts, "inventory_hostname": "box"}
    return [
        evaluate(item["message"], **known) for item in tasks[0]["loop"] if evaluate(item["that"], **known) is not True
    ]


def test_a_host_like_debian_12_is_taken() -> None:
    assert refusals() == []


@pytest.mark.parametrize(
    ("facts", "sentence"),
    [
        ({"os_family": "RedHat", "distribution": "Rocky"}, "runs Rocky. Slipway needs Debian"),
        ({"service_mgr": "sysvinit"}, "is run by sysvinit, not by systemd"),
        ({"python_version": "3.9.2"}, "has Python 3.9.2. Slipway needs 3.11 or newer"),
    ],
)
def test_a_host_that_cannot_work_is_told_why(facts: dict[str, str], sentence: str) -> None:
    messages = refusals(**facts)
    assert len(messages) == 1
    assert sentence in messages[0]


def is_domain(name: str) -> bool:
    known = variables("certificate") | {"name": name}
    found: bool = evaluate("{{ name is match(__certificate_domain_pattern) }}", **known)
    return found


@pytest.mark.parametrize(
    "name",
    ["logbook.example.com", "localhost", "a-b.c", "xn--bcher-kva.example", "3com.com", "10.0.0.1", "255.255.255.255",
     "::1", "2001:db8::1", "fe80:0:0:0:0:0:0:1"],
)  # fmt: skip
def test_names_and_addresses_are_domains(name: str) -> None:
    assert is_domain(name)


@pytest.mark.parametrize(
    "name",
    ["", ".", "https://a.example.com", "a.example.com/", "a.example.com:443", "a..b", "-a.b", "a_b.example.com",
     "10.0.0.256", "300.1.1.1", "1.2.3", "12345", "1:2", "::1::2", ":::1", "2001:db8::12345", "*.example.com"],
)  # fmt: skip
def test_anything_else_is_none(name: str) -> None:
    assert not is_domain(name)


@pytest.mark.parametrize(
    ("name", "private"),
    [("logbook.example.com", False), ("10.0.0.1", True), ("2001:db8::1", True), ("localhost", True),
     ("a.LocalHost", True), ("localhost.example.com", False), ("notlocalhost", False)],
)  # fmt: skip
def test_no_authority_of_the_internet_is_asked_for_what_is_private(name: str, private: bool) -> None:
    known = variables("certificate") | {"name": name}
    assert evaluate("{{ name is search(__certificate_private_pattern) }}", **known) is private
