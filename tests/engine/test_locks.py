"""Which file pins a release, and what the files of each kind say; without uv and without an index."""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from slipway.base import files
from slipway.base import settings as config
from slipway.base.errors import FailedError
from slipway.release import (
    build,
    compat,
    locks,
    markers,
    packages,
    pins,
    pipfile,
    poetry,
    pylock,
    records,
    requirements,
    source,
    specifiers,
)
from slipway.release.pins import Pin, Plan

from .conftest import GitRepository

HASH = "sha256:" + "a" * 64
LINUX = {
    "implementation_name": "cpython",
    "implementation_version": "3.12.1",
    "os_name": "posix",
    "platform_machine": "x86_64",
    "platform_release": "6.1",
    "platform_system": "Linux",
    "platform_version": "1",
    "python_full_version": "3.12.1",
    "platform_python_implementation": "CPython",
    "python_version": "3.12",
    "sys_platform": "linux",
}


# Which file


@pytest.mark.parametrize(
    ("files", "directory", "named", "found"),
    [
        (["uv.lock", "poetry.lock"], "", "", "uv.lock"),
        (["poetry.lock", "requirements.txt"], "", "", "poetry.lock"),
        (["uv.lock", "backend/requirements.txt"], "backend", "", "backend/requirements.txt"),
        (["uv.lock", "backend/pyproject.toml"], "backend", "", "uv.lock"),
        (["Pipfile.lock"], "src/api", "", "Pipfile.lock"),
        (["backend/requirements/prod.txt"], "backend", "", "backend/requirements/prod.txt"),
        (["requirements.txt", "backend/requirements.txt"], "", "", "requirements.txt"),
        (["uv.lock", "deps/pinned.txt"], "", "deps/pinned.txt", "deps/pinned.txt"),
        (["uv.lock", "backend/pinned.txt"], "backend", "pinned.txt", "backend/pinned.txt"),
        (["uv.lock"], "", "pinned.txt", ""),
        (["pyproject.toml"], "", "", "pyproject.toml"),
        (["README.md"], "", "", ""),
    ],
)
def test_the_nearest_lock_file_counts(files: list[str], directory: str, named: str, found: str) -> None:
    assert locks.find(directory, files.__contains__, named) == found


# Versions and markers


@pytest.mark.parametrize(
    ("constraint", "yes", "no"),
    [
        ("^3.9", "3.13.1", "4.0"),
        ("^0.2.3", "0.2.9", "0.3.0"),
        ("~3.11", "3.11.9", "3.12.0"),
        ("~=1.4.2", "1.4.9", "1.5"),
        (">=3.8,<3.13", "3.12.7", "3.13.0"),
        (">=2.7, !=3.0.*, !=3.1.*", "3.2", "3.1.4"),
        ("3.10.*", "3.10.2", "3.11"),
        (">=3.7,<3.8 || >=3.10", "3.11", "3.9"),
        (">=1.0", "1.0.post1", "1.0rc1"),
        ("1.0", "1.0.0", "1.0.1"),
        ("*", "9", ""),
    ],
)
def test_what_a_constraint_allows(constraint: str, yes: str, no: str) -> None:
    assert specifiers.allows(constraint, yes)
    assert not no or not specifiers.allows(constraint, no)


def test_a_constraint_of_poetry_as_pip_has_it() -> None:
    assert [specifiers.standard(text) for text in ("^3.4", "~1.2.3", "*", ">=1,<2", "1.5")] == [
        *(">=3.4,<4", ">=1.2.3,<1.3", "", ">=1,<2", "==1.5"),
    ]


@pytest.mark.parametrize(
    ("marker", "holds"),
    [
        ("", True),
        ('python_version < "3.11"', False),
        ('python_version >= "3.8" and sys_platform == "linux"', True),
        ('sys_platform == "win32" or (os_name == "posix" and platform_machine != "aarch64")', True),
        ("platform_system == 'Windows'", False),
        ("'linux' in sys_platform", True),
        ("platform_machine not in 'x86_64 AMD64'", False),
        ("'3.10' <= python_version", True),
        ('python_full_version < "3.12.0" or extra == "pg"', True),
        ('extra == "other"', False),
        ("platform.python_implementation == 'CPython'", True),
        ('sys.platform == "linux"', True),
    ],
)
def test_a_marker(marker: str, holds: bool) -> None:
    assert markers.holds(marker, LINUX, ["pg"]) is holds


