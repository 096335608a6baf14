"""Repositories of real apps: what is not in an archive of a commit is named when a release is staged.

Rows 21 and 22 of `cases.md`, and their kind: a file that the app needs is in the commit, or seems to be, and not in the
release.
"""

from __future__ import annotations

import getpass
import subprocess
from pathlib import Path

import pytest

from slipway.base.errors import FailedError
from slipway.release import git, source
from tests.engine.conftest import GitRepository

FILES = {
    "pyproject.toml": '[project]\nname = "x"\nversion = "1"\n',
    "uv.lock": 'version = 1\n\n[[package]]\nname = "x"\nsource = { virtual = "." }\n',
    "alembic.ini": "[alembic]\n",
    "app/__init__.py": "",
    "app/main.py": "from app import models\n",
    "app/migrations/versions/0001.py": "",
    "docs/page.md": "",
}


@pytest.fixture
def repository(tmp_path: Path) -> GitRepository:
    return GitRepository(tmp_path / "repository")


@pytest.fixture
def commit(repository: GitRepository) -> GitRepository:
    for name, text in FILES.items():
        (repository.path / name).parent.mkdir(parents=True, exist_ok=True)
        (repository.path / name).write_text(text)
    return repository


def unpack(repository: GitRepository, module: str = "app.main:app", directory: str = "") -> Path:
    """The release of the repository's files as they are now."""
    sha = repository.commit({})
    release = repository.path.parent / "release"
    release.mkdir()
    source.unpack(git.Repository(repository.path / ".git"), sha, release, getpass.getuser(), module, directory)
    return release


def refusal(repository: GitRepository, module: str = "app.main:app", directory: str = "") -> str:
    with pytest.raises(FailedError) as caught:
        unpack(repository, module, directory)
    assert caught.value.detail == ""
    return str(caught.value).partition(" ")[2].partition(" ")[2]  # without the commit


def test_a_usual_commit_is_unpacked(commit: GitRepository) -> None:
    assert (unpack(commit) / "app/main.py").read_text() == FILES["app/main.py"]


# What .gitattributes leaves out


@pytest.mark.parametrize(
    ("rules", "path", "line"),
    [
        ("uv.lock export-ignore", "uv.lock", 1),
        ("# generated\n/uv.lock -diff export-ignore", "uv.lock", 2),
        ("*.lock linguist-generated export-ignore", "uv.lock", 1),
        ("pyproject.toml export-ignore", "pyproject.toml", 1),
        ("/alembic.ini export-ignore", "alembic.ini", 1),
        ("/app export-ignore", "app/main.py", 1),
        ("app/main.py export-ignore", "app/main.py", 1),
        ("app/** export-ignore", "app/main.py", 1),
        ("migrations export-ignore", "app/migrations/versions/0001.py", 1),
        ("a export-ignore\n/app/migrations/versions export-ignore", "app/migrations/versions/0001.py", 2),
        ("* export-ignore\n* -export-ignore\n**/versions/** export-ignore", "app/migrations/versions/0001.py", 3),
    ],
)  # fmt: skip
def test_a_needed_file_that_is_left_out_is_named_with_its_line(
    commit: GitRepository, rules: str, path: str, line: int
) -> None:
    (commit.path / ".gitattributes").write_text(f"{rules}\n")
    text = rules.splitlines()[line - 1]
    assert refusal(commit) == (
        f"has {path}, but .gitattributes, line {line}, leaves it out of what is deployed ('{text}'). "
        "Remove that line and commit."
    )


def test_the_rules_of_a_directory_are_named_by_their_own_file(commit: GitRepository) -> None:
    (commit.path / "app/.gitattributes").write_text("main.py export-ignore\n")
    assert "has app/main.py, but app/.gitattributes, line 1, leaves it out" in refusal(commit)


def test_a_rule_that_cannot_be_found_is_still_one_of_gitattributes(commit: GitRepository) -> None:
    (commit.path / ".gitattributes").write_text("[attr]private export-ignore\nuv.lock private\n")
    assert "has uv.lock, but an export-ignore in .gitattributes leaves it out" in refusal(commit)


def test_the_module_that_is_served_is_needed_wherever_it_is(commit: GitRepository) -> None:
    (commit.path / "src/web").mkdir(parents=True)
    (commit.path / "src/web/__init__.py").touch()
    (commit.path / ".gitattributes").write_text("src export-ignore\n")
    assert "has src/web/__init__.py, but" in refusal(commit, "web:app")


