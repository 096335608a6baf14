"""What the roles refuse, by their own expressions over inputs."""

from __future__ import annotations

import pytest

from tests.templates.render import evaluate, variables


def is_domain(name: str) -> bool:
    known = variables("certificate") | {"name": name}
    found: bool = evaluate("{{ name is match(__certificate_domain_pattern) }}", **known)
    return found


@pytest.mark.parametrize(
    "name",
    ["logbook.example.com", "*.example.com", "localhost", "a-b.c", "xn--bcher-kva.example", "3com.com", "10.0.0.1",
     "255.255.255.255", "::1", "2001:db8::1", "fe80:0:0:0:0:0:0:1"],
)  # fmt: skip
def test_names_and_addresses_are_domains(name: str) -> None:
    assert is_domain(name)


@pytest.mark.parametrize(
    "name",
    ["", ".", "https://a.example.com", "a.example.com/", "a.example.com:443", "a..b", "-a.b", "a_b.example.com",
     "10.0.0.256", "300.1.1.1", "1.2.3", "12345", "1:2", "::1::2", ":::1", "2001:db8::12345", "*", "*.com",
     "a.*.example.com", "*example.com"],
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
