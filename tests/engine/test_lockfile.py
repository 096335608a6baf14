"""What a lock file must not make a build install. The files are as uv writes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from slipway.base.errors import FailedError
from slipway.release import explain, lockfile

HASH = "sha256:" + "a" * 64
WHEEL = f'{{ url = "https://files.pythonhosted.org/a/one-1.0-py3-none-any.whl", hash = "{HASH}", size = 1 }}'
INDEX = 'registry = "https://pypi.org/simple"'


def package(name: str = "one", source: str = INDEX, wheels: str = WHEEL, more: str = "") -> str:
    listed = f"wheels = [\n    {wheels},\n]\n" if wheels else ""
    return f'[[package]]\nname = "{name}"\nversion = "1.0"\nsource = {{ {source} }}\n{more}{listed}\n'


def lock(*packages: str, needs: str = "one", root: str = 'editable = "."', more: str = "") -> str:
    named = ", ".join(f'{{ name = "{name}" }}' for name in needs.split())
    own = f'[[package]]\nname = "app"\nversion = "1.0"\nsource = {{ {root} }}\ndependencies = [{named}]\n\n'
    return f'version = 1\nrevision = 3\nrequires-python = ">=3.11"\n\n{more}{own}' + "".join(packages)


def options(tmp_path: Path, text: str, *build_packages: str) -> list[str]:
    (tmp_path / "uv.lock").write_text(text)
    return lockfile.options(tmp_path, build_packages)


SDIST = f'sdist = {{ url = "https://files.pythonhosted.org/a/one-1.0.tar.gz", hash = "{HASH}" }}\n'
GIT = "https://github.com/a/one?rev=v1#" + "b" * 40
ACCEPTED = {
    "a wheel": package(),
    "a wheel and its source": package(more=SDIST),
    "its source alone, which uv then does not build": package(wheels="", more=SDIST),
    "an index of this host": package(source='registry = "http://127.0.0.1:3141/simple"'),
    "a wheel by its URL": package(source='url = "https://example.com/one-1.0-py3-none-any.whl"'),
    "a wheel in the repository": package(
        source='path = "wheels/one-1.0-py3-none-any.whl"',
        wheels=f'{{ filename = "one-1.0-py3-none-any.whl", hash = "{HASH}" }}',
    ),
    "an index in the repository": package(
        source='registry = "wheels"', wheels=f'{{ path = "one-1.0-py3-none-any.whl", hash = "{HASH}" }}'
    ),
    "git over https, by its commit": package(source=f'git = "{GIT}"', wheels=""),
    "git over ssh, by its commit": package(source=f'git = "{GIT.replace("https://", "ssh://git@")}"', wheels=""),
    "a member of the workspace": package(source='editable = "libs/one"', wheels=""),
    "a directory of the repository": package(source='directory = "libs/../libs/one"', wheels=""),
    "a longer hash": package(wheels=WHEEL.replace(HASH, "sha512:" + "a" * 128)),
}


@pytest.mark.parametrize("text", ACCEPTED.values(), ids=ACCEPTED)
def test_what_is_pinned_is_installed(tmp_path: Path, text: str) -> None:
    assert "--require-build-hashes" not in options(tmp_path, lock(text))


NO_HASH = "one has no SHA-256 hash"
OUTSIDE = "which is outside of the repository"
ON_THE_WAY = "where others can change what is sent"
REFUSED = {
    "no hash": (package(wheels=WHEEL.replace(f', hash = "{HASH}"', "")), NO_HASH),
    "no hash of one of two": (package(wheels=f"{WHEEL},\n    {WHEEL.replace(HASH, '')}"), NO_HASH),
    "no hash of the source": (package(more=SDIST.replace(f', hash = "{HASH}"', "")), NO_HASH),
    "a hash that is none any more": (package(wheels=WHEEL.replace(HASH, "md5:" + "a" * 32)), NO_HASH),
    "half a hash": (package(wheels=WHEEL.replace(HASH, HASH[:40])), NO_HASH),
    "no file at all": (package(wheels=""), NO_HASH),
    "a URL without a hash": (
        package(source='url = "https://example.com/one.whl"', wheels='{ url = "https://x/one.whl" }'),
        NO_HASH,
    ),
    "a wheel over http": (package(wheels=WHEEL.replace("https:", "http:")), ON_THE_WAY),
    "its source over http": (package(more=SDIST.replace("https:", "http:")), ON_THE_WAY),
    "an index over http": (package(source='registry = "http://pypi.example.com/simple"'), ON_THE_WAY),
    "a URL over http": (package(source='url = "http://example.com/one.whl"'), ON_THE_WAY),
    "a host that only begins like this one": (
        package(source='registry = "http://127.0.0.1.example.com/simple"'),
        ON_THE_WAY,
    ),
    "a user called like this host": (package(source='registry = "http://localhost@example.com/simple"'), ON_THE_WAY),
    "capital letters": (package(source='registry = "HTTP://example.com/simple"'), ON_THE_WAY),
    "ftp": (package(source='url = "ftp://example.com/one.whl"'), ON_THE_WAY),
    "a file of the host": (package(wheels=WHEEL.replace("https://files.pythonhosted.org", "file:///srv")), ON_THE_WAY),
    "git over http": (package(source=f'git = "{GIT.replace("https", "http")}"', wheels=""), ON_THE_WAY),
    "git without encryption": (package(source=f'git = "{GIT.replace("https", "git")}"', wheels=""), ON_THE_WAY),
    "git of the host": (
        package(source=f'git = "{GIT.replace("https://github.com", "file:///srv")}"', wheels=""),
        ON_THE_WAY,
    ),
    "git by a branch": (
        package(source='git = "https://github.com/a/one?branch=main"', wheels=""),
        "without the hash of its",
    ),
    "git by half a commit": (package(source=f'git = "{GIT[:-20]}"', wheels=""), "without the hash of its"),
    "a directory above": (package(source='directory = "../one"', wheels=""), OUTSIDE),
    "a directory above, later": (package(source='directory = "libs/../../one"', wheels=""), OUTSIDE),
    "a directory of the host": (package(source='editable = "/srv/one"', wheels=""), OUTSIDE),
    "a wheel of the host": (package(source='path = "/tmp/one.whl"'), OUTSIDE),
    "an index of the host": (package(source='registry = "../wheels"'), OUTSIDE),
    "a file of an index above": (
        package(source='registry = "wheels"', wheels=f'{{ path = "../../one.whl", hash = "{HASH}" }}'),
        OUTSIDE,
    ),
    "a source of the future": (package(source='ipfs = "x"'), "from a source that Slipway does not know"),
    "no source": (package().replace(f"source = {{ {INDEX} }}\n", ""), "from a source that Slipway does not know"),
}


@pytest.mark.parametrize(("text", "sentence"), REFUSED.values(), ids=REFUSED)
def test_what_is_not_pinned_or_can_be_changed_on_its_way_is_refused(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(FailedError, match=r"uv\.lock is refused: one ") as error:
        options(tmp_path, lock(text))
    assert sentence in str(error.value)


BAD = package("bad", wheels="")


def test_what_is_needed_by_what_is_needed_counts_also_through_extras(tmp_path: Path) -> None:
    middle = package(more='dependencies = [{ name = "two", extra = ["fast"] }]\n')
    two = package("two", more='\n[package.optional-dependencies]\nfast = [{ name = "bad" }]\n')
    two = two.replace("wheels = [", "").replace(f"    {WHEEL},\n]\n", "")  # it stands behind a table
    two = two.replace("source =", f"wheels = [{WHEEL}]\nsource =")
    with pytest.raises(FailedError, match="bad has no SHA-256 hash"):
        options(tmp_path, lock(middle, two, BAD))
    options(tmp_path, lock(middle.replace(', extra = ["fast"]', ""), two, BAD))


def test_what_only_developers_need_does_not_count(tmp_path: Path) -> None:
    options(tmp_path, lock(package(), BAD))


def test_without_a_project_all_packages_count(tmp_path: Path) -> None:
    with pytest.raises(FailedError, match="bad has no"):
        options(tmp_path, lock(package(), BAD, root='editable = "member"'))


def test_only_packages_that_are_named_are_built_and_then_all_builds_have_hashes(tmp_path: Path) -> None:
    text = lock(package("one"), package("two-parts"), package("lib", source='directory = "lib"', wheels=""))
    assert options(tmp_path, text) == ["--no-build-package=one", "--no-build-package=two-parts"]
    named = options(tmp_path, text, "Two_Parts", "not-there")
    assert [item for item in named if "package" in item] == ["--no-build-package=one"]
    assert "--require-build-hashes" in named


def test_a_project_that_pins_what_builds_need_is_held_to_it(tmp_path: Path) -> None:
    pinned = f'[manifest]\nbuild-constraints = [{{ name = "hatchling", specifier = "==1", hashes = ["{HASH}"] }}]\n\n'
    assert "--require-build-hashes" in options(tmp_path, lock(package(), more=pinned))
    without = pinned.replace(f', hashes = ["{HASH}"]', "")
    assert "--require-build-hashes" not in options(tmp_path, lock(package(), more=without))


DAMAGED = {
    "no TOML": "[[package",
    "what another version of TOML allows": 'version = 1\nother = {\n  a = 1,\n}\n',
    "nested too deeply": "a = " + "[" * 100_000,
    "packages that are a text": 'package = "one"',
    "packages that are numbers": "package = [1, 2]",
    "a source that is a text": '[[package]]\nname = "one"\nsource = "pypi"',
    "a name that is a number": '[[package]]\nname = 7\nsource = { virtual = "." }\ndependencies = [7]',
    "bytes that are no text": "\udcff",
}  # fmt: skip


@pytest.mark.parametrize("text", DAMAGED.values(), ids=DAMAGED)
def test_a_lock_that_cannot_be_read_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "uv.lock").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(FailedError, match=r"uv\.lock cannot be read .* Type `uv lock`"):
        lockfile.options(tmp_path, [])


def test_a_lock_outside_of_the_release_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "release").mkdir()
    (tmp_path / "uv.lock").write_text(lock(package()))
    (tmp_path / "release/uv.lock").symlink_to("../uv.lock")
    with pytest.raises(FailedError, match="leads out of"):
        lockfile.options(tmp_path / "release", [])


def test_what_uv_says_of_a_package_that_is_not_to_be_built_is_a_sentence() -> None:
    said = (
        "error: Distribution `docopt==0.6.2 @ registry+https://pypi.org/simple` can't be installed because it is "
        "marked as `--no-build` but has no binary distribution"
    )
    assert "docopt has no wheel for this host" in explain.sentence(said)
    assert "add docopt to build_packages" in explain.sentence(said)


def test_what_uv_says_of_a_build_requirement_without_a_hash_is_a_sentence() -> None:
    said = (
        "error: Failed to download and build `docopt==0.6.2`\n  cause: Failed to resolve requirements from `setup.py` "
        "build\n  cause: No solution found when resolving: `setuptools>=40.8.0`\n  cause: Hash-checking is required, "
        "but no trusted hash was provided for: `setuptools`"
    )
    assert "docopt is built here, and setuptools, which that needs, is not pinned with a hash" in explain.sentence(said)


MEMBERS = """version = 1
revision = 3

