from pathlib import Path
from typing import Any

import pytest

from slipway.base import settings as config
from slipway.base.errors import RefusedError

REQUIRED: dict[str, Any] = {
    "app": "logbook",
    "environment": "prod",
    "root": "/srv/logbook",
    "user": "logbook",
    "build_user": "logbook_build",
    "migrate_user": "logbook_migrate",
    "env_file": "/etc/logbook/env",
    "migrate_env_file": "/etc/logbook/migrate.env",
    "workers": 2,
}


@pytest.mark.parametrize("name", ["logbook", "a", "my-app-2", "a" * 23])
def test_names_that_can_be_units_users_and_databases(name: str) -> None:
    assert config.check_app_name(name) == name


@pytest.mark.parametrize("name", ["", "Logbook", "2app", "my_app", "a/b", "app-", "a b", "a" * 24, "app\n", "../x"])
def test_names_that_cannot_are_refused_with_the_rule(name: str) -> None:
    with pytest.raises(RefusedError, match="1 to 23 of a-z"):
        config.check_app_name(name)


def test_whole_numbers_do_for_times() -> None:
    assert config.parse({**REQUIRED, "start_deadline": 5}, "test").start_deadline == 5.0


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"workers": "2"}, "'workers' is '2', but must be of type int"),
        ({"workers": True}, "'workers' is True, but must be of type int"),
        ({"workers": 0}, "must be 1 or more"),
        ({"accept": "anything"}, "must be one of tags, signed-tags, commits"),
        ({"accept": "signed-tags"}, "needs 'allowed_signers'"),
        ({"required_env": [1]}, "'required_env' is"),
        ({"build_env": {"A": 1}}, "'build_env' is"),
        ({"auth_check": "/api/v1/deployments"}, "must be a method and a path"),
        ({"auth_check": "POST /a b"}, "must be a method and a path"),
        ({"auth_check": 'POST /"'}, "must be a method and a path"),
        ({"logbook_url": "http://logbook.example.com"}, "must begin with https://"),
        ({"logbook_url": "https://"}, "must begin with https://"),
        ({"logbook_url": "https://bob:pw@logbook.example.com"}, "must begin with https://"),
        ({"logbook_url": "https://logbook.example.com/?a=b"}, "end before '?'"),
        ({"wrokers": 2}, "unknown setting 'wrokers'"),
    ],
)
def test_a_wrong_value_is_named_with_its_file(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(RefusedError) as caught:
        config.parse({**REQUIRED, **change}, "/etc/slipway/logbook.toml")
    assert str(caught.value).startswith("/etc/slipway/logbook.toml: ")
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        *("https://logbook.example.com", "https://10.0.0.1:8443/logbook/", "https://[2001:db8::1]:8443"),
        *("http://127.0.0.1:8000", "http://localhost", "http://[::1]:8000/"),
    ],
)
def test_a_token_travels_encrypted_or_not_at_all(url: str) -> None:
    assert config.parse({**REQUIRED, "logbook_url": url}, "test").logbook_url == url


@pytest.mark.parametrize("name", sorted(REQUIRED))
def test_what_has_no_safe_default_is_required(name: str) -> None:
    values = {key: value for key, value in REQUIRED.items() if key != name}
    with pytest.raises(RefusedError, match=f"'{name}' is missing"):
        config.parse(values, "test")


def test_an_unknown_app_lists_the_known_ones(tmp_path: Path) -> None:
    (tmp_path / "logbook.toml").write_text("")
    with pytest.raises(RefusedError, match=r"No app 'other'.*apps here: logbook"):
        config.load("other", tmp_path)
    (tmp_path / "broken.toml").write_text("=")
    with pytest.raises(RefusedError, match="is not TOML"):
        config.load("broken", tmp_path)
