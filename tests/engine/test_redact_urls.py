"""A URL whose password has signs that end it: no program's error shows a part of it."""

from __future__ import annotations

import configparser
from urllib.parse import urlsplit

import pytest

from slipway.base.redact import redact

PASSWORDS = ["c4n4ry#fragment", "ab#longersecret", "pa/th0fsecret", "que?rysecret", "50%25half", "wi@thatsecret"]


def errors(url: str) -> list[str]:
    """What programs say of such a URL."""
    found = [f"could not connect to {url}", f"invalid dsn: {url.replace('asyncpg', 'psycopg')}"]
    try:
        found.append(repr(urlsplit(url).port))
    except ValueError as error:
        found.append(repr(error))
    try:
        found.append(str(int(url.split(":")[2].partition("#")[0].partition("/")[0])))
    except ValueError as error:
        found.append(repr(error))
    parser = configparser.ConfigParser()
    parser.add_section("alembic")
    try:
        parser.set("alembic", "sqlalchemy.url", url)
    except ValueError as error:  # env.py that does not double %
        found.append(str(error))
    found.append(f'psql: error: invalid port number: "{url.split(":")[2].partition("#")[0]}"')
    found.append(f'could not translate host name "{url.rpartition("@")[0].rpartition("#")[2]}"')
    return found


@pytest.mark.parametrize("password", PASSWORDS)
def test_no_error_shows_a_part_of_a_password(password: str) -> None:
    url = f"postgresql+asyncpg://me:{password}@db.example.com/app"
    for error in errors(url):
        shown = redact(error, {"DATABASE_URL": url})
        for part in (password, *(part for part in password.replace("#", "/").split("/") if len(part) > 3)):
            assert part not in shown, shown
        assert f"'{password.partition('#')[0]}'" not in shown, shown


def test_other_numbers_and_urls_stay() -> None:
    url = "postgresql://me:s3cr3tpassword@db/app"
    text = "ValueError: invalid literal for int() with base 10: 'ten'; see https://example.com:8443/a"
    assert redact(text, {"DATABASE_URL": url}) == text