def test_a_file_that_the_build_reads_is_needed(commit: GitRepository) -> None:
    built = '[build-system]\nrequires = ["hatchling"]\n[project]\nname = "x"\nversion = "1"\nreadme = "README.md"\n'
    (commit.path / "pyproject.toml").write_text(built)
    (commit.path / "README.md").touch()
    (commit.path / ".gitattributes").write_text("*.md export-ignore\n")
    assert "has README.md, but .gitattributes, line 1," in refusal(commit)


def test_a_member_of_the_workspace_is_needed(commit: GitRepository) -> None:
    (commit.path / "uv.lock").write_text('[[package]]\nname = "lib"\nsource = { editable = "packages/lib" }\n')
    (commit.path / "packages/lib").mkdir(parents=True)
    (commit.path / "packages/lib/pyproject.toml").touch()
    (commit.path / ".gitattributes").write_text("/packages export-ignore\n")
    assert "has packages/lib/pyproject.toml, but" in refusal(commit)


@pytest.mark.parametrize(
    "rules", ["/docs export-ignore", "*.md export-ignore", "tests export-ignore", "* !export-ignore"]
)
def test_what_the_app_does_not_need_may_be_left_out(commit: GitRepository, rules: str) -> None:
    for name in ("tests/versions/0001.py", "README.md"):
        (commit.path / name).parent.mkdir(parents=True, exist_ok=True)
        (commit.path / name).touch()
    (commit.path / ".gitattributes").write_text(f"{rules}\n")
    assert (unpack(commit) / "app/main.py").exists()


def test_a_lock_file_without_its_project_is_named(commit: GitRepository) -> None:
    (commit.path / "pyproject.toml").unlink()
    assert refusal(commit).startswith("has no pyproject.toml, which says what of uv.lock is installed. Commit it.")


def test_a_commit_that_says_nowhere_what_it_needs_is_named(commit: GitRepository) -> None:
    (commit.path / "pyproject.toml").unlink()
    (commit.path / "uv.lock").unlink()
    assert "Commit a pyproject.toml that names its packages, and the uv.lock that `uv lock` makes" in refusal(commit)


def test_a_lock_file_that_is_a_link_out_of_the_repository_is_named(commit: GitRepository) -> None:
    (commit.path / "uv.lock").unlink()
    (commit.path / "uv.lock").symlink_to("../uv.lock")
    assert refusal(commit).startswith("has uv.lock as a link to ../uv.lock, which is not in a release.")


# Submodules


def add_submodule(repository: GitRepository, path: str) -> None:
    other = GitRepository(repository.path.parent / "other")
    other.commit({"tool.py": ""})
    repository.git("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(other.path), path)


@pytest.mark.parametrize(
    ("path", "files"),
    [
        ("vendor", {"app/main.py": "import vendor.tool\n"}),
        ("vendor", {"app/models.py": "def late():\n    from vendor import tool\n"}),
        ("app/shared", {"app/main.py": "from .shared import tool\n"}),
        ("app/shared", {"app/main.py": "from . import shared\n"}),
        ("app/shared", {"app/api/routes.py": "from ..shared.tool import x\n"}),
        ("app/shared", {"app/main.py": "import app.shared.tool as tool\n"}),
        ("libs/common", {"app/main.py": "import common\n"}),
        ("libs/common", {"uv.lock": '[[package]]\nname = "common"\nsource = { editable = "libs/common" }\n'}),
        ("libs", {"uv.lock": '[[package]]\nname = "common"\nsource = { directory = "libs/common" }\n'}),
    ],
)
def test_a_submodule_that_the_app_uses_is_refused(commit: GitRepository, path: str, files: dict[str, str]) -> None:
    add_submodule(commit, path)
    commit.commit(files)
    assert refusal(commit) == (
        f"has the submodule {path}, which the app uses, and a release gets no files of submodules. "
        "Add it as a dependency (`uv add git+URL`), or commit its files (`git subtree add`)."
    )


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("docs/theme", "import json\n"),
        ("docs/theme", "from app import theme_of_pages\n"),
        ("libs/common", "import common\n"),  # there is a package of that name among the dependencies
    ],
)
def test_a_submodule_that_the_app_does_not_use_is_no_harm(commit: GitRepository, path: str, text: str) -> None:
    add_submodule(commit, path)
    commit.commit({"app/main.py": text, "uv.lock": FILES["uv.lock"] + '\n[[package]]\nname = "common"\n'})
    assert (unpack(commit) / "app/main.py").exists()


