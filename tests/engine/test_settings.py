import dataclasses
from pathlib import Path
from typing import Any

import pytest

from slipway.base import settings as config
from slipway.base.errors import RefusedError
from tests.settings import written

VALUES = written()


@pytest.mark.parametrize("name", ["logbook", "a", "my-app-2", "a" * 23])
def test_valid_app_names(name: str) -> None:
    assert config.check_app_name(name) == name


@pytest.mark.parametrize("name", ["", "Logbook", "2app", "my_app", "a/b", "app-", "a b", "a" * 24, "app\n", "../x"])
def test_invalid_app_names_are_refused_with_the_rule(name: str) -> None:
    with pytest.raises(RefusedError, match="1 to 23 of a-z"):
        config.check_app_name(name)


def test_integers_are_accepted_for_times() -> None:
    assert config.parse({**VALUES, "start_deadline": 5}, "test").start_deadline == 5.0


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"workers": "2"}, "'workers' is '2', but must be of type int"),
        ({"workers": True}, "'workers' is True, but must be of type int"),
        ({"workers": 0}, "must be 1 or more"),
        ({"accept": "anything"}, "must be one of tags, signed-tags, commits"),
        ({"accept": "signed-tags"}, "needs 'allowed_signers'"),
        ({"required_env": [1]}, "'required_env' is"),
        ({"auth_check": "/api/v1/deployments"}, "must be a method and a path"),
        ({"auth_check": "POST /a b"}, "must be a method and a path"),
        ({"auth_check": 'POST /"'}, "must be a method and a path"),
        ({"logbook_url": "http://logbook.example.com"}, "must begin with https://"),
        ({"logbook_url": "https://"}, "must begin with https://"),
        ({"logbook_url": "https://bob:pw@logbook.example.com"}, "must begin with https://"),
        ({"logbook_url": "https://logbook.example.com/?a=b"}, "end before '?'"),
        ({"accept": 1}, "must be one of tags, signed-tags, commits"),
        *(
            ({"directory": value}, "must be the path of a directory in the repository")
            for value in ("/backend", "../backend", "a/../b", "backend/", "a b", ".", ".venv", "%i")
        ),
        ({"on_incompatible": "wait"}, "must be one of stop, continue"),
    ],
)
def test_a_wrong_value_is_named_with_its_file(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(RefusedError) as caught:
        config.parse({**VALUES, **change}, "/etc/slipway/logbook.toml")
    assert str(caught.value).startswith("/etc/slipway/logbook.toml: ")
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        *("https://logbook.example.com", "https://10.0.0.1:8443/logbook/", "https://[2001:db8::1]:8443"),
        *("http://127.0.0.1:8000", "http://localhost", "http://[::1]:8000/"),
    ],
)
def test_logbook_url_must_be_https_except_on_this_host(url: str) -> None:
    assert config.parse({**VALUES, "logbook_url": url}, "test").logbook_url == url


@pytest.mark.parametrize("name", sorted(config.Settings.__dataclass_fields__))
def test_a_setting_that_is_missing_is_refused_with_what_to_run(name: str) -> None:
    values = {key: value for key, value in VALUES.items() if key != name}
    with pytest.raises(RefusedError, match=f"^test: '{name}' is missing. Run site.yml"):
        config.parse(values, "test")


def test_no_setting_has_a_default_in_the_engine() -> None:
    fields = dataclasses.fields(config.Settings)
    defaults = [item for item in fields if (item.default, item.default_factory) != (dataclasses.MISSING,) * 2]
    assert [item.name for item in defaults] == []


def test_a_setting_that_the_engine_does_not_know_is_ignored() -> None:
    assert config.parse({**VALUES, "of_a_newer_role": 2}, "test") == config.parse(VALUES, "test")


def test_an_unknown_app_lists_the_known_ones(tmp_path: Path) -> None:
    (tmp_path / "logbook.toml").write_text("")
    with pytest.raises(RefusedError, match=r"No app 'other'.*apps here: logbook"):
        config.load("other", tmp_path)
    (tmp_path / "broken.toml").write_text("=")
    with pytest.raises(RefusedError, match="is not TOML"):
        config.load("broken", tmp_path)


@pytest.mark.parametrize("directory", ["", "backend", "services/api-1"])
def test_an_app_runs_in_its_directory_of_the_release(directory: str) -> None:
    settings = config.parse({**VALUES, "directory": directory}, "test")
    assert settings.workdir(Path("/srv/r")) == Path("/srv/r", directory)