[[package]]
name = "api"
version = "1.0"
source = { editable = "services/api" }
dependencies = [{ name = "shared" }]

[[package]]
name = "shared"
version = "1.0"
source = { directory = "libs/shared" }

[[package]]
name = "worker"
version = "1.0"
source = { editable = "services/worker" }
dependencies = [{ name = "one" }]

"""


@pytest.mark.parametrize(("member", "refused"), [("api", False), ("worker", True)])
def test_of_a_workspace_only_what_the_app_needs_is_looked_at(tmp_path: Path, member: str, refused: bool) -> None:
    for name in ("api", "worker"):
        (tmp_path / "services" / name).mkdir(parents=True)
        (tmp_path / "services" / name / "pyproject.toml").touch()
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "uv.lock").write_text(MEMBERS + package(wheels=""))
    if not refused:
        assert lockfile.options(tmp_path, [], f"services/{member}") == ["--no-build-package=one"]
        return
    with pytest.raises(FailedError, match=NO_HASH):
        lockfile.options(tmp_path, [], f"services/{member}")


@pytest.mark.parametrize(("place", "refused"), [("../libs/shared", False), ("../../shared", True)])
def test_a_lock_in_a_directory_names_paths_from_there(tmp_path: Path, place: str, refused: bool) -> None:
    (tmp_path / "backend").mkdir()
    (tmp_path / "backend/pyproject.toml").touch()
    text = lock(package("shared", f'directory = "{place}"', wheels=""), needs="shared")
    (tmp_path / "backend/uv.lock").write_text(text)
    if not refused:
        assert lockfile.options(tmp_path, [], "backend") == []
        return
    with pytest.raises(FailedError, match=OUTSIDE):
        lockfile.options(tmp_path, [], "backend")
