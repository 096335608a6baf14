"""Git, on the controller (resolve, bundle, compare) and on a host (receive, verify, export).

It is run in one place, with an environment and with options that make its answers the same for everybody: whatever the
user has in a git configuration or in variables, and whether a git hook has started us. Only what reads in a form made
for programs is asked ("plumbing"), as the other commands change their output with such settings.
"""

from __future__ import annotations

import fcntl
import fnmatch
import hashlib
import os
import re
import secrets
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from slipway.base import process
from slipway.base.errors import FailedError, RefusedError
from slipway.records import versions
from slipway.release import revisions

_SHA = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_ABBREVIATED = re.compile(r"[0-9a-f]{7,64}")

_UNENCRYPTED = ("http", "git", "ftp")
_LOOPBACK = ("127.0.0.1", "localhost", "::1")

# Each commit also has a ref of the engine's own, so that a bundle can have a commit without a tag, and `gc` keeps it.
KEEP = "refs/slipway/"

MIGRATIONS = "*versions/*.py"

_SUBJECT = 500  # characters of the first line of a commit's message

# Settings that would change what a command does or answers. Those with which a person reaches a remote (credentials,
# proxies, other addresses) stay as they are.
_SETTINGS = {
    "core.attributesFile": os.devnull,  # it may leave files out of an archive
    "core.autocrlf": "false",
    "core.fsmonitor": "false",
    "core.hooksPath": os.devnull,
    "core.quotePath": "false",
    "fetch.prune": "false",
    "fetch.pruneTags": "false",
    "fetch.recurseSubmodules": "false",
    "gc.auto": "0",
    "gc.autoDetach": "false",  # background maintenance would go on writing after the command has ended
    "i18n.logOutputEncoding": "UTF-8",
    "init.defaultRefFormat": "files",
    "init.templateDir": "",
    "maintenance.auto": "false",
    "maintenance.autoDetach": "false",
    "tar.umask": "0022",
}
_OPTIONS = [part for name, value in _SETTINGS.items() for part in ("-c", f"{name}={value}")]

# Variables of git that reach it: how a person's remote is reached, and nothing else.
_REMOTE_VARIABLES = (
    "GIT_ASKPASS",
    "GIT_PROXY_SSL_CAINFO",
    "GIT_SSH",
    "GIT_SSH_COMMAND",
    "GIT_SSL_CAINFO",
    "GIT_SSL_CAPATH",
)
_VARIABLES = {
    "GIT_LITERAL_PATHSPECS": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",  # a replaced commit would be exported with the content of another one
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
    "LC_ALL": "C.UTF-8",
}
# A host has no person whose settings could be wanted.
_NO_SETTINGS = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}


def _environment(caller: Mapping[str, str]) -> dict[str, str]:
    """The environment of git on the controller: the caller's without what changes git's answers."""
    kept = {name: value for name, value in caller.items() if not name.startswith(("GIT_", "LC_")) and name != "LANG"}
    remote = {name: caller[name] for name in _REMOTE_VARIABLES if name in caller}
    return {**kept, **remote, **_VARIABLES}


@dataclass(frozen=True)
class Commit:
    """The commit of a version."""

    sha: str
    tag: str | None
    subject: str


@dataclass(frozen=True)
class Entry:
    """A file or a submodule of a commit: its path, what it is for git ("blob" or "commit"), and the object's hash."""

    path: str
    kind: str
    name: str


