from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from slipway.base import settings as config
from slipway.base.errors import RefusedError
from slipway.deployment import preflight
from slipway.records import deployment
from slipway.records.deployment import Request
from slipway.release import build, git

from .conftest import GitRepository
from .fakes import Host


@pytest.fixture
def signed(settings: config.Settings, tmp_path: Path) -> config.Settings:
    """An environment that takes tags signed with `tmp_path / "key"`."""
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    signers = tmp_path / "allowed_signers"
    signers.write_text(f"known@example.com {key.with_suffix('.pub').read_text()}")
    return replace(settings, accept="signed-tags", allowed_signers=str(signers))


@pytest.fixture
def bundle(signed: config.Settings, repository: GitRepository, tmp_path: Path) -> Callable[[Request], Path]:
    """Sends the tag `v1` as it is now, beside an empty mirror on the host."""
    repository.git("init", "--quiet", "--bare", str(signed.repository))

    def make(request: Request) -> Path:
        path = tmp_path / "v1.bundle"
        git.bundle(git.Repository(repository.path / ".git"), request.sha, request.tag, [], path)
        return path

    return make


def _sign(repository: GitRepository, key: Path) -> None:
    identity = ("-c", "gpg.format=ssh", "-c", f"user.signingkey={key}")
    repository.git(*identity, "tag", "-s", "--force", "v1", "-m", "v1")


def test_a_tag_that_was_signed_later_has_to_be_sent_again(
    signed: config.Settings, repository: GitRepository, bundle: Callable[[Request], Path], tmp_path: Path
) -> None:
    request = Request(repository.commit({"a": "1"}, tag="v1"), "v1")
    assert preflight.needs_bundle(signed, request)
    build.receive(signed, bundle(request), request.sha)
    assert build.has_commit(signed, request.sha, request.tag)
    assert preflight.needs_bundle(signed, request)
    assert not preflight.needs_bundle(replace(signed, accept="tags"), request)
    _sign(repository, tmp_path / "key")
    build.receive(signed, bundle(request), request.sha)
    assert not preflight.needs_bundle(signed, request)


def test_an_unsigned_tag_is_refused_before_anything_is_open_and_its_bundle_is_deleted(
    host: Host,
    signed: config.Settings,
    repository: GitRepository,
    bundle: Callable[[Request], Path],
) -> None:
    host.engine.settings = signed
    request = Request(repository.commit({"a": "1"}, tag="v1"), "v1")
    sent = bundle(request)
    with pytest.raises(RefusedError, match=r"'v1' is not signed by anyone in .*Sign it with `git tag -s`"):
        host.engine.stage(request, sent)
    assert list(signed.root.glob("incoming-*")) == []
    assert deployment.load(signed.deployment) is None


def test_a_commit_has_to_be_sent_when_its_tag_names_another_one_on_the_host(
    settings: config.Settings, repository: GitRepository, bundle: Callable[[Request], Path]
) -> None:
    old = Request(repository.commit({"a": "1"}, tag="v1"), "v1")
    build.receive(settings, bundle(old), old.sha)
    moved = Request(repository.commit({"a": "2"}), None)
    build.receive(settings, bundle(moved), moved.sha)
    assert not preflight.needs_bundle(settings, moved)
    assert preflight.needs_bundle(settings, Request(moved.sha, "v1"))


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        (Request("1" * 40, "../v1"), "is not a valid name of a tag"),
        (Request("1" * 12, "v1"), "is not a full commit; pass all 40 hex digits"),
    ],
)
def test_invalid_tags_and_short_commits_are_refused(
    settings: config.Settings, request_: Request, sentence: str
) -> None:
    with pytest.raises(RefusedError, match=sentence):
        preflight.check_request(settings, request_)
