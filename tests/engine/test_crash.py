"""Unexpected errors and the output of programs: told without what a variable or an URL holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from slipway.base import crash
from slipway.base import settings as config
from slipway.base.errors import SlipwayError
from slipway.base.redact import redact
from slipway.cli import commands, parser
from slipway.slot import envfile
from tests.settings import written

CANARY = "c4n4ry-in-a-value"


def failing() -> Exception:
    """An error with a canary in its message, as the second of a chain."""
    try:
        try:
            int(CANARY)
        except ValueError as first:
            raise KeyError(CANARY) from first
    except KeyError as second:
        return second
    raise AssertionError


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(crash, "HOST_DIRECTORY", tmp_path / "slipway")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path / "slipway"


def test_an_error_is_told_as_a_sentence_and_its_places_are_kept_for_this_user_only(directory: Path) -> None:
    sentence = crash.explain(failing())
    (kept,) = directory.iterdir()
    assert sentence.startswith("Slipway has a defect: KeyError in test_crash.py, line ")
    assert str(kept) in sentence
    text = kept.read_text()
    assert text.index("ValueError") < text.index("which led to:") < text.index("KeyError")
    assert "in failing" in text
    assert CANARY not in sentence + text
    assert (kept.stat().st_mode & 0o777, directory.stat().st_mode & 0o777) == (0o600, 0o700)


def test_only_the_newest_are_kept(directory: Path) -> None:
    directory.mkdir()
    for number in range(30):
        (directory / f"crash-2025{number:04}.txt").touch()
    crash.explain(failing())
    assert len(list(directory.iterdir())) == 20
    assert not (directory / "crash-20250010.txt").exists()
    assert (directory / "crash-20250011.txt").exists()


def test_where_nothing_can_be_written_the_sentence_says_so(directory: Path) -> None:
    directory.write_text("a file in place of the directory")
    assert "No file could be written for its traceback" in crash.explain(failing())


def test_a_group_of_errors_is_kept_with_its_members(directory: Path) -> None:
    crash.explain(ExceptionGroup(CANARY, [failing(), ValueError(CANARY)]))
    (kept,) = directory.iterdir()
    assert {"ExceptionGroup", "KeyError", "ValueError"} <= set(kept.read_text().splitlines())
    assert CANARY not in kept.read_text()


@pytest.mark.parametrize("error", [ValueError(CANARY), RecursionError(CANARY), MemoryError(CANARY)])
def test_no_command_ends_with_a_traceback(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def raises(*_: object) -> None:
        raise error

    monkeypatch.setattr(commands, "show_releases", raises)
    assert parser.main(["releases"]) == 1
    out, err = capsys.readouterr()
    assert out.startswith(f"Slipway has a defect: {type(error).__name__} in ")
    assert len(out.splitlines()) == 1
    assert CANARY not in out + err


def test_an_interrupted_command_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def raises(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "show_releases", raises)
    assert parser.main(["releases"]) == parser.INTERRUPTED
    assert capsys.readouterr().out == "Interrupted.\n"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("input_value='s3cret-value'", "input_value='[KEY]'"),
        ("a line of s3cret-value and pa#ss/word", "a line of [KEY] and [DATABASE_URL]"),
        ("written pa%23ss%2Fword", "written [DATABASE_URL]"),
        ("postgresql://me:pa%23ss%2Fword@db/app", "[DATABASE_URL]"),
        ("cloning https://bot:other@git.example/x", "cloning https://bot:[password]@git.example/x"),
        ("first line of a key", "[PEM] of a key"),
        ("true and info stay", "true and info stay"),
        ("https://example.com:8000/a@b", "https://example.com:8000/a@b"),
    ],
)
def test_values_of_variables_and_passwords_of_urls_are_left_out(text: str, shown: str) -> None:
    variables = {
        "KEY": "s3cret-value",
        "DATABASE_URL": "postgresql://me:pa%23ss%2Fword@db/app",
        "PEM": "first line\nsecond",
        "DEBUG": "true",
        "LEVEL": "info",
    }
    assert redact(text, variables) == shown


def test_paths_that_messages_name_are_no_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What Slipway itself gives to each app: its data directory stands in what is advised."""
    (tmp_path / "env").write_text("ENV=production\nSTATE_DIRECTORY=/var/lib/logbook\nAPI_KEY=s3cret-value\n")
    (tmp_path / "migrate.env").write_text("ENV=production\nAPI_KEY=other-value\n")
    monkeypatch.setattr(config, "SETTINGS_DIRECTORY", tmp_path)
    (tmp_path / "logbook.build.env").write_text("SSL_CERT_FILE=/etc/ssl/x\nTOKEN=build-value\n")
    whole = config.parse(written(tmp_path), source="")
    text = "Write to /var/lib/logbook in production, with s3cret-value, other-value, build-value and /etc/ssl/x"
    shown = "Write to /var/lib/logbook in production, with [API_KEY], [API_KEY in migrate.env], [TOKEN] and /etc/ssl/x"
    assert redact(text, envfile.all_of(whole)) == shown


def test_the_detail_of_a_failure_is_shown_without_the_apps_values(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from slipway.slot import envfile

    def raises(*_: object) -> None:
        raise SlipwayError("It failed.", f"pydantic: input_value='{CANARY}'")

    monkeypatch.setattr(commands, "prune", raises)
    monkeypatch.setattr(config, "load", lambda _: None)
    monkeypatch.setattr(envfile, "all_of", lambda _: {"API_KEY": CANARY})
    assert parser.main(["prune", "logbook"]) == 1
    assert capsys.readouterr().out == "pydantic: input_value='[API_KEY]'\n\nIt failed.\n"