@pytest.mark.parametrize(
    "marker", ["python_version", "( os_name == 'x'", "nobody == 'x'", "os_name == 'x' x", "$", "(" * 99]
)
def test_what_is_no_marker_is_refused(marker: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        markers.holds(marker, LINUX)


# Poetry

POETRY = """
[[package]]
name = "fast-api"
version = "1.0"
python-versions = ">=3.8"
files = [{file = "fast_api-1.0-py3-none-any.whl", hash = "HASH"}]
[package.dependencies]
old = {version = "*", markers = "python_version < '3.10'"}
core = ">=2"
uvloop = {version = "*", optional = true, markers = "sys_platform != 'win32'"}
[package.extras]
fast = ["uvloop (>=0.1)"]

[[package]]
name = "core"
version = "1.0"
python-versions = ">=3.6,<3.9"
files = [{file = "core-1.0.whl", hash = "HASH"}]

[[package]]
name = "core"
version = "2.0"
python-versions = ">=3.9"
files = [{file = "core-2.0.whl", hash = "HASH"}]

[[package]]
name = "uvloop"
version = "0.2"
optional = true
python-versions = "*"
files = [{file = "uvloop-0.2.tar.gz", hash = "HASH"}]

[[package]]
name = "psycopg"
version = "3.0"
optional = true
python-versions = "*"
files = [{file = "psycopg-3.0.whl", hash = "HASH"}]

[[package]]
name = "ours"
version = "0.1"
python-versions = "*"
files = []
[package.source]
type = "directory"
url = "../libs/ours"

[[package]]
name = "forked"
version = "0.1"
python-versions = "*"
files = []
[package.source]
type = "git"
url = "https://example.com/forked.git"
reference = "main"
resolved_reference = "COMMIT"

[[package]]
name = "inner"
version = "0.1"
python-versions = "*"
files = [{file = "inner-0.1.whl", hash = "HASH"}]
[package.source]
type = "legacy"
url = "https://pypi.example.com/simple"
reference = "corp"

[[package]]
name = "pytest"
version = "8"
python-versions = "*"
files = []

[metadata]
lock-version = "2.0"
python-versions = "^3.9"
""".replace("HASH", HASH).replace("COMMIT", "c" * 40)
PROJECT = """
[tool.poetry]
name = "x"
[tool.poetry.dependencies]
python = "^3.9"
"fast.API" = {version = "^1", extras = ["fast"]}
psycopg = {version = "*", optional = true}
ours = {path = "../libs/ours"}
forked = {git = "https://example.com/forked.git"}
winonly = {version = "*", platform = "win32"}
[tool.poetry.extras]
pg = ["psycopg"]
[tool.poetry.group.prod.dependencies]
inner = {version = "*", source = "corp"}
[tool.poetry.dev-dependencies]
pytest = "*"
"""


def poetry_plan(*extras: str, groups: tuple[str, ...] = (), python: str = "3.12") -> Plan:
    return poetry.read(
        tomllib.loads(POETRY), tomllib.loads(PROJECT), "backend", markers.of_version(LINUX, python), extras, groups
    )


def test_of_a_lock_of_poetry_what_the_project_needs_is_installed() -> None:
    found = {pin.name: pin for pin in poetry_plan().pins}
    assert set(found) == {"fast-api", "core", "uvloop", "ours", "forked"}
    assert found["core"].version == "2.0"
    assert found["ours"].path == "libs/ours"
    assert (found["forked"].url, found["forked"].commit) == ("https://example.com/forked.git", "c" * 40)


def test_of_a_lock_of_poetry_extras_and_groups_are_installed_when_they_are_chosen() -> None:
    plan = poetry_plan("pg", groups=("prod", "dev"))
    assert {"psycopg", "inner", "pytest"} <= {pin.name for pin in plan.pins}
    assert plan.indexes == [("corp", "https://pypi.example.com/simple")]


def test_of_a_lock_of_poetry_a_version_is_taken_for_the_python() -> None:
    assert {pin.version for pin in poetry_plan(python="3.8").pins if pin.name == "core"} == {"1.0"}


def test_a_lock_of_poetry_2_has_markers_on_its_packages() -> None:
    text = POETRY.replace(
        'name = "core"\nversion = "1.0"', 'name = "core"\nmarkers = "python_version < \'3.9\'"\nversion = "1.0"'
    )
    plan = poetry.read(tomllib.loads(text), tomllib.loads(PROJECT), "", LINUX)
    assert [pin.version for pin in plan.pins if pin.name == "core"] == ["2.0"]


def test_a_project_of_poetry_may_declare_itself_as_others_do() -> None:
    project = {"project": {"dependencies": ["fast-api[fast] (>=1,<2)", "nope ; sys_platform == 'win32'"]}}
    plan = poetry.read(tomllib.loads(POETRY), project, "", LINUX)
    assert {pin.name for pin in plan.pins} == {"fast-api", "core", "uvloop"}


# Pipenv, pylock


def test_of_a_lock_of_pipenv_indexes_have_their_credentials_from_variables() -> None:
    lock = {
        "_meta": {
            "sources": [{"name": "corp", "url": "https://${U}:$P@pypi.example.com/simple"}],
            "requires": {"python_version": "3.11"},
        },
        "default": {
            "a": {"version": "==1.0", "hashes": [HASH]},
            "b": {"git": "https://example.com/b.git", "ref": "c" * 40},
            "c": {"editable": True, "path": "."},
        },
        "develop": {"d": {"version": "==2", "hashes": [HASH]}},
    }
    plan = pipfile.read(lock, "backend", ["dev"], {"U": "bob", "P": "s3cret"})
    assert plan.indexes == [("corp", "https://bob:s3cret@pypi.example.com/simple")]
    assert [(pin.name, pin.path) for pin in plan.pins if pin.path] == [("c", "backend")]
    assert {pin.name for pin in plan.pins} == {"a", "b", "c", "d"}
    assert specifiers.allows(plan.python, "3.11.4")
    assert not specifiers.allows(plan.python, "3.12.0")


def test_of_a_pylock_other_archives_than_those_of_an_index() -> None:
    lock = tomllib.loads(f"""
[[packages]]
name = "a"
vcs = {{type = "git", url = "https://example.com/a.git", commit-id = "{"c" * 40}"}}
[[packages]]
name = "b"
directory = {{path = "../b"}}
[[packages]]
name = "c"
archive = {{url = "https://example.com/c.tar.gz", hashes = {{sha256 = "{"a" * 64}"}}}}
""")
    found = {pin.name: pin for pin in pylock.read(lock, "backend", LINUX).pins}
    assert found["a"].commit == "c" * 40
    assert found["b"].path == "b"
    assert found["c"].hashes == (HASH,)


# Requirements


def plan_of(text: str, **others: str) -> Plan:
    texts = {"backend/requirements.txt": text, **others}
    return requirements.read("backend/requirements.txt", texts.__getitem__, {"TOKEN": "s3cret"})


def test_requirements_have_many_forms() -> None:
    plan = plan_of(f"""
--index-url https://user:${{TOKEN}}@pypi.example.com/simple
--extra-index-url=https://other.example.com/simple
a[x,y] == 1.0 ; python_version < "3.9" --hash={HASH}  # why
b==2.0 \\
    --hash={HASH} \\
    --hash=sha256:{"b" * 64}
c @ git+https://example.com/c.git@{"c" * 40}#subdirectory=lib
git+ssh://git@example.com/d.git@{"c" * 40}#egg=d
-e ../libs/e[x]
f @ https://example.com/f-1.0-py3-none-any.whl#sha256={"a" * 64}
./wheels/g-1.0-py3-none-any.whl
""")
    assert not plan.loose
    assert plan.indexes[0] == ("", "https://user:s3cret@pypi.example.com/simple")
    found = {pin.name or pin.path: pin for pin in plan.pins}
    assert found["a"].marker == 'python_version < "3.9"'
    assert len(found["b"].hashes) == 2
    assert (found["c"].commit, found["c"].subdirectory) == ("c" * 40, "lib")
    assert found["d"].url == "ssh://git@example.com/d.git"
    assert "libs/e" in found
    assert found["f"].hashes == (HASH,)
    assert "backend/wheels/g-1.0-py3-none-any.whl" in found
    pins.check(plan, "requirements.txt", "")


@pytest.mark.parametrize("line", ["a>=1", "a", "a==1.*", "a==1.0", "a~=1.0", f"a==1,!=2 --hash={HASH}"])
def test_a_line_that_leaves_something_open_is_loose(line: str) -> None:
    assert plan_of(f"b==1.0 --hash={HASH}\n{line}\n").loose


@pytest.mark.parametrize("line", ["c @ git+https://example.com/c.git@main", "-e git+https://example.com/c.git#egg=c"])
def test_what_follows_a_branch_of_git_is_loose(line: str) -> None:
    assert plan_of(f"b==1.0 --hash={HASH}\n{line}\n").loose


def test_files_that_include_one_another_are_read_once() -> None:
    plan = plan_of(
        "-r ../base.txt\n-c limits.txt\n",
        **{"base.txt": f"-r base.txt\na==1 --hash={HASH}", "backend/limits.txt": "z==1"},
    )
    assert [pin.name for pin in plan.pins] == ["a"]
    assert plan.files == ["backend/limits.txt", "backend/requirements.txt", "base.txt"]


@pytest.mark.parametrize(
    ("line", "said"),
    [("-r base.txt", "it includes base.txt, which is not there"), ("-r https://example.com/x.txt", "is at a URL")],
)
def test_an_included_file_that_is_not_there_is_named(tmp_path: Path, line: str, said: str) -> None:
    (tmp_path / "requirements.txt").write_text(f"{line}\n")
    with pytest.raises(ValueError, match=said):
        requirements.read("requirements.txt", lambda path: files.read_text(tmp_path / path, inside=tmp_path))


# What is refused


@pytest.mark.parametrize(
    ("pin", "reason"),
    [
        (Pin("a", "1.0"), "no SHA-256 hash"),
        (Pin("a", "1.0", ("md5:1",)), "no SHA-256 hash"),
        (Pin("a", "", (HASH,)), "no version"),
        (Pin("a", "1.0 --index-url=https://x", (HASH,)), "no version"),
        (Pin("a b", "1.0", (HASH,)), "in a way that no index knows"),
        (Pin("a", url="git+https://example.com/a", commit="main"), "without the hash of its commit"),
        (Pin("a", url="https://example.com/a", commit="abc"), "without the hash of its commit"),
        (Pin("a", url="http://example.com/a", commit="c" * 40), "others can change what is sent"),
        (Pin("a", url="http://example.com/a.whl", hashes=(HASH,)), "others can change what is sent"),
        (Pin("a", url="file:///etc/a.whl", hashes=(HASH,)), "others can change what is sent"),
        (Pin("a", url="https://example.com/a.whl"), "no SHA-256 hash"),
        (Pin("a", path="../a"), "outside of the repository"),
        (Pin("a", path="/etc"), "outside of the repository"),
        (Pin("a", path="x/../../a"), "outside of the repository"),
    ],
)
def test_what_is_not_pinned_or_comes_from_elsewhere_is_refused(pin: Pin, reason: str) -> None:
    with pytest.raises(FailedError, match=reason):
        pins.check(Plan([pin]), "poetry.lock", "Type `poetry lock`.")


def test_an_index_that_others_can_change_is_refused() -> None:
    with pytest.raises(FailedError, match="Use https"):
        pins.check(Plan(indexes=[("x", "http://pypi.example.com/simple")]), "poetry.lock", "")


# The Python


@pytest.mark.parametrize(
    ("files", "says"),
    [
        (["a-1-py3-none-any.whl"], ""),
        (["a-1-cp38-abi3-manylinux_2_17_x86_64.whl"], ""),
        (["a-1.tar.gz"], ""),
        (["a-1-cp312-cp312-manylinux2014_x86_64.whl"], ""),
        (["a-1-cp312-cp312-win_amd64.whl"], ""),  # none for Linux at all: no other Python helps
        (["a-1-cp311-cp311-manylinux2014_x86_64.whl", "a-1.tar.gz"], '3.12; set apps.shop.python to "3.11".'),
        (["a-1-cp310-cp310-manylinux2014_x86_64.whl", "a-1-cp313-cp313-manylinux2014_x86_64.whl"], 'to "3.13".'),
        (["a-1-cp312-cp312-manylinux2014_aarch64.whl", "a-1-cp311-cp311-manylinux2014_x86_64.whl"], 'to "3.11".'),
    ],
)
def test_wheels_are_compared_with_the_python(files: list[str], says: str) -> None:
    plan = Plan([Pin("a", "1", files=tuple(files))])
    said = compat.problem("shop", "poetry.lock", lambda _: plan, LINUX, [])
    assert said.endswith(says)
    assert bool(said) is bool(says)
    assert not compat.problem("shop", "poetry.lock", lambda _: plan, LINUX, ["A"])


# Records


@pytest.fixture
def mirror(settings: config.Settings, repository: GitRepository) -> GitRepository:
    repository.git("clone", "--quiet", "--bare", str(repository.path), str(settings.repository))
    return repository


def commit(settings: config.Settings, repository: GitRepository, files: dict[str, str]) -> str:
    sha = repository.commit(files)
    repository.git("push", "--quiet", "--force", str(settings.repository), "HEAD:main")
    return sha


def test_a_virtualenv_is_known_by_all_that_decides_what_is_in_it(
    settings: config.Settings, mirror: GitRepository
) -> None:
    def identity(files: dict[str, str], **changes: object) -> str:
        sha = commit(settings, mirror, files)
        return records.identity(replace(settings, **changes), build.repository(settings), sha)  # type: ignore[arg-type]

    first = identity({"requirements.txt": "-r base.txt\n", "base.txt": "a==1\n", "main.py": ""})
    assert identity({"main.py": "changed"}) == first
    others = [
        identity({}, extras=["pg"]),
        identity({}, groups=["prod"]),
        identity({}, build_packages=["a"]),
        identity({}, directory="backend"),
        identity({"base.txt": "a==2\n"}),
        identity({"pyproject.toml": ""}),
    ]
    assert len({first, *others}) == len(others)  # a directory in which nothing else is changes nothing
    assert identity({"poetry.lock": ""}) not in {first, *others}


def test_a_virtualenv_is_known_by_what_a_link_leads_to(settings: config.Settings, mirror: GitRepository) -> None:
    (mirror.path / "requirements.txt").symlink_to("deps.txt")

    def identity(text: str) -> str:
        return records.identity(settings, build.repository(settings), commit(settings, mirror, {"deps.txt": text}))

    assert identity("a==1") != identity("a==2")


def test_a_record_is_for_its_release_and_for_live_ones_with_the_same_requirements(settings: config.Settings) -> None:
    record = f"a==1.0 --hash={HASH}\n"
    records.write(settings, "v1-a", "one", record)
    assert records.find(settings, "v1-a", "one") == record
    assert records.find(settings, "v1-a", "two") == ""
    assert records.find(settings, "v2-b", "one") == ""  # v1-a was never live
    entry = {"deployment": "d", "action": "deploy", "phase": "result", "outcome": "succeeded", "release": "v1-a"}
    more = {"tag": "v1", "sha": "a", "owner": "o", "at": "2026-11-24T10:00:00.000+00:00", "detail": {}}
    settings.journal.write_text(json.dumps({**entry, **more, "format": 1}) + "\n")
    assert records.find(settings, "v2-b", "one") == record


@pytest.mark.parametrize("record", ["a>=1", "a==1.0", "a @ https://example.com/a.whl\nb", "-r /etc/passwd"])
def test_what_a_build_says_and_is_no_list_of_pins_is_not_kept(settings: config.Settings, record: str) -> None:
    with pytest.raises(FailedError, match="not a list of pinned packages"):
        records.write(settings, "v1-a", "one", record)


def test_requirements_are_as_old_as_their_last_change(settings: config.Settings, mirror: GitRepository) -> None:
    first = commit(settings, mirror, {"requirements.txt": "a"})
    last = commit(settings, mirror, {"main.py": ""})
    found = build.repository(settings)
    assert records.cutoff(settings, found, last) == mirror.git("log", "-1", "--format=%cI", first)


def test_a_build_without_its_python_says_so(tmp_path: Path) -> None:
    from tests.engine.test_packages import refusal

    said = refusal(tmp_path, {"requirements.txt": f"a==1 --hash={HASH}"}, python="/bin/false")
    assert "the Python of shop, does not run" in said
    assert packages.__doc__


# Files as other systems write them


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_is_no_part_of_a_file(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "requirements.txt").write_bytes(f"a==1.0 --hash={HASH}\r\n".encode(encoding))
    text = files.read_text(tmp_path / "requirements.txt", inside=tmp_path)
    assert not requirements.read("requirements.txt", lambda _: text).loose


# What is not read


@pytest.mark.parametrize(
    ("name", "cure"),
    [
        ("pdm.lock", "pdm export --prod -o requirements.lock"),
        ("Pipfile", "pipenv lock"),
        ("setup.py", "uv pip compile setup.py --universal --generate-hashes -o requirements.lock"),
        ("requirements.in", "uv pip compile requirements.in --universal"),
        ("environment.yml", "packages of conda are not installed"),
    ],
)
def test_a_file_that_is_not_read_is_named_with_what_makes_one_that_is(tmp_path: Path, name: str, cure: str) -> None:
    (tmp_path / "backend").mkdir()
    (tmp_path / "backend" / name).write_text("")
    with pytest.raises(FailedError) as caught:
        source.check(tmp_path, [], "Commit 1", "", "backend")
    assert f"backend/{name} is not read: " in str(caught.value)
    assert cure in str(caught.value)


# Projects without a lock file


def test_what_a_project_takes_from_elsewhere_is_never_looked_up_by_its_name() -> None:
    table = {
        "a": {"git": "git@example.com:me/a.git", "tag": "1.0", "subdirectory": "lib"},
        "b": {"path": "../b", "develop": True},
        "c": {"url": "https://example.com/c-1.0.tar.gz"},
        "d": "^1.2",
    }
    project = {"project": {"dependencies": ["e[x] @ git+https://example.com/e.git@main ; python_version > '3'"]}}
    assert poetry.texts({**project, "tool": {"poetry": {"dependencies": table}}}, place="file:///srv/backend") == [
        "e[x] @ git+https://example.com/e.git@main ; python_version > '3'",
        "a @ git+ssh://git@example.com/me/a.git@1.0#subdirectory=lib",
        "b @ file:///srv/backend/../b",
        "c @ https://example.com/c-1.0.tar.gz",
        "d>=1.2,<2",
    ]


def test_a_group_has_what_it_includes() -> None:
    groups = {"base": ["a"], "Prod": [{"include-group": "base"}, "b"], "loop": [{"include-group": "loop"}]}
    assert poetry.texts({"dependency-groups": groups}, groups=["prod"]) == ["a", "b"]
    with pytest.raises(ValueError, match="loop"):
        poetry.texts({"dependency-groups": groups}, groups=["loop"])


# Lists for uv


@pytest.mark.parametrize("key", ["name", "version", "url", "marker", "subdirectory", "path"])
def test_a_lock_file_puts_no_line_of_its_own_into_the_list_for_uv(key: str) -> None:
    changes: dict[str, Any] = {key: "x\n--index-url http://example.com/"}
    bad = replace(Pin("a", "1.0", (HASH,)), **changes)
    with pytest.raises(FailedError, match="line break"):
        pins.check(Plan([bad]), "Pipfile.lock", "Type `pipenv lock`.")


def test_a_directory_is_installed_whatever_the_lock_file_calls_it() -> None:
    assert pins.render(Plan([Pin("e1839a8", path="my lib")]), Path("/r")) == "file:///r/my%20lib\n"


def test_a_marker_without_a_text_is_none() -> None:
    with pytest.raises(markers.MarkerError):
        markers.holds("extra == extra", LINUX)