@dataclass(frozen=True)
class Repository:
    """A git repository on this machine, used as `user` (None: the current user)."""

    path: Path  # of the directory with its objects and refs (`.git`, or a bare repository)
    user: str | None = None
    home: Path | None = None
    directory: Path | None = None  # how a person calls it, when that is not `path`

    @property
    def name(self) -> Path:
        return self.directory or self.path

    def git(
        self,
        *arguments: str,
        check: bool = True,
        given: str = "",
        inherited: Sequence[int] = (),
        output: IO[bytes] | None = None,
    ) -> str:
        """Standard output of `git <arguments>`, or a file with it; FailedError with git's message when it fails."""
        result = self.run(*arguments, given=given, inherited=inherited, output=output)
        if check and result.returncode != 0:
            raise FailedError(f"git {arguments[0]} failed in {self.name}.", process.tail(result.stderr))
        return result.stdout.strip("\n") if result.returncode == 0 else ""

    def run(
        self,
        *arguments: str,
        given: str = "",
        inherited: Sequence[int] = (),
        options: Sequence[str] = (),
        output: IO[bytes] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """`git <arguments>` with any exit code. `given` is its standard input, `options` are more of git's own."""
        return process.run(
            ["git", f"--git-dir={self.path}", *_OPTIONS, *options, *arguments],
            user=self.user,
            environment=self._environment(),
            given=given,
            inherited=inherited,
            output=output,
        )

    def _environment(self) -> dict[str, str]:
        if self.user is None:
            return _environment(os.environ)
        return {"HOME": str(self.home or self.path), **_VARIABLES, **_NO_SETTINGS}

    def create(self) -> None:
        """Make it an empty bare repository, if it is none yet. No other process may be writing to it."""
        self._remove_locks()
        self.git("init", "--quiet", "--bare")

    def fetch(self, source: str | Path, *options: str, inherited: Sequence[int] = ()) -> None:
        """Fetch all refs of another repository or a bundle. No other process may be writing to this repository."""
        self._remove_locks()
        arguments = ("fetch", "--quiet", "--no-write-fetch-head", *options, str(source), "+refs/*:refs/*")
        self.git(*arguments, inherited=inherited)

    def _remove_locks(self) -> None:
        """A git process that was killed may have left lock files, with which the next one would fail."""
        process.run(["find", self.path, "-name", "*.lock", "-delete"], user=self.user)  # no ref can have such a name

    def tags(self) -> list[str]:
        return self.git("for-each-ref", "--format=%(refname:lstrip=2)", "refs/tags").splitlines()

    def commit(self, revision: str) -> str | None:
        """The full hash of the commit that `revision` names; None when there is none."""
        if revision.startswith("-"):
            return None
        return self.git("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}", check=False) or None

    def subject(self, sha: str) -> str:
        """The first line of a commit's message, of which so much is kept as a person reads."""
        return self.git("rev-list", "--max-count=1", "--no-commit-header", "--format=%s", sha)[:_SUBJECT]

    def why_incomplete(self, sha: str) -> str:
        """Why the repository lacks a part of the commit or of its history, with the command that gets it; "" if not."""
        if self.git("rev-parse", "--is-shallow-repository") == "true":
            return (
                f"{self.name} is a shallow clone: it lacks the history that a host has to get. "
                f"Type `git -C {self.name} fetch --unshallow --tags`; in CI, clone with the whole history "
                "(GitHub: fetch-depth: 0; GitLab: GIT_DEPTH: 0)."
            )
        if not self.git("config", "--get-regexp", r"^remote\..*\.promisor$", check=False):
            return ""
        absent = self.git("rev-list", "--objects", "--missing=print", "--no-object-names", sha)
        if not any(line.startswith("?") for line in absent.splitlines()):
            return ""
        return (
            f"{self.name} is a partial clone: it lacks files of earlier commits. "
            f"Type `git -C {self.name} fetch --refetch --no-filter`; in CI, clone without a filter."
        )

    def tree(self, sha: str) -> list[Entry]:
        """All files and submodules of a commit, by their paths."""
        listed = self.git("ls-tree", "-r", "-z", "--full-tree", sha).split("\0")
        named = (line.partition("\t") for line in listed if line)
        return [Entry(path, described.split()[1], described.split()[2]) for described, _, path in named]

    def texts(self, sha: str, pattern: str) -> Iterator[tuple[str, str]]:
        """The path and the text of each file of a commit whose path matches `pattern`."""
        blobs = [item for item in self.tree(sha) if item.kind == "blob" and fnmatch.fnmatchcase(item.path, pattern)]
        mark = secrets.token_hex(16)  # no text has it
        names = "".join(f"{item.name}\n" for item in blobs)
        texts = self.git("cat-file", f"--batch={mark}", given=names).split(f"{mark}\n")[1:] if blobs else []
        for item, text in zip(blobs, texts, strict=True):
            yield item.path, text

    def digest(self, sha: str, path: str) -> str:
        """The SHA-256 digest, in hex, of a text file of a commit; that of nothing when it has none."""
        return hashlib.sha256(self.run("cat-file", "blob", f"{sha}:{path}").stdout.encode()).hexdigest()

    def text(self, sha: str, path: str) -> str:
        """A text file of a commit, also where a link of it leads to one; "" when it has none."""
        said = self.git("cat-file", "--batch=%(objecttype)", "--follow-symlinks", given=f"{sha}:{path}\n")
        kind, _, text = said.partition("\n")
        return text if kind == "blob" else ""

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

    Without `version` it is the newest tag that is no pre-release. RefusedError when there is no such tag (similar ones
    are listed), or when it is a commit without a tag and `accept` is not "commits".
    """
    tags = repository.tags()
    if version is None:
        version = versions.newest(tags)
        if version is None and (prerelease := versions.newest_prerelease(tags)):
            raise RefusedError(
                f"{repository.name} has only pre-releases, which are deployed when they are asked for: "
                f"pass -e version={prerelease}, or tag a release."
            )
        if version is None:
            raise RefusedError(
                f"{repository.name} has no version tags. Tag the commit to deploy, for example "
                "`git tag -a v1.0.0 -m v1.0.0`"
                + (
                    ", or pass a branch or a commit: -e version=main."
                    if accept == "commits"
                    else f". With accept: commits (it is {accept} now) a branch or a commit is deployed, too: "
                    "-e version=main."
                )
            )
    if version in tags:
        if not versions.is_tag(version):
            raise RefusedError(f"The tag '{version}' has characters that are not allowed in the name of a directory.")
        sha = repository.commit(f"refs/tags/{version}")
        if sha is None:
            raise RefusedError(f"The tag '{version}' does not name a commit.")
        return _whole(repository, Commit(sha, version, repository.subject(sha)))
    named_by_sha = bool(_ABBREVIATED.fullmatch(version))
    sha = repository.commit(version) if accept == "commits" or named_by_sha else None
    if sha is None:
        similar = versions.near(version, tags)
        hint = f" Similar tags: {', '.join(similar)}." if similar else _newest_hint(tags)
        raise RefusedError(f"No tag '{version}' in {repository.name}.{hint}")
    if accept != "commits":
        raise RefusedError(
            f"'{version}' is a commit without a tag, and this environment deploys {accept.replace('-', ' ')} only "
            f"(accept: {accept}). Create a tag for it and deploy the tag."
        )
    return _whole(repository, Commit(sha, None, repository.subject(sha)))


def _whole(repository: Repository, commit: Commit) -> Commit:
    """The commit; RefusedError when the repository does not have all of it and of its history."""
    if reason := repository.why_incomplete(commit.sha):
        raise RefusedError(reason)
    return commit


def _newest_hint(tags: Sequence[str]) -> str:
    try:
        newest = versions.newest(tags)
    except RefusedError as error:
        return f" {error}"
    return f" The newest tag is {newest}." if newest else " It has no version tags."


def transport_problem(location: str, accept: str) -> str:
    """Why a repository at a URL must not be deployed from, as a sentence; "" when it may be.

    Whoever is on the way can change what an unencrypted connection brings, but not a tag that somebody has signed.
    """
    parts = urlsplit(location)
    if accept == "signed-tags" or parts.scheme not in _UNENCRYPTED or parts.hostname in _LOOPBACK:
        return ""
    return (
        f"the repository is at {parts.hostname} over {parts.scheme}, where others can change what is sent. "
        "Use https or ssh, or deploy signed tags only (accept: signed-tags)."
    )


def open_source(location: str, cache: Path, accept: str = "signed-tags") -> Repository:
    """The repository at `location`, a directory or a URL; a URL is mirrored below `cache`, and the mirror updated.

    RefusedError when the directory is not a repository, or an environment that accepts `accept` must not deploy from
    there; FailedError when the remote cannot be fetched.
    """
    if "://" not in location and not re.match(r"[\w.-]+@[\w.-]+:", location):
        return _open_directory(location)
    if problem := transport_problem(location, accept):
        raise RefusedError(problem[0].upper() + problem[1:])
    mirror = cache / f"{hashlib.sha256(location.encode()).hexdigest()[:16]}.git"
    keep_to_owner(cache)
    with os.fdopen(os.open(mirror.with_suffix(".lock"), os.O_WRONLY | os.O_CREAT, 0o600), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # git inherits it, and so still holds it if this process is killed
        try:
            Repository(mirror).create()
            Repository(mirror).fetch(location, "--prune", inherited=[lock.fileno()])
        except FailedError as error:
            shown, detail = (_without_account(location, text) for text in (location, error.detail))
            raise FailedError(f"The repository {shown} could not be fetched.", detail) from None
    return Repository(mirror)


def _without_account(location: str, text: str) -> str:
    """A text without the user and password of a URL, which may be a token; of ssh it is the name of a user only."""
    parts = urlsplit(location)
    account = parts.netloc.rpartition("@")[0]
    return text.replace(f"{account}@", "") if account and parts.scheme != "ssh" else text


def keep_to_owner(directory: Path) -> None:
    """Make a directory, or one that this user has made, closed to others: it has the source of whole projects."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if directory.stat().st_uid == os.geteuid():
        directory.chmod(0o700)


def _open_directory(location: str) -> Repository:
    path = Path(location).expanduser()
    if not path.is_dir():
        raise RefusedError(f"There is no directory '{location}'; set the app's 'repository' to a path or a URL.")
    # Git looks for the repository from the directory upwards, and refuses one that belongs to somebody else.
    command = ["git", "-C", str(path), *_OPTIONS, "rev-parse", "--absolute-git-dir"]
    found = process.run(command, environment=_environment(os.environ))
    if found.returncode == 0:
        return Repository(Path(found.stdout.removesuffix("\n")), directory=path.resolve())
    if "dubious ownership" in found.stderr:
        raise RefusedError(
            f"Git does not read the repository '{location}', as it belongs to another user. If you trust them, type "
            f"`git config --global --add safe.directory {path.resolve()}`; or use a clone of your own.",
            process.tail(found.stderr),
        )
    reason = process.tail(found.stderr, 1).removeprefix("fatal: ")
    raise RefusedError(
        f"'{location}' is not a git repository ({reason}); set the app's 'repository' to a path or a URL."
    )


def bundle(source: Repository, sha: str, tag: str | None, have: Iterable[str], output: Path) -> None:
    """Write a git bundle to the file `output`, which only its owner can read, see `write_bundle`."""
    output.parent.mkdir(parents=True, exist_ok=True)
    output.unlink(missing_ok=True)
    try:
        with os.fdopen(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            write_bundle(source, sha, tag, have, file)
    except BaseException:
        output.unlink(missing_ok=True)
        raise


def write_bundle(source: Repository, sha: str, tag: str | None, have: Iterable[str], output: IO[bytes]) -> None:
    """Write a git bundle with `sha` (and its tag) to a file, without the commits in `have` and their ancestors.

    The source repository is only read: the refs for the bundle are made in an empty repository that uses its objects.
    """
    objects = source.git("rev-parse", "--path-format=absolute", "--git-path", "objects")
    format_ = source.git("rev-parse", "--show-object-format")
    with tempfile.TemporaryDirectory(prefix="slipway-bundle-") as scratch:
        borrowed = Repository(Path(scratch))
        borrowed.git("init", "--quiet", "--bare", f"--object-format={format_}")
        (Path(scratch) / "objects/info/alternates").write_text(f"{objects}\n")
        borrowed.git("update-ref", f"{KEEP}{sha}", sha)
        references = [f"{KEEP}{sha}"]
        if tag is not None:
            borrowed.git("update-ref", f"refs/tags/{tag}", source.git("rev-parse", f"refs/tags/{tag}"))
            references.append(f"refs/tags/{tag}")
        excluded = [f"^{commit}" for commit in _without(borrowed, sha, have)]
        borrowed.git("bundle", "create", "--quiet", "-", *references, *excluded, output=output)


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
    log = source.git("rev-list", "--max-count=50", "--no-commit-header", "--format=%H %s", span).split("\n")
    return [(sha, subject[:_SUBJECT]) for sha, _, subject in (line.partition(" ") for line in log if line)]


def migrations(source: Repository, sha: str) -> dict[str, revisions.Script]:
    """The alembic migrations of a commit, by revision."""
    found = source.texts(sha, MIGRATIONS)
    return revisions.parse((path, line) for path, text in found for line in text.splitlines())


def signature_problem(repository: Repository, tag: str, allowed_signers: Path) -> str:
    """Why a tag is not validly signed by a key of the allowed-signers file (SSH signatures); "" if it is."""
    reference = f"refs/tags/{tag}"
    # A signed tag has its name inside. With another name it is an old signature that was used again.
    if f"tag {tag}" not in repository.git("cat-file", "tag", reference, check=False).split("\n\n")[0].splitlines():
        return f"{tag} is not an annotated tag of that name"
    # Which program looks at a signature is chosen by the signature: only those of SSH have one.
    nobody = ("-c", "gpg.program=false", "-c", "gpg.openpgp.program=false", "-c", "gpg.x509.program=false")
    options = [
        *("-c", "gpg.format=ssh", "-c", "gpg.ssh.program=ssh-keygen", *nobody),
        *("-c", f"gpg.ssh.allowedSignersFile={allowed_signers}"),
    ]
    result = repository.run("verify-tag", reference, options=options)
    return "" if result.returncode == 0 else process.tail(result.stderr) or "it has no signature"
