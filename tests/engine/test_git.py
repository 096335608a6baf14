import fcntl
import os
import shutil
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from roles.release.module_utils import commits
from slipway.base.errors import FailedError, RefusedError
from slipway.release import git, revisions

from .conftest import GitRepository


def _source(repository: GitRepository) -> git.Repository:
    return git.open_source(str(repository.path), repository.path / "unused")


def test_a_tag_becomes_the_commit_that_it_names(repository: GitRepository) -> None:
    first = repository.commit({"a": "1"}, tag="v1.0.0", message="First")
    repository.commit({"a": "2"})
    assert git.resolve(_source(repository), "v1.0.0", "tags") == git.Commit(first, "v1.0.0", "First")


def test_without_a_version_it_is_the_newest_tag_not_the_newest_commit(repository: GitRepository) -> None:
    repository.commit({"a": "1"}, tag="v1.10.0")
    repository.commit({"a": "2"}, tag="v1.9.0")
    repository.commit({"a": "3"})
    assert git.resolve(_source(repository), None, "tags").tag == "v1.10.0"


def test_a_repository_without_tags_is_refused_with_the_command(repository: GitRepository) -> None:
    repository.commit({"a": "1"})
    with pytest.raises(RefusedError, match="git tag -a"):
        git.resolve(_source(repository), None, "tags")


def test_an_unknown_tag_is_refused_with_similar_tags(repository: GitRepository) -> None:
    repository.commit({"a": "1"}, tag="v1.0.0")
    with pytest.raises(RefusedError, match=r"No tag 'v1\.0\.1'.*Similar tags: v1\.0\.0"):
        git.resolve(_source(repository), "v1.0.1", "tags")


@pytest.mark.parametrize("accept", ["tags", "signed-tags"])
def test_a_commit_is_refused_where_only_tags_are_accepted(repository: GitRepository, accept: str) -> None:
    sha = repository.commit({"a": "1"})
    with pytest.raises(RefusedError, match="commit without a tag"):
        git.resolve(_source(repository), sha[:10], accept)
    assert git.resolve(_source(repository), sha[:10], "commits") == git.Commit(sha, None, "change")


def test_a_branch_is_accepted_only_where_commits_are(repository: GitRepository) -> None:
    sha = repository.commit({"a": "1"})
    with pytest.raises(RefusedError, match="No tag 'main'"):
        git.resolve(_source(repository), "main", "tags")
    assert git.resolve(_source(repository), "main", "commits").sha == sha


@pytest.mark.parametrize("version", ["--exec=x", "v1;x", "../v1"])
def test_a_version_is_never_an_option_or_a_path(repository: GitRepository, version: str) -> None:
    repository.commit({"a": "1"}, tag="v1")
    with pytest.raises(RefusedError):
        git.resolve(_source(repository), version, "commits")


def test_a_directory_that_is_not_a_repository_is_named(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="not a git repository"):
        git.open_source(str(tmp_path), tmp_path / "cache")


def test_a_url_is_mirrored_and_updated(repository: GitRepository, tmp_path: Path) -> None:
    repository.commit({"a": "1"}, tag="v1")
    url = f"file://{repository.path}"
    assert git.open_source(url, tmp_path / "cache").tags() == ["v1"]
    repository.commit({"a": "2"}, tag="v2")
    assert git.open_source(url, tmp_path / "cache").tags() == ["v1", "v2"]


def test_a_tag_deleted_in_the_remote_is_deleted_in_the_mirror(repository: GitRepository, tmp_path: Path) -> None:
    for tag in ("v1", "v2"):
        repository.commit({"a": tag}, tag=tag)
    url = f"file://{repository.path}"
    git.open_source(url, tmp_path / "cache")
    repository.git("tag", "--delete", "v2")
    assert git.open_source(url, tmp_path / "cache").tags() == ["v1"]


