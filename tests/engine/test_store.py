import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway.base import files
from slipway.base import settings as config
from slipway.records import journal, manifest
from slipway.release import build, store

from .conftest import entry
from .fakes import write_release


def test_releases_with_the_oldest_deploy_are_pruned_first() -> None:
    order = ["v1", "v2", "v3", "v4"]
    assert store.to_prune(order, order, 2, {"v4", "v3"}) == ["v1", "v2"]
    assert store.to_prune([*order, "v5-failed"], order, 4, {"v4", "v3"}) == ["v5-failed"]


def test_nothing_is_pruned_up_to_keep_releases() -> None:
    assert store.to_prune(["v1", "v2"], ["v1", "v2"], 5, {"v2"}) == []


NAMES = st.sampled_from([f"v{number}" for number in range(12)])


@given(st.sets(NAMES), st.lists(NAMES, unique=True), st.integers(1, 6), st.sets(NAMES, max_size=3))
def test_protected_releases_are_never_pruned(
    present: set[str], order: list[str], keep: int, protected: set[str]
) -> None:
    doomed = store.to_prune(present, order, keep, protected)
    assert not set(doomed) & protected
    assert len(present) - len(doomed) >= min(keep, len(present))
    if len(doomed) < len(present) - keep:
        assert set(present) - set(doomed) <= protected


def test_prune_on_disk_keeps_live_and_previous_and_clears_leftovers(settings: config.Settings) -> None:
    for name, was in (("v1", None), ("v2", "v1"), ("v3", "v2")):
        _release(settings, name)
        journal.append(settings.journal, entry(name, was=was))
    (settings.releases / "v4.partial").mkdir()
    files.link_atomically(settings.slot("green") / "release", "../../releases/v3")
    files.link_atomically(settings.live, "slots/green")
    narrow = replace(settings, keep_releases=1)
    assert store.prune(narrow, target="v1") == ["v4.partial"]
    assert store.prune(narrow) == ["v1"]
    assert sorted(path.name for path in settings.releases.iterdir()) == ["v2", "v3"]


def test_prune_keeps_what_an_idle_slot_is_set_up_for(settings: config.Settings) -> None:
    for name in ("v1", "v2"):
        _release(settings, name)
    files.link_atomically(settings.slot("blue") / "release", "../../releases/v1")
    assert store.prune(replace(settings, keep_releases=1)) == ["v2"]


def test_prune_deletes_a_bundle_only_when_no_command_reads_it_any_more(
    settings: config.Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "chown", lambda *_: None)
    (settings.root / "incoming-forgotten.bundle").touch()
    sent = settings.root / "sent"
    sent.write_text("bundle")
    with build.incoming(settings, sent) as read:
        assert store.prune(settings) == ["incoming-forgotten.bundle"]
        assert read.read_text() == "bundle"


def test_delete_removes_the_complete_marker_first(settings: config.Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _release(settings, "v1")

    def killed(_: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("shutil.rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        store.delete(path)
    assert path.is_dir()
    assert store.complete(settings) == {}


def _release(settings: config.Settings, name: str) -> Path:
    return write_release(settings, manifest.Manifest(name, name, name, "", "3.13", "", ""))
