from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from slipway.base import files
from slipway.base import settings as config
from slipway.base.errors import FailedError, RefusedError
from slipway.records import manifest
from slipway.release import build, git, store
from slipway.slot import envfile

from .conftest import GitRepository


@pytest.fixture(autouse=True)
def no_variables_of_builds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(envfile, "of_builds", lambda _: {})


def test_the_live_release_is_never_deleted_to_be_built_again(settings: config.Settings) -> None:
    release = settings.release("v1-a")
    release.mkdir()
    (release / manifest.NAME).write_text("{torn")
    files.link_atomically(settings.slot("blue") / "release", "../../releases/v1-a")
    files.link_atomically(settings.live, "slots/blue")
    with pytest.raises(FailedError, match=r"v1 \(a{12}\) is not in .* any more, so its release cannot be built again"):
        build.build(settings, "v1-a", "v1", "a" * 40)
    assert (release / manifest.NAME).exists()
    assert store.prune(settings) == []
    assert (release / manifest.NAME).exists()


def test_a_failed_build_leaves_no_directory(settings: config.Settings) -> None:
    (settings.releases / "v1-a.partial").mkdir()
    with pytest.raises(FailedError, match=r"v1 \(a{12}\) is not in .* any more, so its release cannot be built again"):
        build.build(settings, "v1-a", "v1", "a" * 40)
    assert list(settings.releases.iterdir()) == []


@pytest.mark.parametrize(
    ("megabytes", "inodes", "sentence"),
    [(99, 5000, "99 MB free, but a release needs 100 MB"), (100, 999, "999 inodes free, but a release needs 1000")],
)
def test_too_little_disk_space_is_refused_with_both_numbers(
    settings: config.Settings, monkeypatch: pytest.MonkeyPatch, megabytes: int, inodes: int, sentence: str
) -> None:
    usage = SimpleNamespace(f_bavail=megabytes, f_frsize=2**20, f_files=10_000, f_favail=inodes)
    monkeypatch.setattr(os, "statvfs", {settings.releases: usage}.__getitem__)  # where they are, which may be elsewhere
    with pytest.raises(RefusedError, match=sentence):
        build.check_space(replace(settings, min_free_mb=100, min_free_inodes=1000))


def test_a_file_system_without_a_fixed_number_of_inodes_is_not_refused(
    settings: config.Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = SimpleNamespace(f_bavail=100, f_frsize=2**20, f_files=0, f_favail=0)
    monkeypatch.setattr(os, "statvfs", lambda _: usage)
    build.check_space(replace(settings, min_free_mb=100, min_free_inodes=1000))


@pytest.fixture
def source(settings: config.Settings, repository: GitRepository) -> git.Repository:
    """What bundles are made from, beside an empty mirror on the host."""
    repository.git("init", "--quiet", "--bare", str(settings.repository))
    return git.open_source(str(repository.path), repository.path / "unused")


def test_a_bundle_is_fetched_into_the_mirror_and_must_contain_the_commit(
    settings: config.Settings, repository: GitRepository, source: git.Repository, tmp_path: Path
) -> None:
    sha = repository.commit({"a": "1"}, tag="v1")
    git.bundle(source, sha, "v1", [], tmp_path / "bundle")
    with pytest.raises(FailedError, match="does not contain commit ffffffffffff"):
        build.receive(settings, tmp_path / "bundle", "f" * 40)
    assert build.repository(settings).commit("refs/tags/v1") == sha


def test_a_damaged_bundle_does_not_change_the_mirror(
    settings: config.Settings, repository: GitRepository, source: git.Repository, tmp_path: Path
) -> None:
    sha = repository.commit({"a": "1"}, tag="v1")
    bundle = tmp_path / "bundle"
    git.bundle(source, sha, "v1", [], bundle)
    bundle.write_bytes(bundle.read_bytes()[:-30])
    with pytest.raises(FailedError, match="git fetch failed"):
        build.receive(settings, bundle, sha)
    assert build.repository(settings).tags() == []


def test_a_missing_bundle_is_named(settings: config.Settings, tmp_path: Path) -> None:
    with (
        pytest.raises(RefusedError, match=r"There is no bundle at .*/none"),
        build.incoming(settings, tmp_path / "none"),
    ):
        pass


def test_a_bundle_is_fetched_after_a_killed_git_left_its_locks(
    settings: config.Settings, repository: GitRepository, source: git.Repository, tmp_path: Path
) -> None:
    sha = repository.commit({"a": "1"}, tag="v1")
    git.bundle(source, sha, "v1", [], tmp_path / "bundle")
    (settings.repository / "refs/tags/v1.lock").touch()
    build.receive(settings, tmp_path / "bundle", sha)
    assert build.repository(settings).commit("refs/tags/v1") == sha
