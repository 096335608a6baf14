"""Repositories, git configurations and environments that real users have: the answers are the same, or a true sentence.

The rows are those of `cases.md` that are about git. None needs a host: a host's git is run with the same options, and
has no user whose configuration it could read.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from slipway.base.errors import RefusedError
from slipway.release import git
from tests.engine.conftest import GitRepository

FILES = {
    "app/main.py": "first\n",
    "app/migrations/versions/0001_first.py": 'revision = "0001"\ndown_revision = None\n',
    "app/migrations/versions/0002_größe.py": 'revision: str = "0002"\ndown_revision: str | None = "0001"\n# ü\n',
}


@dataclass
class User:
    """A user of git, with a home, a repository, and another one that must not be touched."""

    home: Path
    repository: GitRepository
    bystander: GitRepository
    first: str
    second: str

    def configure(self, text: str) -> None:
        (self.home / ".gitconfig").write_text(text)

    def answers(self, location: str, cache: Path) -> dict[str, Any]:
        """All that git is asked for during a deploy, from the repository or from its URL."""
        source = git.open_source(location, cache)
        commit = git.resolve(source, "v2.0.0", "tags")
        output = cache.with_suffix(".bundle")
        git.bundle(source, commit.sha, commit.tag, [self.first], output)
        mirror = git.Repository(cache.with_suffix(".host"))
        mirror.create()
        mirror.fetch(str(self.repository.path / ".git"))
        mirror.fetch(output)
        archive = cache.with_suffix(".tar")
        mirror.git("archive", "--format=tar", f"--output={archive}", commit.sha)
        return {
            "commit": commit,
            "newest": git.resolve(source, None, "tags"),
            "tags": source.tags(),
            "compare": git.compare(source, self.first, self.second),
            "migrations": git.migrations(source, commit.sha),
            "archive": hashlib.sha256(archive.read_bytes()).hexdigest(),
        }


def everything(directory: Path) -> dict[str, str]:
    """The digest of each file below a directory."""
    files = (path for path in sorted(directory.rglob("*")) if path.is_file())
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@dataclass(frozen=True)
class Model:
    """What the repositories of all tests are copies of, and what git answers there where nothing is configured."""

    directory: Path
    first: str
    second: str
    answers: dict[str, dict[str, Any]]


def opened(path: Path) -> GitRepository:
    """A repository that is there."""
    made = GitRepository.__new__(GitRepository)
    made.path = path
    return made


def places(user: User) -> list[tuple[str, str]]:
    return [(str(user.repository.path), "path"), (f"file://{user.repository.path}", "url")]


def plain(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    for name in [name for name in os.environ if name.startswith(("GIT_", "LC_"))]:
        monkeypatch.delenv(name)
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    directory = tmp_path_factory.mktemp("model")
    with pytest.MonkeyPatch.context() as patch:
        plain(patch, directory / "home")
        repository = GitRepository(directory / "repository")
        first = repository.commit({"app/main.py": "old\n"}, tag="v1.0.0", message="First")
        second = repository.commit(FILES, tag="v2.0.0", message="Zweite Größe")
        bystander = GitRepository(directory / "bystander")
        bystander.commit({"own": "work\n"}, tag="v9.9.9")
        bystander.git("branch", "more")
        user = User(directory / "home", repository, bystander, first, second)
        answers = {name: user.answers(location, directory / f"plain-{name}") for location, name in places(user)}
    return Model(directory, first, second, answers)


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: Model) -> User:
    plain(monkeypatch, tmp_path / "home")
    for name in ("repository", "bystander"):
        shutil.copytree(model.directory / name, tmp_path / name, symlinks=True)
    repository, bystander = (opened(tmp_path / name) for name in ("repository", "bystander"))
    return User(tmp_path / "home", repository, bystander, model.first, model.second)


CONFIGURATIONS = [
    "[grep]\n lineNumber = true\n column = true\n fullName = true",
    "[grep]\n patternType = fixed",
    "[color]\n ui = always",
    "[color]\n grep = always\n branch = always",
    "[core]\n quotePath = true",
    "[core]\n autocrlf = true\n eol = crlf",
    "[core]\n attributesFile = ATTRIBUTES",
    "[core]\n hooksPath = HOOKS",
    "[core]\n fsmonitor = HOOKS/any",
    "[core]\n pager = false",
    "[init]\n templateDir = TEMPLATE",
    "[init]\n defaultObjectFormat = sha256\n defaultRefFormat = reftable",
    "[tag]\n sort = -version:refname\n gpgSign = true",
    "[log]\n showSignature = true\n decorate = full\n date = relative\n follow = true",
    "[format]\n pretty = fuller",
    "[i18n]\n logOutputEncoding = ISO-8859-1",
    "[fetch]\n prune = true\n pruneTags = true\n recurseSubmodules = true\n fsckObjects = true",
    "[safe]\n bareRepository = explicit",
    "[tar]\n umask = 0077",
    "[gc]\n auto = 1",
    "[diff]\n noprefix = true\n external = false",
    "[alias]\n rev-parse = !false\n for-each-ref = !false",
    "[advice]\n detachedHead = true",
]


@pytest.mark.parametrize("text", CONFIGURATIONS)
def test_a_git_configuration_changes_no_answer(user: User, model: Model, tmp_path: Path, text: str) -> None:
    expected = model.answers
    (tmp_path / "attributes").write_text("* export-ignore\n")
    for name in ("hooks", "template/hooks"):
        (tmp_path / name).mkdir(parents=True)
        for hook in ("post-checkout", "reference-transaction", "any"):
            (tmp_path / name / hook).write_text("#!/bin/sh\nexit 1\n")
            (tmp_path / name / hook).chmod(0o755)
    for word in ("ATTRIBUTES", "HOOKS", "TEMPLATE"):
        text = text.replace(word, str(tmp_path / word.lower()))
    user.configure(text)
    found = {name: user.answers(location, tmp_path / f"configured-{name}") for location, name in places(user)}
    assert found == expected
    assert [commit.subject for commit in (expected["path"]["commit"],)] == ["Zweite Größe"]
    assert set(expected["path"]["migrations"]) == {"0001", "0002"}


# As git sets them for a hook, and as people export them.
VARIABLES = [
    {"GIT_DIR": "BYSTANDER/.git"},
    {"GIT_DIR": "BYSTANDER/.git", "GIT_WORK_TREE": "BYSTANDER", "GIT_INDEX_FILE": "BYSTANDER/.git/index"},
    {"GIT_DIR": ".git", "GIT_PREFIX": "app/", "GIT_REFLOG_ACTION": "push"},
    {"GIT_COMMON_DIR": "BYSTANDER/.git"},
    {"GIT_OBJECT_DIRECTORY": "BYSTANDER/.git/objects"},
    {"GIT_ALTERNATE_OBJECT_DIRECTORIES": "BYSTANDER/.git/objects"},
    {"GIT_QUARANTINE_PATH": "BYSTANDER/.git/objects"},
    {"GIT_NAMESPACE": "other"},
    {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "color.ui", "GIT_CONFIG_VALUE_0": "always"},
    {"GIT_CONFIG_PARAMETERS": "'core.bare=true'"},
    {"GIT_CONFIG_GLOBAL": "BYSTANDER/nothing"},
    {"GIT_DEFAULT_HASH": "sha256"},
    {"GIT_TRACE": "1", "GIT_TRACE2_EVENT": "1"},
    {"GIT_CEILING_DIRECTORIES": "/"},
    {"GIT_SHALLOW_FILE": "BYSTANDER/own"},
    {"GIT_GLOB_PATHSPECS": "1", "GIT_ICASE_PATHSPECS": "1"},
    {"GIT_EXEC_PATH": "/nonexistent"},
    {"GIT_TEMPLATE_DIR": "BYSTANDER"},
    {"GIT_GRAFT_FILE": "BYSTANDER/own"},
    {"GIT_REPLACE_REF_BASE": "refs/tags"},
    {"GIT_PAGER": "false", "PAGER": "false", "LESS": "x"},
    {"LANG": "de_DE.UTF-8", "LANGUAGE": "de", "LC_ALL": "de_DE.UTF-8", "LC_MESSAGES": "de_DE.UTF-8"},
    {"LC_ALL": "C"},
    {"LC_ALL": "POSIX", "LANG": ""},
]


@pytest.mark.parametrize("variables", VARIABLES, ids=lambda variables: "+".join(variables))
def test_no_variable_of_git_changes_an_answer_or_reaches_another_repository(
    user: User, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    """Case 1: every branch and tag of the repository in GIT_DIR was deleted, in check mode."""
    before = {**everything(user.bystander.path), **everything(user.repository.path)}
    for name, value in variables.items():
        monkeypatch.setenv(name, value.replace("BYSTANDER", str(user.bystander.path)))
    found = {name: user.answers(location, tmp_path / f"with-{name}") for location, name in places(user)}
    monkeypatch.undo()
    assert found == model.answers
    assert {**everything(user.bystander.path), **everything(user.repository.path)} == before


def test_a_replaced_commit_is_deployed_as_it_was_committed(user: User, tmp_path: Path) -> None:
    expected = user.answers(str(user.repository.path), tmp_path / "before")
    user.repository.git("replace", user.second, user.first)
    found = user.answers(str(user.repository.path), tmp_path / "after")
    assert {**found, "tags": expected["tags"]} == expected


CLONES = {
    "shallow": (["--depth", "1", "--branch", "v2.0.0"], "is a shallow clone"),
    "shallow, of a branch": (["--depth", "1"], "is a shallow clone"),
    "partial": (["--filter=blob:none", "--no-checkout"], "is a partial clone"),
    "partial, without trees": (["--filter=tree:0", "--no-checkout"], "is a partial clone"),
}


@pytest.mark.parametrize("kind", CLONES)
def test_a_clone_that_lacks_something_is_refused_with_the_command_that_mends_it(
    user: User, tmp_path: Path, kind: str
) -> None:
    """Case 2: the command that is said is run, and then it works."""
    options, said = CLONES[kind]
    for name in ("uploadpack.allowFilter", "uploadpack.allowAnySHA1InWant"):
        user.repository.git("config", name, "true")
    clone = tmp_path / "clone"
    url = f"file://{user.repository.path}"
    subprocess.run(["git", "clone", "--quiet", *options, url, str(clone)], check=True, capture_output=True)
    subprocess.run(["git", "-C", str(clone), "fetch", "--quiet", "--tags"], check=True, capture_output=True)
    with pytest.raises(RefusedError, match=said) as refused:
        git.resolve(git.open_source(str(clone), tmp_path / "cache"), "v2.0.0", "tags")
    command = str(refused.value).split("`")[1]
    assert command.startswith(f"git -C {clone} fetch ")
    subprocess.run(command.split(), check=True, capture_output=True)
    expected = user.answers(url, tmp_path / "whole")
    assert user.answers(str(clone), tmp_path / "mended") == expected


@pytest.mark.parametrize("kind", ["worktree", "subdirectory", "bare", "mirror", "gitfile", "sha256", "reference"])
def test_repositories_of_all_kinds_are_read(user: User, tmp_path: Path, kind: str) -> None:
    there = tmp_path / "there"
    repository = user.repository.path
    if kind == "worktree":
        user.repository.git("worktree", "add", "--quiet", str(there))
    elif kind == "subdirectory":
        there = repository / "app"
    elif kind in ("bare", "mirror"):
        subprocess.run(["git", "clone", "--quiet", f"--{kind}", str(repository), str(there)], check=True)
    elif kind == "gitfile":
        subprocess.run(
            ["git", "clone", "--quiet", f"--separate-git-dir={tmp_path}/apart", str(repository), str(there)], check=True
        )
    elif kind == "reference":
        subprocess.run(["git", "clone", "--quiet", "--shared", str(repository), str(there)], check=True)
    elif kind == "sha256":
        subprocess.run(["git", "init", "--quiet", "--object-format=sha256", str(there)], check=True)
        opened(there).commit(FILES, tag="v2.0.0")
    source = git.open_source(str(there), tmp_path / "cache")
    commit = git.resolve(source, "v2.0.0", "tags")
    git.bundle(source, commit.sha, commit.tag, [], tmp_path / "a.bundle")
    assert set(git.migrations(source, commit.sha)) == {"0001", "0002"}
    assert len(commit.sha) == (64 if kind == "sha256" else 40)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory to somebody else")
def test_a_repository_of_another_user_is_named_with_what_to_type(user: User, tmp_path: Path) -> None:
    """Case 3: it was said to be no git repository."""
    path = user.repository.path
    for item in [path, *path.rglob("*")]:
        shutil.chown(item, "nobody")
    with pytest.raises(RefusedError, match="as it belongs to another user") as refused:
        git.open_source(str(path), tmp_path / "cache")
    command = str(refused.value).split("`")[1]
    assert command == f"git config --global --add safe.directory {path}"
    subprocess.run(command.split(), check=True)
    assert git.resolve(git.open_source(str(path), tmp_path / "cache"), "v2.0.0", "tags").sha == user.second


def test_git_says_itself_why_a_directory_is_no_repository(user: User, tmp_path: Path) -> None:
    (user.repository.path / ".git/HEAD").unlink()
    with pytest.raises(RefusedError, match="is not a git repository"):
        git.open_source(str(user.repository.path), tmp_path / "cache")
    (user.home / ".gitconfig").write_text("[core\n")
    with pytest.raises(RefusedError, match="bad config line 1"):
        git.open_source(str(user.bystander.path), tmp_path / "cache")
    with pytest.raises(RefusedError, match="There is no directory"):
        git.open_source(str(tmp_path / "nowhere"), tmp_path / "cache")
