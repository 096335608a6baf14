"""Secrets that the host makes: once, kept, and rotated so that the app can accept the old one as well."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from slipway.base import settings as config
from slipway.base.errors import RefusedError
from slipway.base.output import Reporter
from slipway.deployment.engine import Engine
from slipway.slot import cutover, envfile, secrets, slots

from .fakes import Host
from .test_slots import RELEASE


@pytest.fixture
def asking(settings: config.Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> config.Settings:
    """An app that leaves SECRET_KEY to the host."""
    monkeypatch.setattr(config, "SETTINGS_DIRECTORY", tmp_path)
    settings.env_file.write_text('DATABASE_URL="postgresql+asyncpg://logbook@/logbook"\n')
    return replace(settings, generated_env=["SECRET_KEY"])


def live(asking: config.Settings) -> dict[str, str]:
    """What a slot that is started now, and takes traffic, has."""
    slots.prepare(asking, "blue", RELEASE)
    slots.switch(asking, "blue")
    return envfile.read(asking.slot("blue") / "env")


def test_a_value_is_made_once_and_only_root_reads_it(asking: config.Settings) -> None:
    assert secrets.complete(asking) == ["SECRET_KEY"]
    made = envfile.of_app(asking)["SECRET_KEY"]
    assert len(made) >= 64
    assert asking.generated_env_file.stat().st_mode & 0o777 == 0o600
    assert secrets.complete(asking) == []
    assert envfile.of_app(asking)["SECRET_KEY"] == made
    assert secrets.complete(replace(asking, generated_env=["SECRET_KEY", "SALT"])) == ["SALT"]
    assert envfile.of_app(asking)["SECRET_KEY"] == made
    assert "SALT" not in envfile.of_app(asking), "the app did not ask for it"


def test_two_hosts_make_different_values(asking: config.Settings) -> None:
    secrets.complete(asking)
    first = envfile.of_app(asking)["SECRET_KEY"]
    asking.generated_env_file.unlink()
    secrets.complete(asking)
    assert envfile.of_app(asking)["SECRET_KEY"] != first


def test_alembic_gets_it_and_messages_do_not(asking: config.Settings) -> None:
    secrets.complete(asking)
    made = envfile.of_app(asking)["SECRET_KEY"]
    assert envfile.of_migrations(asking)["SECRET_KEY"] == made
    assert made in envfile.all_of(asking).values()


def test_a_rotated_value_is_kept_beside_the_new_one(asking: config.Settings) -> None:
    secrets.complete(asking)
    old = live(asking)["SECRET_KEY"]
    assert secrets.rotate(asking, "SECRET_KEY")
    assert slots.inputs_changed(asking, "blue"), "the next deploy has a reason"
    assert live(asking)["SECRET_KEY"] != old
    assert live(asking)["SECRET_KEY_PREVIOUS"] == old


def test_what_is_not_live_yet_is_not_rotated_again(asking: config.Settings) -> None:
    secrets.complete(asking)
    old = live(asking)["SECRET_KEY"]
    assert secrets.rotate(asking, "SECRET_KEY")
    assert not secrets.rotate(asking, "SECRET_KEY"), "the value that is live would be forgotten"
    assert live(asking)["SECRET_KEY_PREVIOUS"] == old
    assert secrets.rotate(asking, "SECRET_KEY")


def test_a_release_that_never_had_the_value_does_not_stop_a_rotation(asking: config.Settings) -> None:
    before = live(asking)
    assert "SECRET_KEY" not in before
    secrets.complete(asking)
    assert secrets.rotate(asking, "SECRET_KEY")


def test_a_value_of_the_inventory_is_not_rotated_here(asking: config.Settings) -> None:
    with pytest.raises(RefusedError, match=r"SENTRY_DSN is not made by the host \(made here: SECRET_KEY\)"):
        secrets.rotate(asking, "SENTRY_DSN")
    assert not asking.generated_env_file.exists()


def test_what_the_inventory_says_counts_more(asking: config.Settings) -> None:
    secrets.complete(asking)
    asking.env_file.write_text('SECRET_KEY="of the inventory"\n')
    assert envfile.of_app(asking)["SECRET_KEY"] == "of the inventory"


def test_without_its_value_nothing_is_started(asking: config.Settings) -> None:
    with pytest.raises(RefusedError, match=r"SECRET_KEY of logbook is made by the host, and is not there. Run site"):
        cutover.check_environment(asking)
    secrets.complete(asking)
    cutover.check_environment(asking)


def test_a_credential_is_a_file_and_no_variable_of_the_slot(asking: config.Settings) -> None:
    secrets.complete(asking)
    asking = replace(asking, credentials=["SECRET_KEY", "SECRET_KEY_PREVIOUS"])
    assert not {"SECRET_KEY", "SECRET_KEY_PREVIOUS"} & set(live(asking))
    directory = asking.slot("blue") / "credentials"
    made = envfile.of_app(asking)["SECRET_KEY"]
    assert {path.name: path.read_text() for path in directory.iterdir()} == {
        "SECRET_KEY": made,
        "SECRET_KEY_PREVIOUS": "",  # systemd wants the file
    }
    assert (directory / "SECRET_KEY").stat().st_mode & 0o777 == 0o600
    assert slots.given(asking, "blue")["SECRET_KEY"] == made, "slipway run has it"
    assert envfile.of_migrations(asking)["SECRET_KEY"] == made
    assert secrets.rotate(asking, "SECRET_KEY")
    assert not secrets.rotate(asking, "SECRET_KEY"), "what is live has the value before"
    assert live(replace(asking, credentials=[]))["SECRET_KEY_PREVIOUS"] == made
    assert list(directory.iterdir()) == [], "and none is left that is not given any more"


def test_the_commands_say_what_is_to_be_started_anew(asking: config.Settings, host: Host) -> None:
    engine = Engine(asking, Reporter(as_json=True, stream=host.stream))
    assert engine.generate().message == "made SECRET_KEY"
    assert not engine.generate().changed
    assert engine.rotate("SECRET_KEY").live is None