def test_a_mirror_works_after_a_killed_git_left_its_locks(repository: GitRepository, tmp_path: Path) -> None:
    repository.commit({"a": "1"}, tag="v1")
    url = f"file://{repository.path}"
    mirror = git.open_source(url, tmp_path / "cache").path
    repository.commit({"a": "2"}, tag="v2")
    for name in ("refs/tags/v2.lock", "packed-refs.lock", "config.lock"):
        (mirror / name).touch()
    (mirror / "HEAD").unlink()  # it had not even got through its first steps
    assert git.open_source(url, tmp_path / "cache").tags() == ["v1", "v2"]


def test_a_mirror_is_updated_by_one_process_at_a_time(repository: GitRepository, tmp_path: Path) -> None:
    repository.commit({"a": "1"}, tag="v1")
    url = f"file://{repository.path}"
    lock = git.open_source(url, tmp_path / "cache").path.with_suffix(".lock")
    with lock.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        second = threading.Thread(target=git.open_source, args=(url, tmp_path / "cache"), daemon=True)
        second.start()
        second.join(0.5)
        assert second.is_alive()
    second.join(10)
    assert not second.is_alive()


def test_a_git_whose_parent_was_killed_still_holds_the_mirror_lock(
    repository: GitRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """git inherits the descriptor of the lock, and a flock ends only with its last descriptor."""
    repository.commit({"a": "1"}, tag="v1")
    held, wrapper = tmp_path / "held", tmp_path / "bin/git"
    wrapper.parent.mkdir()
    wrapper.write_text(f'#!/bin/sh\nreadlink /proc/$$/fd/* >> {held}\nexec {shutil.which("git")} "$@"\n')
    wrapper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{wrapper.parent}:{os.environ['PATH']}")
    mirror = git.open_source(f"file://{repository.path}", tmp_path / "cache").path
    assert str(mirror.with_suffix(".lock")) in held.read_text().splitlines()


def test_a_remote_that_cannot_be_fetched_is_named(tmp_path: Path) -> None:
    with pytest.raises(FailedError, match=r"file:///nowhere\.git could not be fetched"):
        git.open_source("file:///nowhere.git", tmp_path / "cache")


def test_a_bundle_has_commit_and_tag_and_does_not_change_the_source(repository: GitRepository, tmp_path: Path) -> None:
    first = repository.commit({"a": "1"}, tag="v1")
    second = repository.commit({"a": "2"}, tag="v2")
    references = repository.git("for-each-ref")
    whole, thin = tmp_path / "whole", tmp_path / "thin"
    git.bundle(_source(repository), first, "v1", [], whole)
    git.bundle(_source(repository), second, "v2", [first, "f" * 40], thin)
    assert repository.git("for-each-ref") == references

    mirror = _bare(tmp_path)
    mirror.git("fetch", "--quiet", str(whole), "+refs/*:refs/*")
    mirror.git("fetch", "--quiet", str(thin), "+refs/*:refs/*")
    assert mirror.commit("refs/tags/v2") == second
    with pytest.raises(FailedError):
        _bare(tmp_path, "empty").git("fetch", "--quiet", str(thin), "+refs/*:refs/*")


def test_a_commit_without_a_tag_can_be_bundled(repository: GitRepository, tmp_path: Path) -> None:
    sha = repository.commit({"a": "1"})
    git.bundle(_source(repository), sha, None, [], tmp_path / "bundle")
    mirror = _bare(tmp_path)
    mirror.git("fetch", "--quiet", str(tmp_path / "bundle"), "+refs/*:refs/*")
    assert mirror.has(sha)


def test_an_older_commit_can_be_bundled_for_a_host_with_its_descendants(
    repository: GitRepository, tmp_path: Path
) -> None:
    first = repository.commit({"a": "1"})
    second = repository.commit({"a": "2"}, tag="v2")
    repository.git("tag", "v1", first)  # a lightweight one: no object of its own to send
    git.bundle(_source(repository), first, "v1", [second], tmp_path / "bundle")
    mirror = _bare(tmp_path)
    mirror.git("fetch", "--quiet", str(tmp_path / "bundle"), "+refs/*:refs/*")
    assert mirror.commit("refs/tags/v1") == first


def test_compare_lists_the_commits_between(repository: GitRepository) -> None:
    old = repository.commit({"a": "1"}, message="One")
    new = repository.commit({"a": "2"}, message="Two\u2028lines")
    assert git.compare(_source(repository), old, new) == [(new, "Two\u2028lines")]
    whole = [(new, "Two\u2028lines"), (old, "One")]
    assert git.compare(_source(repository), None, new) == whole
    assert git.compare(_source(repository), "f" * 40, new) == whole, "a live commit that is gone from the source"
    assert git.compare(_source(repository), new, old) == [], "the older one adds nothing"


def test_migrations_are_read_from_a_commit(repository: GitRepository) -> None:
    first = 'revision = "0001"\ndown_revision = None\n'
    second = 'import x\nrevision: str = "0002"\ndown_revision: str | None = "0001"\n'
    old = repository.commit({"app/migrations/versions/0001_first.py": first, "other.py": 'revision = "x"\n'})
    new = repository.commit({"app/migrations/versions/0002_notes.py": second})
    assert set(git.migrations(_source(repository), old)) == {"0001"}
    found = git.migrations(_source(repository), new)
    assert found["0002"] == revisions.Script("0002", "0002_notes.py", ("0001",))


def test_only_an_allowed_signer_is_accepted(repository: GitRepository, tmp_path: Path) -> None:
    keys = {}
    for name in ("known", "stranger"):
        key = tmp_path / name
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
        keys[name] = key
    signers = tmp_path / "allowed_signers"
    signers.write_text(f"known@example.com {keys['known'].with_suffix('.pub').read_text()}")
    repository.commit({"a": "1"}, tag="v-unsigned")
    for name, key in keys.items():
        repository.git("-c", "gpg.format=ssh", "-c", f"user.signingkey={key}", "tag", "-s", f"v-{name}", "-m", "x")

    repository.git("tag", "v-light")
    assert git.signature_problem(_source(repository), "v-known", signers) == ""
    for tag in ("v-stranger", "v-unsigned", "v-light", "v-none"):
        assert git.signature_problem(_source(repository), tag, signers), tag


def test_a_signature_of_another_kind_is_none(
    repository: GitRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """git lets the signature choose who looks at it: with PGP that is a `gpg` with whatever keys it has."""
    gpg = tmp_path / "bin/gpg"
    gpg.parent.mkdir()
    said = "\\n[GNUPG:] GOODSIG 1 x\\n[GNUPG:] TRUST_ULTIMATE 0 pgp\\n"
    gpg.write_text(f"#!/bin/sh\ncat >/dev/null\nprintf '{said}'\n")
    gpg.chmod(0o755)
    monkeypatch.setenv("PATH", str(gpg.parent), prepend=":")
    sha = repository.commit({"a": "1"})
    block = "-----BEGIN PGP SIGNATURE-----\n\nx\n-----END PGP SIGNATURE-----\n"
    tag = f"object {sha}\ntype commit\ntag v1\ntagger x <x@example.com> 0 +0000\n\nx\n{block}"
    made = subprocess.run(
        ["git", "-C", str(repository.path), "hash-object", "-t", "tag", "-w", "--stdin"],
        input=tag, capture_output=True, text=True, check=True,
    )  # fmt: skip
    repository.git("update-ref", "refs/tags/v1", made.stdout.strip())
    plain = _source(repository).run("verify-tag", "refs/tags/v1")
    assert plain.returncode == 0, "the case is one that git believes"
    signers = tmp_path / "allowed_signers"
    signers.write_text("")
    assert git.signature_problem(_source(repository), "v1", signers)


def test_a_signed_tag_under_another_name_is_not_signed(repository: GitRepository, tmp_path: Path) -> None:
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    signers = tmp_path / "allowed_signers"
    signers.write_text(f"known@example.com {key.with_suffix('.pub').read_text()}")
    repository.commit({"a": "1"})
    repository.git("-c", "gpg.format=ssh", "-c", f"user.signingkey={key}", "tag", "-s", "v1", "-m", "x")
    repository.git("update-ref", "refs/tags/v99", "refs/tags/v1")
    assert git.signature_problem(_source(repository), "v1", signers) == ""
    assert "is not an annotated tag of that name" in git.signature_problem(_source(repository), "v99", signers)


def _bare(tmp_path: Path, name: str = "mirror") -> git.Repository:
    path = tmp_path / f"{name}.git"
    subprocess.run(["git", "init", "--quiet", "--bare", str(path)], check=True)
    return git.Repository(path)


# Where a repository is, and what is kept of it on the controller


@pytest.mark.parametrize("accept", ["tags", "commits"])
@pytest.mark.parametrize("scheme", ["http", "git", "HTTP", "ftp"])
def test_a_repository_that_others_can_change_on_its_way_is_refused(tmp_path: Path, scheme: str, accept: str) -> None:
    location = f"{scheme}://alice:t0ken@git.example.com/app.git"
    with pytest.raises(
        RefusedError, match=r"is at git\.example\.com over .* Use https or ssh, or deploy signed"
    ) as error:
        git.open_source(location, tmp_path / "cache", accept)
    assert "t0ken" not in str(error.value)
    assert not (tmp_path / "cache").exists(), "nothing was fetched"


@pytest.mark.parametrize(
    "location",
    [
        "https://example.com/a.git",
        "ssh://git@example.com/a.git",
        "git@example.com:a.git",
        "http://127.0.0.1:3000/a.git",
    ],
)
def test_other_repositories_are_not(location: str) -> None:
    assert git.transport_problem(location, "tags") == ""


def test_a_signed_tag_may_come_on_any_way() -> None:
    assert git.transport_problem("http://git.example.com/a.git", "signed-tags") == ""


def test_the_account_in_a_url_is_not_shown_when_it_cannot_be_fetched(tmp_path: Path) -> None:
    for account in ("t0ken", "alice:t0ken"):
        with pytest.raises(
            FailedError, match=r"The repository http://127\.0\.0\.1:1/a\.git could not be fetched"
        ) as error:
            git.open_source(f"http://{account}@127.0.0.1:1/a.git", tmp_path / "cache")
        assert "t0ken" not in str(error.value) + error.value.detail


@pytest.mark.parametrize("mask", [0o000, 0o022])
def test_what_is_kept_of_a_repository_is_its_owners_alone(repository: GitRepository, tmp_path: Path, mask: int) -> None:
    sha = repository.commit({"a": "1"}, tag="v1")
    cache = tmp_path / "cache"
    cache.mkdir(mode=0o755)  # by an earlier version
    before = os.umask(mask)
    try:
        source = git.open_source(f"file://{repository.path}", cache)
        git.bundle(source, sha, "v1", [], tmp_path / "out/bundle")
    finally:
        os.umask(before)
    assert cache.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in cache.glob("*.lock")} == {0o600}
    assert (tmp_path / "out/bundle").stat().st_mode & 0o777 == 0o600


def test_a_bundle_that_cannot_be_made_leaves_no_file(repository: GitRepository, tmp_path: Path) -> None:
    repository.commit({"a": "1"}, tag="v1")
    with pytest.raises(FailedError):
        git.bundle(_source(repository), "f" * 40, None, [], tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_a_bundle_for_a_host_never_has_a_name(repository: GitRepository, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that is killed could not remove it."""
    sha = repository.commit({"a": "1"}, tag="v1")
    monkeypatch.setattr(commits.Commits, "__init__", lambda self, source: setattr(self, "_source", source))
    made = commits.Commits(_source(repository))  # type: ignore[call-arg, arg-type]
    seen: list[str] = []
    write = git.write_bundle

    def watched(*arguments: Any) -> None:
        write(*arguments)
        seen.append(str(Path(f"/proc/self/fd/{arguments[-1].fileno()}").readlink()))

    monkeypatch.setattr(git, "write_bundle", watched)
    assert made.bundle(sha, "v1", []).startswith(b"# v2 git bundle")
    assert seen[0].endswith("(deleted)")
