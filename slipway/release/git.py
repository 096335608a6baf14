"""Git, on the controller (resolve, bundle, compare) and on a host (receive, verify, export)."""

from __future__ import annotations

import fcntl
import hashlib
import re
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from slipway.base import process
from slipway.base.errors import FailedError, RefusedError
from slipway.records import versions
from slipway.release import revisions

_SHA = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_ABBREVIATED = re.compile(r"[0-9a-f]{7,64}")

# Without git's background maintenance, which would go on writing after the command has ended.
_ALONE = ("-c", "gc.autoDetach=false", "-c", "maintenance.autoDetach=false")

# Each commit also has a ref of the engine's own, so that a bundle can have a commit without a tag, and `gc` keeps it.
KEEP = "refs/slipway/"


@dataclass(frozen=True)
class Commit:
    """The commit of a version."""

    sha: str
    tag: str | None
    subject: str


@dataclass(frozen=True)
class Repository:
    """A git repository on this machine, used as `user` (None: the current user)."""

    path: Path
    user: str | None = None
    home: Path | None = None

    def git(self, *arguments: str, check: bool = True, inherited: Sequence[int] = ()) -> str:
        """Standard output of `git <arguments>`; FailedError with git's error message when it fails."""
        environment = None
        if self.user is not None:
            environment = {"HOME": str(self.home or self.path), "GIT_TERMINAL_PROMPT": "0"}
        result = process.run(
            ["git", "-C", self.path, *_ALONE, *arguments],
            user=self.user,
            environment=environment,
            inherited=inherited,
        )
        if check and result.returncode != 0:
            raise FailedError(f"git {arguments[0]} failed in {self.path}.", process.tail(result.stderr))
        return result.stdout.strip() if result.returncode == 0 else ""

    def fetch(self, source: str | Path, *options: str, inherited: Sequence[int] = ()) -> None:
        """Fetch all refs of another repository or a bundle. No other process may be writing to this repository.

        A git process that was killed may have left lock files, with which the next one would fail. They are removed.
        """
        process.run(["find", self.path, "-name", "*.lock", "-delete"], user=self.user)  # no ref can have such a name
        arguments = ("fetch", "--quiet", "--no-write-fetch-head", *options, str(source), "+refs/*:refs/*")
        self.git(*arguments, inherited=inherited)

    def tags(self) -> list[str]:
        return self.git("tag", "--list").splitlines()

    def commit(self, revision: str) -> str | None:
        """The full hash of the commit that `revision` names; None when there is none."""
        if revision.startswith("-"):
            return None
        return self.git("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}", check=False) or None

    def subject(self, sha: str) -> str:
        return self.git("log", "-1", "--format=%s", sha)

    def has(self, sha: str) -> bool:
        return self.commit(sha) is not None

    def holds(self, commit: str, sha: str) -> bool:
        """Whether `sha` is `commit` or one of its ancestors."""
        return self.git("merge-base", sha, commit, check=False) == sha


def is_sha(text: str) -> bool:
    """Whether `text` is a full hash."""
    return bool(_SHA.fullmatch(text))


def resolve(repository: Repository, version: str | None, accept: str) -> Commit:
    """Find the commit of a version.

    Without `version` it is the newest tag. RefusedError when there is no such tag (similar ones are listed), or when it
    is a commit without a tag and `accept` is not "commits".
    """
    tags = repository.tags()
    if version is None:
        version = versions.newest(tags)
        if version is None:
            raise RefusedError(
                f"{repository.path} has no version tags. Tag the commit to deploy, for example "
                "`git tag -a v1.0.0 -m v1.0.0`, or pass -e version=<tag>."
            )
    if version in tags:
        if not versions.is_tag(version):
            raise RefusedError(f"The tag '{version}' has characters that are not allowed in the name of a directory.")
        sha = repository.commit(f"refs/tags/{version}")
        if sha is None:
            raise RefusedError(f"The tag '{version}' does not name a commit.")
        return Commit(sha, version, repository.subject(sha))
    named_by_sha = bool(_ABBREVIATED.fullmatch(version))
    sha = repository.commit(version) if accept == "commits" or named_by_sha else None
    if sha is None:
        similar = versions.near(version, tags)
        hint = f" Similar tags: {', '.join(similar)}." if similar else _newest_hint(tags)
        raise RefusedError(f"No tag '{version}' in {repository.path}.{hint}")
    if accept != "commits":
        raise RefusedError(
            f"'{version}' is a commit without a tag, and this environment deploys {accept.replace('-', ' ')} only "
            f"(accept: {accept}). Create a tag for it and deploy the tag."
        )
    return Commit(sha, None, repository.subject(sha))


def _newest_hint(tags: Sequence[str]) -> str:
    newest = versions.newest(tags)
    return f" The newest tag is {newest}." if newest else " It has no version tags."