# Git LFS, and unusual names

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 12345\n"


def test_a_file_in_git_lfs_is_refused(commit: GitRepository) -> None:
    commit.commit({"app/logo.png": POINTER, "app/model.bin": POINTER})
    assert refusal(commit).startswith("has app/logo.png and 1 more in Git LFS, and a release gets only a pointer")


def test_a_file_in_git_lfs_that_is_not_deployed_is_no_harm(commit: GitRepository) -> None:
    commit.commit({"docs/film.mp4": POINTER, ".gitattributes": "/docs export-ignore\n*.mp4 filter=lfs -text\n"})
    assert (unpack(commit) / "app/main.py").exists()


def test_names_and_links_of_any_kind_are_unpacked_as_they_are(commit: GitRepository) -> None:
    files = {"app/a\nb.txt": "1", "app/Readme": "2", "app/README": "3", "app/ü 🙂 \"'$.txt": "4", "-f": "5"}
    commit.commit(files)
    (commit.path / "zone").symlink_to("/usr/share/zoneinfo")
    (commit.path / "app/up").symlink_to("../../outside")
    (commit.path / "app/link.py").symlink_to("main.py")
    release = unpack(commit)
    assert {name: (release / name).read_text() for name in files} == files
    assert (release / "zone").readlink() == Path("/usr/share/zoneinfo")
    assert (release / "app/link.py").read_text() == FILES["app/main.py"]


def test_archival_files_are_filled_in(commit: GitRepository) -> None:
    commit.commit({".git_archival.txt": "node: $Format:%H$\n", ".gitattributes": ".git_archival.txt export-subst\n"})
    text = (unpack(commit) / ".git_archival.txt").read_text()
    assert text == f"node: {commit.git('rev-parse', 'HEAD')}\n"


@pytest.mark.parametrize(
    "pattern", ["uv.lock", "/uv.lock", "*.lock", "app", "app/main.py", "app/**", "**/main.py", "/*"]
)
def test_patterns_are_those_of_git(repository: GitRepository, pattern: str) -> None:
    repository.commit({**FILES, ".gitattributes": f"{pattern} export-ignore\n"})
    archive = subprocess.run(["git", "-C", repository.path, "archive", "HEAD"], capture_output=True, check=True).stdout
    listed = subprocess.run(["tar", "--list"], input=archive, capture_output=True, check=True).stdout.decode().split()
    assert [path for path in FILES if source.matches(pattern, path)] == [path for path in FILES if path not in listed]


# An app in a directory of its repository


def test_an_app_in_a_directory_may_have_its_lock_above(commit: GitRepository) -> None:
    (commit.path / "backend").mkdir()
    (commit.path / "backend/main.py").touch()
    assert (unpack(commit, "main:app", "backend") / "backend/main.py").exists()


def test_a_directory_that_the_commit_has_not_is_named(commit: GitRepository) -> None:
    assert refusal(commit, directory="backend").startswith("has no directory backend")


def test_a_lock_that_is_nowhere_above_the_app_is_named(commit: GitRepository) -> None:
    for name in ("uv.lock", "pyproject.toml"):
        (commit.path / name).unlink()
    (commit.path / "backend").mkdir()
    (commit.path / "backend/main.py").touch()
    said = refusal(commit, directory="backend")
    assert "has no uv.lock, nor another file that says what it needs in backend or a directory above it" in said


def test_what_is_left_out_of_a_directory_is_named(commit: GitRepository) -> None:
    (commit.path / "backend").mkdir()
    (commit.path / "backend/main.py").touch()
    (commit.path / "backend/alembic.ini").touch()
    (commit.path / ".gitattributes").write_text("alembic.ini export-ignore")
    assert "has backend/alembic.ini, but .gitattributes" in refusal(commit, "main:app", "backend")


def test_files_with_variables_are_left_out_and_examples_are_not(commit: GitRepository) -> None:
    names = [".env", ".env.production", "app/.env.local", ".envrc", ".env.example", ".env.sample", ".environment"]
    for name in names:
        (commit.path / name).write_text("SECRET_KEY=x\n")
    release = unpack(commit)
    assert [name for name in names if (release / name).exists()] == [".env.example", ".env.sample", ".environment"]
