import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway.base import files, process
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

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(process, "run", killed)
    with pytest.raises(KeyboardInterrupt):
        store.delete(path)
    assert path.is_dir()
    assert store.complete(settings) == {}


def test_a_link_among_the_releases_is_deleted_and_not_followed(settings: config.Settings, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / manifest.COMPLETE).touch()
    (settings.releases / "aa1").symlink_to(other)
    (settings.releases / "aa2.partial").symlink_to(other)
    assert store.complete(settings) == {}
    assert store.prune(settings) == ["aa1", "aa2.partial"]
    assert (other / manifest.COMPLETE).exists()
    assert list(settings.releases.iterdir()) == []


def test_a_release_in_a_slot_is_kept_whatever_state_it_is_in(settings: config.Settings) -> None:
    for name, slot in (("v1", "blue"), ("v2.partial", "green")):
        (settings.releases / name).mkdir()
        (settings.slot(slot) / "release").symlink_to(f"../../releases/{name}")
    assert store.prune(settings) == []
    assert len(list(settings.releases.iterdir())) == 2


def test_a_release_that_is_too_deep_for_a_recursion_is_deleted(settings: config.Settings) -> None:
    deep = settings.releases / "v1.partial"
    deep.mkdir()
    here = os.open(deep, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    assert store.prune(settings) == ["v1.partial"]
    assert not deep.exists()


def _release(settings: config.Settings, name: str) -> Path:
    return write_release(settings, manifest.Manifest(name, name, name, "", "3.13", "", ""))
