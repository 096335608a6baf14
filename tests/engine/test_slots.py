from dataclasses import replace

import pytest

from slipway.base import process
from slipway.base import settings as config
from slipway.base.errors import RefusedError
from slipway.records import manifest
from slipway.slot import envfile, slots

RELEASE = manifest.Manifest("v1-abc", "v1", "abc" * 13 + "a", "", "3.13", "", "")


def test_only_the_link_decides_what_is_live(settings: config.Settings) -> None:
    assert slots.live_slot(settings) is None
    slots.prepare(settings, "green", RELEASE)
    assert slots.live_release(settings) is None, "a prepared slot is not live"
    slots.switch(settings, "green")
    assert slots.live_slot(settings) == "green"
    assert slots.live_release(settings) == "v1-abc"


def test_other_slot_alternates_and_starts_with_blue() -> None:
    assert [slots.other(name) for name in (None, "blue", "green")] == ["blue", "green", "blue"]


def test_a_link_to_an_unknown_place_is_not_a_slot(settings: config.Settings) -> None:
    settings.live.symlink_to("slots/red")
    assert slots.live_slot(settings) is None


def test_the_slots_environment_file_has_the_release_and_is_not_world_readable(settings: config.Settings) -> None:
    slots.prepare(settings, "blue", RELEASE)
    snapshot = settings.slot("blue") / "env"
    assert envfile.read(snapshot) == {
        "DATABASE_URL": "postgresql+asyncpg://logbook@/logbook",
        "SECRET_KEY": "s3cret",
        "RELEASE_TAG": "v1",
        "RELEASE_SHA": RELEASE.sha,
        "PATH": f"{settings.slot('blue')}/release/.venv/bin:{process.PATH}",
        "SLIPWAY_MODULE": "app.main:app",
        "VIRTUAL_ENV": f"{settings.slot('blue')}/release/.venv",
        "PYTHONPATH": f"{settings.slot('blue')}/release",
    }
    assert snapshot.stat().st_mode & 0o777 == 0o640


def test_a_changed_environment_is_noticed_and_reaches_a_slot_only_when_prepared(settings: config.Settings) -> None:
    slots.prepare(settings, "blue", RELEASE)
    assert not slots.inputs_changed(settings, "blue")
    settings.env_file.write_text('SECRET_KEY="another"\n')
    assert slots.inputs_changed(settings, "blue")
    assert envfile.read(settings.slot("blue") / "env")["SECRET_KEY"] == "s3cret"


def test_a_missing_environment_file_is_named(settings: config.Settings) -> None:
    settings.env_file.unlink()
    with pytest.raises(RefusedError, match=str(settings.env_file)):
        slots.prepare(settings, "blue", RELEASE)


def test_another_way_to_ask_whether_it_is_ready_is_another_setting(settings: config.Settings) -> None:
    slots.prepare(settings, "blue", RELEASE)
    for changed in ({"health_path": "/nonsense"}, {"watch_url": "https://b.example.com/"}, {"health_status": [429]}):
        assert slots.inputs_changed(replace(settings, **changed), "blue"), changed
    assert not slots.inputs_changed(replace(settings, health_every=3.0), "blue")
