"""The settings `data`, `static`, `migrate` and `after_migrate`: all forms of them, and what is wrong with others."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError

from filter_plugins import apps
from roles.app.filter_plugins import app_settings

DECLARED = {"domains": ["a.example.com"], "env": {"SECRET_KEY": "x"}}


def complete(**settings: Any) -> dict[str, Any]:
    return app_settings.complete({**DECLARED, **settings})


@pytest.mark.parametrize(
    ("written", "whole"),
    [
        ("", ["alembic"]),
        ("alembic", ["alembic"]),
        ("alembic  upgrade head", ["alembic"]),
        (["alembic upgrade heads"], ["alembic"]),
        ("alembic -n other upgrade head", ["alembic -n other upgrade head"]),
        ("aerich upgrade", ["aerich upgrade"]),
        (["a b", "c"], ["a b", "c"]),
        (False, []),
        ("false", []),
        ([], []),
    ],
)
def test_migrate(written: Any, whole: list[str]) -> None:
    assert complete(migrate=written)["migrate"] == whole
    assert complete(migrate=whole)["migrate"] == whole, "the whole form stays as it is"


def test_data_and_after_migrate_are_lists() -> None:
    assert complete(data="uploads/", after_migrate="python seed.py")["data"] == ["uploads/"]
    assert complete(after_migrate="python seed.py")["after_migrate"] == ["python seed.py"]
    assert complete()["data"] == complete()["after_migrate"] == complete()["static"] == []


@pytest.mark.parametrize(
    ("written", "whole"),
    [
        ("assets/", [("/assets/", "assets")]),
        ("assets", [("/assets/", "assets")]),
        (["app/static/", "robots.txt"], [("/app/static/", "app/static"), ("/robots.txt", "robots.txt")]),
        ({"/static": "app/static"}, [("/static/", "app/static")]),
        ({"/": "dist/"}, [("/", "dist")]),
        ([{"url": "/icon.ico", "path": "web/icon.ico"}], [("/icon.ico", "web/icon.ico")]),
    ],
)
def test_static(written: Any, whole: list[tuple[str, str]]) -> None:
    places = [{"url": url, "path": path} for url, path in whole]
    assert complete(static=written)["static"] == places
    assert complete(static=places)["static"] == places


def test_nginx_gets_the_place_in_the_release() -> None:
    static = {"/static/": "web/", "/icon.ico": "web/icon.ico", "/robots.txt": "robots.txt"}
    inside = apps.sites(apps.settings({"shop": {**DECLARED, "directory": "backend", "static": static}}))[0]["static"]
    assert inside == [
        {"url": "/static/", "below": "/backend/web", "name": ""},
        {"url": "/robots.txt", "below": "/backend", "name": "robots.txt"},
        {"url": "/icon.ico", "below": "/backend/web", "name": "icon.ico"},
    ]
    on_top = apps.sites(apps.settings({"shop": {**DECLARED, "static": {"/robots.txt": "robots.txt"}}}))[0]["static"]
    assert on_top == [{"url": "/robots.txt", "below": "", "name": "robots.txt"}]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"data": ["/var/data"]}, "data has '/var/data', but must have paths below `directory`"),
        ({"data": ["../up/"]}, "data has '../up/'"),
        ({"data": ["a/../b"]}, "data has 'a/../b'"),
        ({"data": [".venv/"]}, "data has '.venv/'"),
        ({"data": ["."]}, "data has '.'"),
        ({"data": ["a b"]}, "data has 'a b'"),
        ({"data": ["up/", "up/big/"]}, "data has 'up/big/', which is inside of 'up/'"),
        ({"static": {"static/": "x"}}, "static has the URL 'static/'"),
        ({"static": {"/.git/": "x"}}, "static has the URL '/.git/'"),
        ({"static": {"/x/": "."}}, "static has '.' for /x/"),
        ({"static": {"/x/": "../x"}}, "static has '../x' for /x/"),
        ({"static": ["up/big"], "data": ["up/"]}, "but up/ of `data` is the app's own"),
        ({"static": [{"url": "/x/", "path": "a"}, {"url": "/x/", "path": "b"}, "c"]}, "the URL '/x/' twice"),
        ({"migrate": "a && b"}, "migrate has 'a && b', but no shell runs it, which '&&' needs"),
        ({"migrate": "sh -c 'a"}, "in which a quote is not closed"),
        ({"after_migrate": [" "]}, "after_migrate has an empty command"),
    ],
)
def test_what_is_wrong_is_said_with_the_path_of_the_setting(settings: dict[str, Any], sentence: str) -> None:
    found = faults_of(settings)
    assert found
    assert all(item.startswith("apps.shop.") for item in found)
    assert sentence in found[0]


def faults_of(settings: dict[str, Any]) -> list[str]:
    whole = apps.settings({"shop": {**DECLARED, **settings}})["shop"]
    found = app_settings.faults(whole, "shop", "prod", {"SECRET_KEY": "x", "DATABASE_URL": "x"})
    return [item for item in found if not item.startswith("apps.shop.repository")]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"migrate": True}, "migrate is true"),
        ({"migrate": {"run": "x"}}, "migrate is {'run': 'x'}, but must be a list of commands"),
        ({"after_migrate": 7}, "after_migrate is 7"),
        ({"data": {"a": "b"}}, "data is {'a': 'b'}, but must be a list of paths"),
        ({"static": [7]}, "static has 7, but must be"),
        ({"static": [{"url": "/x/"}]}, "static has {'url': '/x/'}"),
    ],
)
def test_what_has_no_form_is_refused(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(AnsibleFilterError, match=r"apps\.shop\.") as caught:
        apps.settings({"shop": {**DECLARED, **settings}})
    assert sentence in str(caught.value)