def open_source(location: str, cache: Path) -> Repository:
    """The repository at `location`, a directory or a URL; a URL is mirrored below `cache`, and the mirror updated.

    RefusedError when the directory is not a repository; FailedError when the remote cannot be fetched.
    """
    if "://" not in location and not re.match(r"[\w.-]+@[\w.-]+:", location):
        path = Path(location).expanduser()
        if not path.is_dir() or not Repository(path).git("rev-parse", "--git-dir", check=False):
            raise RefusedError(f"'{location}' is not a git repository; set the app's 'repository' to a path or a URL.")
        return Repository(path.resolve())
    mirror = cache / f"{hashlib.sha256(location.encode()).hexdigest()[:16]}.git"
    cache.mkdir(parents=True, exist_ok=True)
    with mirror.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # git inherits it, and so still holds it if this process is killed
        try:
            process.run(["git", "init", "--quiet", "--bare", mirror])
            Repository(mirror).fetch(location, "--prune", inherited=[lock.fileno()])
        except FailedError as error:
            raise FailedError(f"The repository {location} could not be fetched.", error.detail) from error
    return Repository(mirror)


def bundle(source: Repository, sha: str, tag: str | None, have: Iterable[str], output: Path) -> None:
    """Write a git bundle with `sha` (and its tag) to `output`, without the commits in `have` and their ancestors.

    The source repository is only read: the refs for the bundle are made in an empty repository that uses its objects.
    """
    objects = source.git("rev-parse", "--path-format=absolute", "--git-path", "objects")
    with tempfile.TemporaryDirectory(prefix="slipway-bundle-") as scratch:
        borrowed = Repository(Path(scratch))
        borrowed.git("init", "--quiet", "--bare")
        (Path(scratch) / "objects/info/alternates").write_text(f"{objects}\n")
        borrowed.git("update-ref", f"{KEEP}{sha}", sha)
        references = [f"{KEEP}{sha}"]
        if tag is not None:
            borrowed.git("update-ref", f"refs/tags/{tag}", source.git("rev-parse", f"refs/tags/{tag}"))
            references.append(f"refs/tags/{tag}")
        excluded = [f"^{commit}" for commit in _without(borrowed, sha, have)]
        output.parent.mkdir(parents=True, exist_ok=True)
        borrowed.git("bundle", "create", "--quiet", str(output.resolve()), *references, *excluded)


def _without(repository: Repository, sha: str, have: Iterable[str]) -> list[str]:
    """Those of the commits `have` that the repository has and that do not contain `sha`.

    A host may have had hundreds, so git is not asked about each of them alone.
    """
    named = [commit for commit in have if is_sha(commit)]
    found = repository.git("rev-list", "--no-walk", "--ignore-missing", *named, check=False).splitlines()
    if not found:
        return []
    ahead = set(repository.git("rev-list", *found, f"^{sha}").splitlines())
    return [commit for commit in found if commit != sha and (commit not in ahead or not repository.holds(commit, sha))]


def compare(source: Repository, old: str | None, new: str) -> list[tuple[str, str]]:
    """The commits between two: [(sha, subject)], newest first, at most 50.

    If `old` is None or not in the repository, this is the history of `new`.
    """
    span = f"{old}..{new}" if old is not None and source.has(old) else new
    log = source.git("log", "--max-count=50", "--format=%H %s", span).split("\n")
    return [(sha, subject) for sha, _, subject in (line.partition(" ") for line in log if line)]


def migrations(source: Repository, sha: str) -> dict[str, revisions.Script]:
    """The alembic migrations of a commit, by revision."""
    # One line per declaration: "<sha>:<path>NUL<line>". Empty if the app has no alembic.
    found = source.git(
        "grep", "-z", "-E", r"^((down_)?revision|oldest_compatible)\b", sha, "--", "*versions/*.py", check=False
    )
    named = (line.partition("\0") for line in found.splitlines())
    return revisions.parse((name.removeprefix(f"{sha}:"), text) for name, _, text in named)


def signature_problem(repository: Repository, tag: str, allowed_signers: Path) -> str:
    """Why a tag is not validly signed by a key of the allowed-signers file (SSH signatures); "" if it is."""
    reference = f"refs/tags/{tag}"
    # A signed tag has its name inside. With another name it is an old signature that was used again.
    if f"tag {tag}" not in repository.git("cat-file", "tag", reference, check=False).split("\n\n")[0].splitlines():
        return f"{tag} is not an annotated tag of that name"
    command = [
        *("git", "-C", str(repository.path)),
        *("-c", "gpg.format=ssh", "-c", "gpg.ssh.program=ssh-keygen"),
        *("-c", f"gpg.ssh.allowedSignersFile={allowed_signers}"),
        *("verify-tag", reference),
    ]
    environment = {"HOME": str(repository.home or repository.path)}
    result = process.run(command, user=repository.user, environment=environment)
    return "" if result.returncode == 0 else process.tail(result.stderr) or "it has no signature"
