"""The pages of the Logbook as a browser gets them, graded by the rules of MDN's HTTP Observatory.

The rules and their points are those of https://developer.mozilla.org/en-US/observatory/docs/tests_and_scoring, said
anew here, as the scanner itself only looks at sites of the Internet.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser

import httpx
import pytest

from tests.controller import Controller

HALF_A_YEAR = 15768000  # seconds
STRICT_REFERRERS = {"no-referrer", "same-origin", "strict-origin", "strict-origin-when-cross-origin"}


class Scripts(HTMLParser):
    """The sources of a page's scripts, and whether each has a digest (integrity)."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, bool]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "script" and given.get("src"):
            self.found.append((str(given["src"]), "integrity" in given))


def policy(answer: httpx.Response) -> dict[str, list[str]]:
    """The directives of its Content-Security-Policy, each with its sources."""
    parts = [part.split() for part in answer.headers.get("content-security-policy", "").split(";") if part.strip()]
    return {name.lower(): sources for name, *sources in parts}


def points(answer: httpx.Response, redirect: httpx.Response) -> Iterator[tuple[str, int]]:
    """Each rule with its points: below 0 is taken from 100, above 0 is added once nothing much was taken."""
    csp = policy(answer)
    sources = {name: csp.get(name, csp.get("default-src", ["*"])) for name in ("script-src", "style-src", "object-src")}
    unsafe = {source for name in ("script-src", "object-src") for source in sources[name]}
    if not csp:
        yield "no CSP", -25
    elif {"'unsafe-inline'", "*", "https:", "http:", "data:"} & unsafe:
        yield "CSP with unsafe sources", -20
    elif "'unsafe-eval'" in unsafe:
        yield "CSP with unsafe-eval", -10
    elif "'unsafe-inline'" in sources["style-src"]:
        yield "CSP with inline styles", 0
    else:
        yield "CSP", 10 if csp.get("default-src") == ["'none'"] else 5
    hsts = re.search(r"max-age=(\d+)", answer.headers.get("strict-transport-security", ""))
    yield "HSTS", -20 if hsts is None else -10 if int(hsts[1]) < HALF_A_YEAR else 0
    yield "redirect to HTTPS", 0 if redirect.headers.get("location", "").startswith("https://") else -20
    yield "nosniff", 0 if answer.headers.get("x-content-type-options") == "nosniff" else -5
    framed = answer.headers.get("x-frame-options", "").upper() in ("DENY", "SAMEORIGIN")
    yield "frames", 5 if csp.get("frame-ancestors") in (["'none'"], ["'self'"]) else 0 if framed else -20
    referrers = {word.strip() for word in answer.headers.get("referrer-policy", "").split(",")}
    yield "referrer policy", 5 if referrers & STRICT_REFERRERS else -5 if "unsafe-url" in referrers else 0
    yield "CORP", 10 if answer.headers.get("cross-origin-resource-policy") in ("same-origin", "same-site") else 0
    yield "CORS", -50 if answer.headers.get("access-control-allow-origin") == "*" else 0
    yield from _scripts(answer)
    yield from _cookies(answer)


def _scripts(answer: httpx.Response) -> Iterator[tuple[str, int]]:
    scripts = Scripts()
    scripts.feed(answer.text)
    elsewhere = [whole for source, whole in scripts.found if re.match(r"(https?:)?//", source)]
    yield "scripts", 0 if not elsewhere else 5 if all(elsewhere) else -50


def _cookies(answer: httpx.Response) -> Iterator[tuple[str, int]]:
    cookies = [cookie.lower() for cookie in answer.headers.get_list("set-cookie")]
    if any("secure" not in cookie for cookie in cookies):
        yield "cookies", -40
    elif any("httponly" not in cookie for cookie in cookies):
        yield "cookies", -30
    elif cookies and all("samesite" in cookie for cookie in cookies):
        yield "cookies", 5


def score(answer: httpx.Response, redirect: httpx.Response) -> int:
    """What the Observatory would give: from 100 on it is an A+."""
    given = [value for _, value in points(answer, redirect)]
    base = 100 + sum(value for value in given if value < 0)
    return base + sum(value for value in given if value > 0) if base >= 90 else base


@pytest.mark.parametrize("path", ["/", "/sign-in", "/docs"])
def test_a_page_has_the_best_grade_for_its_headers(controller: Controller, path: str) -> None:
    with controller.client() as client, httpx.Client() as plain:
        answer = client.get(path)
        redirect = plain.get(f"http://127.0.0.1:{controller.port(80)}{path}")
    assert answer.status_code in (200, 303)
    found = dict(points(answer, redirect))
    assert [name for name, value in found.items() if value < 0] == []
    assert score(answer, redirect) >= 100, found
    # One header of a name, also where both the app and Nginx know of it.
    names = [name.lower() for name, _ in answer.headers.multi_items() if name.lower() != "set-cookie"]
    assert sorted(set(names)) == sorted(names)


@pytest.mark.parametrize(
    ("change", "most"),
    [
        ({"content-security-policy": ""}, 75),
        ({"content-security-policy": "default-src 'self' 'unsafe-inline'"}, 80),
        ({"strict-transport-security": "max-age=60"}, 90 + 25),
        ({"strict-transport-security": ""}, 80),
        ({"set-cookie": "a=b"}, 60),
        ({"access-control-allow-origin": "*"}, 50),
    ],
)
def test_what_the_rules_take_away(change: dict[str, str], most: int) -> None:
    good = {
        "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
        "strict-transport-security": "max-age=31536000",
        "x-content-type-options": "nosniff",
        "referrer-policy": "same-origin",
    }
    redirect = httpx.Response(301, headers={"location": "https://a.example/"})
    assert score(httpx.Response(200, headers=good), redirect) == 120
    assert score(httpx.Response(200, headers={**good, **change}), redirect) <= most
