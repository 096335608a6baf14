"""Tags as people name them: without -e version= it is the newest stable one. Row 24 of `cases.md`."""

from __future__ import annotations

from pathlib import Path

import pytest

from slipway.base.errors import RefusedError
from slipway.records import versions
from slipway.release import git
from tests.engine.conftest import GitRepository


def resolve(tmp_path: Path, tags: list[str], version: str | None = None) -> str | None:
    tmp_path.mkdir(exist_ok=True)
    repository = GitRepository(tmp_path / "repository")
    for number, tag in enumerate(tags):
        repository.commit({"file": str(number)}, tag=tag)
    if not tags:
        repository.commit({"file": ""})
    return git.resolve(git.open_source(str(repository.path), tmp_path / "cache"), version, "tags").tag


def test_the_newest_stable_tag_is_planned(tmp_path: Path) -> None:
    assert resolve(tmp_path, ["v1.8.0", "v2.0.0-rc.1"]) == "v1.8.0"


def test_a_prerelease_is_deployed_when_it_is_asked_for(tmp_path: Path) -> None:
    assert resolve(tmp_path, ["v1.8.0", "v2.0.0-rc.1"], "v2.0.0-rc.1") == "v2.0.0-rc.1"


def test_of_prereleases_alone_none_is_chosen(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match=r"has only pre-releases, .*: pass -e version=v2\.0\.0-rc\.10, or tag a"):
        resolve(tmp_path, ["v2.0.0-rc.9", "v2.0.0-rc.10", "nightly"])


def test_without_a_version_tag_it_is_said_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match=r"has no version tags\. Tag the commit to deploy"):
        resolve(tmp_path, ["latest", "production"])


def test_a_hint_names_a_stable_tag(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match=r"The newest tag is v1\.8\.0\."):
        resolve(tmp_path, ["v1.8.0", "v2.0.0-rc.1"], "zzz")


@pytest.mark.parametrize(
    "tags",  # the first one is the newest
    [
        ["v1.0.0", "v1.0.0-rc.1", "v1.0.0-alpha", "v1.1.0-beta.2"],
        ["1.0", "1.1rc1", "1.1b2", "1.1a1", "1.1.dev3", "1.1.0.dev1", "2.0-SNAPSHOT", "2.0.0-nightly.20261126"],
        ["v1.10", "v1.9", "v1.2.30"],
        ["2026.11.26", "2026.2.1", "2026.12.1rc1"],
        ["2026-11-26", "2026-02-01", "2025-12-31"],
        ["2026-11-26.2", "2026-11-26"],
        ["20261126", "20260201"],
        ["v1.0.0.post1", "v1.0.0", "v1.0.0rc1"],
        ["v1.0.0-1", "v1.0.0"],
        ["v1.0.0-hotfix.2", "v1.0.0-hotfix.1", "v1.0.0"],
        ["v1.0.0+10", "v1.0.0+9", "v1.0.0"],
        ["V2", "v1"],
        ["v2.0.0-final", "v1.9"],
        ["release-3", "release-2.9", "nightly"],
        ["release/2026-11", "release/2026-10"],
        ["logbook/v1.10.0", "logbook/v1.9.0"],
        ["logbook-1.10.0", "logbook-1.9.0", "logbook-2.0.0rc1"],
        ["v1.0.0", "slipway-2.0.0", "api/v3.0.0"],  # of another thing that is in the same repository
        ["v1.0.0", "v2.0.0-feature-x", "v1.9.9.9.9.dev0"],
    ],
)
def test_the_newest_of_tags_of_other_forms(tags: list[str]) -> None:
    assert versions.newest(tags) == versions.newest(tags[::-1]) == tags[0]


@pytest.mark.parametrize(
    "tags",  # the first one is the newest
    [
        ["v1.0.0-rc.10", "v1.0.0-rc.9"],
        ["1.0rc10", "1.0rc9", "1.0b11", "1.0beta2", "1.0a1", "1.0.dev5"],
        ["1.0-rc.1", "1.0-beta", "1.0-alpha.2", "1.0-alpha.1", "1.0-dev.7"],
    ],
)
def test_the_newest_prerelease(tags: list[str]) -> None:
    assert versions.newest(tags) is None
    assert versions.newest_prerelease(tags) == versions.newest_prerelease(tags[::-1]) == tags[0]


def test_versions_of_several_things_are_not_compared(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match=r"No tag 'v1' in .* several things"):
        resolve(tmp_path / "other", ["api/v1.0.0", "web/v2.0.0"], "v1")
    with pytest.raises(RefusedError, match=r"several things \(api/v1\.0\.0, web/v2\.0\.0\)\. Pass -e version="):
        resolve(tmp_path, ["api/v1.0.0", "web/v2.0.0", "web/v1.0.0"])


@pytest.mark.parametrize("tag", ["nightly", "latest", "v", "prod", "v1 0"])
def test_other_tags_are_no_versions(tag: str) -> None:
    assert versions.parse(tag) is None
