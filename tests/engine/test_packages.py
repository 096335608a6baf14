"""Lock files of all kinds, with uv itself and packages of the public index."""

from __future__ import annotations

import base64
import getpass
import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from slipway.base.errors import FailedError
from slipway.release import packages
from slipway.release.work import Work

ROOT = Path(__file__).resolve().parents[2]
UV = ROOT / ".tools/bin/uv"

pytestmark = pytest.mark.slow  # uv asks the index

IDNA = "82fee1fc78add43492d3a1898bfa6d8a904cc97d8427f683ed8e798d07761aa0"
SNIFFIO = "2f6da418d1f1e0fddd844478f41680e794e6051915791a034ff65e5f100525a2"
SNIFFIO_SOURCE = "f4324edc670a0f49750a81b895f35c3adb843cca46f0530f79fc1babb23789dc"
ANYIO = "048e05d0f6caeed70d731f3db756d35dcc1f35747c8c403364a8332c630441b8"

POETRY = f"""
[[package]]
name = "anyio"
version = "4.3.0"
optional = false
python-versions = ">=3.8"
files = [{{file = "anyio-4.3.0-py3-none-any.whl", hash = "sha256:{ANYIO}"}}]

[package.dependencies]
exceptiongroup = {{version = ">=1.0.2", markers = "python_version < \\"3.11\\""}}
idna = ">=2.8"
sniffio = ">=1.1"

[[package]]
name = "idna"
version = "3.7"
optional = false
python-versions = ">=3.5"
files = [{{file = "idna-3.7-py3-none-any.whl", hash = "sha256:{IDNA}"}}]

[[package]]
name = "sniffio"
version = "1.3.1"
optional = false
python-versions = ">=3.7"
files = [{{file = "sniffio-1.3.1-py3-none-any.whl", hash = "sha256:{SNIFFIO}"}}]

[[package]]
name = "pytest"
version = "8.0.0"
optional = false
python-versions = ">=3.8"
files = []

[metadata]
lock-version = "2.0"
python-versions = "^3.9"
content-hash = "x"
"""
PROJECT = """
[tool.poetry]
name = "shop"
version = "1.0.0"
description = ""
authors = []

[tool.poetry.dependencies]
python = "^3.9"
anyio = "^4.0"

[tool.poetry.group.dev.dependencies]
pytest = "^8"

[build-system]
requires = ["poetry-core"]
build-backend = "poetry.core.masonry.api"
"""
HASHED = f"""
anyio==4.3.0 \\
    --hash=sha256:{ANYIO}
idna==3.7 --hash=sha256:{IDNA}
sniffio==1.3.1 ; python_version >= "3.8" \\
    --hash=sha256:{SNIFFIO} # via anyio
"""
PIPFILE = f"""
{{"_meta": {{"hash": {{}}, "pipfile-spec": 6, "requires": {{}},
  "sources": [{{"name": "pypi", "url": "https://pypi.org/simple", "verify_ssl": true}}]}},
 "default": {{"anyio": {{"hashes": ["sha256:{ANYIO}"], "index": "pypi", "version": "==4.3.0"}},
  "idna": {{"hashes": ["sha256:{IDNA}"], "version": "==3.7", "markers": "python_version >= '3.5'"}},
  "sniffio": {{"hashes": ["sha256:{SNIFFIO}"], "version": "==1.3.1"}},
  "colorama": {{"hashes": ["sha256:{IDNA}"], "version": "==0.4.6", "markers": "sys_platform == 'win32'"}}}},
 "develop": {{}}}}
"""
PYLOCK = f"""
lock-version = "1.0"
requires-python = ">=3.9"
created-by = "test"

[[packages]]
name = "anyio"
version = "4.3.0"
wheels = [{{name = "anyio-4.3.0-py3-none-any.whl", url = "https://files.pythonhosted.org/anyio-4.3.0-py3-none-any.whl", hashes = {{sha256 = "{ANYIO}"}}}}]

[[packages]]
name = "idna"
version = "3.7"
wheels = [{{name = "idna-3.7-py3-none-any.whl", url = "https://files.pythonhosted.org/idna-3.7-py3-none-any.whl", hashes = {{sha256 = "{IDNA}"}}}}]

[[packages]]
name = "sniffio"
version = "1.3.1"
wheels = [{{name = "sniffio-1.3.1-py3-none-any.whl", url = "https://files.pythonhosted.org/sniffio-1.3.1-py3-none-any.whl", hashes = {{sha256 = "{SNIFFIO}"}}}}]

[[packages]]
name = "colorama"
version = "0.4.6"
marker = "'dev' in dependency_groups"
wheels = [{{name = "colorama-0.4.6-py3-none-any.whl", url = "https://files.pythonhosted.org/colorama-0.4.6-py3-none-any.whl", hashes = {{sha256 = "{IDNA}"}}}}]
"""  # noqa: E501


def rows(table: dict[str, dict[str, str]]) -> list[Any]:
    """The rows of a table: the first one always, the others in the matrix."""
    marks = [[], *[[pytest.mark.matrix]] * (len(table) - 1)]
    return [pytest.param(files, id=name, marks=mark) for (name, files), mark in zip(table.items(), marks, strict=True)]


def work(tmp_path: Path, **changes: Any) -> Work:
    return replace(
        Work(
            app="shop",
            repository="",
            sha="",
            tag=None,
            directory="",
            module="",
            user=getpass.getuser(),
            uv=str(UV),
            cache=str(tmp_path / "cache"),
            python=str(Path(sys.base_prefix, "bin/python3")),
            build_env={name: os.environ[name] for name in ("SSL_CERT_FILE", "HTTPS_PROXY") if name in os.environ},
        ),
        **changes,
    )


def install(tmp_path: Path, files: dict[str, str], **changes: Any) -> packages.Installer:
    release = tmp_path / "release"
    for name, text in files.items():
        (release / name).parent.mkdir(parents=True, exist_ok=True)
        (release / name).write_text(text)
    installer = packages.Installer(work(tmp_path, **changes), release, {})
    installer.install()
    return installer


def refusal(tmp_path: Path, files: dict[str, str], **changes: Any) -> str:
    with pytest.raises(FailedError) as caught:
        install(tmp_path, files, **changes)
    return str(caught.value)


def installed(tmp_path: Path) -> set[str]:
    command = [UV, "pip", "freeze", "--quiet", "--python", tmp_path / "release/.venv/bin/python"]
    done = subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True)
    return {line.partition(" @ ")[0] for line in done.stdout.split("\n") if line}


THREE = {"anyio==4.3.0", "idna==3.7", "sniffio==1.3.1"}
KINDS = {
    "poetry": {"poetry.lock": POETRY, "pyproject.toml": PROJECT},
    "requirements": {"requirements.txt": HASHED},
    "Pipenv": {"Pipfile.lock": PIPFILE},
    "pylock": {"pylock.toml": PYLOCK},
}


@pytest.mark.parametrize("files", KINDS.values(), ids=KINDS)
def test_what_a_lock_file_pins_is_installed_and_nothing_else(tmp_path: Path, files: dict[str, str]) -> None:
    install(tmp_path, files)
    assert installed(tmp_path) == THREE


@pytest.mark.parametrize("files", rows(KINDS))
def test_a_lock_file_may_be_above_the_app(tmp_path: Path, files: dict[str, str]) -> None:
    install(tmp_path, {**files, "services/shop/main.py": ""}, directory="services/shop")
    assert installed(tmp_path) == THREE


@pytest.mark.parametrize("files", rows(KINDS))
def test_another_file_than_the_lock_file_has_is_not_installed(tmp_path: Path, files: dict[str, str]) -> None:
    said = refusal(tmp_path, {name: text.replace(IDNA, "0" * 64) for name, text in files.items()})
    assert "uv pip sync failed" in said


@pytest.mark.parametrize("files", KINDS.values(), ids=KINDS)
def test_what_has_no_hash_is_refused_with_what_to_type(tmp_path: Path, files: dict[str, str]) -> None:
    said = refusal(
        tmp_path,
        {
            name: text.replace(f"sha256:{IDNA}", "md5:1").replace(f'sha256 = "{IDNA}"', "")
            for name, text in files.items()
        },
    )
    assert "has no SHA-256 hash" in said or "without a hash" in said
    assert "Type `" in said


def test_a_package_of_poetry_is_installed_with_the_project(tmp_path: Path) -> None:
    install(tmp_path, {**KINDS["poetry"], "shop/__init__.py": "", "README.md": ""})
    assert installed(tmp_path) == {*THREE, "shop"}


def test_a_project_in_the_repository_is_installed_where_requirements_name_it(tmp_path: Path) -> None:
    library = (
        '[project]\nname = "shelf"\nversion = "1.0"\n[build-system]\nrequires = ["setuptools"]\n'
        'build-backend = "setuptools.build_meta"\n'
    )
    files = {"requirements.txt": f"-e ./libs/shelf\n{HASHED}", "libs/shelf/pyproject.toml": library}
    install(tmp_path, {**files, "libs/shelf/shelf.py": ""})
    assert installed(tmp_path) == {*THREE, "shelf"}


def test_requirements_include_others(tmp_path: Path) -> None:
    first, rest = HASHED.split("idna", 1)
    install(tmp_path, {"deps/base.txt": first, "requirements.txt": f"-r deps/base.txt\nidna{rest}"})
    assert installed(tmp_path) == THREE


def test_what_a_package_needs_and_no_line_has_is_named(tmp_path: Path) -> None:
    said = refusal(
        tmp_path, {"requirements.txt": HASHED.replace("idna==3.7", "certifi==2024.2.2")[: HASHED.index("idna")]}
    )
    assert "requirements.txt has anyio, and not" in said


# What nobody has pinned

LOOSE = {
    "ranges": {"requirements.txt": "anyio>=4.0\n"},
    "no hashes": {"requirements.txt": "anyio==4.3.0\nidna==3.7\nsniffio==1.3.1\n"},
    "no lock file": {"pyproject.toml": '[project]\nname = "x"\nversion = "1"\ndependencies = ["anyio>=4"]\n'},
    "no lock file of Poetry": {"pyproject.toml": PROJECT.partition("[tool.poetry.group")[0]},
}


@pytest.mark.parametrize("files", LOOSE.values(), ids=LOOSE)
def test_what_is_not_pinned_is_refused_with_both_ways_out(tmp_path: Path, files: dict[str, str]) -> None:
    said = refusal(tmp_path, files)
    assert "does not pin what is installed" in said
    assert "Type `uv " in said
    assert "apps.shop.allow_unpinned" in said


@pytest.mark.parametrize("files", rows(LOOSE))
def test_what_is_not_pinned_may_be_as_it_was_then_and_stays_as_it_is(tmp_path: Path, files: dict[str, str]) -> None:
    record = install(tmp_path, files, allow_unpinned=True, cutoff="2024-04-20T00:00:00Z").record
    assert installed(tmp_path) == THREE
    other = tmp_path / "other"
    other.mkdir()
    install(other, files, allow_unpinned=True, record=record.replace("4.3.0", "4.3.0"), cutoff="2030-01-01T00:00:00Z")
    assert installed(other) == THREE


DYNAMIC = {
    "pyproject.toml": """
[project]
name = "x"
version = "1"
dynamic = ["dependencies"]
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
[tool.setuptools]
py-modules = []
[tool.setuptools.dynamic]
dependencies = {file = ["needs.in"]}
""",
    "needs.in": "anyio>=4\n",
}
SHELF = """
[project]
name = "shelf"
version = "1.0"
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
"""
# `shelf` is a package of PyPI, too.
FROM_THE_REPOSITORY = {
    "backend/pyproject.toml": """
[project]
name = "x"
version = "1"
dependencies = ["anyio>=4", "shelf"]
[tool.uv.sources]
shelf = {path = "../libs/shelf"}
""",
    "libs/shelf/pyproject.toml": SHELF,
    "libs/shelf/shelf.py": "",
}
FOR_POETRY = {
    **FROM_THE_REPOSITORY,
    "backend/pyproject.toml": """
[tool.poetry]
name = "x"
version = "1"
[tool.poetry.dependencies]
anyio = ">=4"
shelf = {path = "../libs/shelf"}
""",
}


def test_needs_that_only_a_build_tells_are_installed(tmp_path: Path) -> None:
    record = install(tmp_path, DYNAMIC, allow_unpinned=True, cutoff="2024-04-20T00:00:00Z").record
    assert installed(tmp_path) == {*THREE, "x"}
    assert "anyio==4.3.0" in record


@pytest.mark.parametrize("files", [FROM_THE_REPOSITORY, FOR_POETRY], ids=["uv", "Poetry"])
def test_a_package_of_the_repository_is_not_taken_from_an_index(tmp_path: Path, files: dict[str, str]) -> None:
    settings = {"allow_unpinned": True, "directory": "backend", "cutoff": "2024-04-20T00:00:00Z"}
    record = install(tmp_path, files, **settings).record
    assert "/@release/libs/shelf" in record or "../libs/shelf" in record
    assert installed(tmp_path) == {*THREE, "shelf"}
    assert (next((tmp_path / "release/.venv/lib").glob("*/site-packages")) / "shelf.py").is_file()


def test_requirements_that_powershell_has_written_are_read(tmp_path: Path) -> None:
    """In UTF-16, which uv does not read."""
    (tmp_path / "release").mkdir()
    (tmp_path / "release/requirements.txt").write_bytes("idna==3.7\r\n".encode("utf-16"))
    install(tmp_path, {}, allow_unpinned=True)
    assert installed(tmp_path) == {"idna==3.7"}


# The Python

PYDANTIC = """
[[package]]
name = "pydantic-core"
version = "2.14.1"
optional = false
python-versions = ">=3.7"
files = [
    {file = "pydantic_core-2.14.1-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl", hash = "sha256:%s"},
    {file = "pydantic_core-2.14.1-cp312-cp312-manylinux_2_17_x86_64.manylinux2014_x86_64.whl", hash = "sha256:%s"},
    {file = "pydantic_core-2.14.1.tar.gz", hash = "sha256:%s"},
]

[metadata]
lock-version = "2.0"
python-versions = "^3.8"
content-hash = "x"
""" % (("a" * 64,) * 3)


def test_a_python_that_has_no_wheels_is_named_with_one_that_has(tmp_path: Path) -> None:
    project = PROJECT.replace('anyio = "^4.0"', 'pydantic-core = "*"')
    said = refusal(tmp_path, {"poetry.lock": PYDANTIC, "pyproject.toml": project})
    assert said == 'pydantic-core 2.14.1 has no wheel for Python 3.13; set apps.shop.python to "3.12".'


def test_a_python_that_the_project_excludes_is_named_with_one_that_it_has_not(tmp_path: Path) -> None:
    files = {
        **KINDS["poetry"],
        "poetry.lock": POETRY.replace('python-versions = "^3.9"', 'python-versions = ">=3.9,<3.12"'),
    }
    said = refusal(tmp_path, files)
    assert said == 'poetry.lock is for Python >=3.9,<3.12, and not for 3.13; set apps.shop.python to "3.11".'


def test_of_requirements_the_index_is_asked_for_a_python_that_would_do(tmp_path: Path) -> None:
    said = refusal(tmp_path, {"requirements.txt": f"pydantic-core==2.14.1 --hash=sha256:{'a' * 64}\n"})
    assert 'set apps.shop.python to "3.12"' in said


# uv's own lock file

MEMBER = """
[project]
name = "{name}"
version = "1.0"
requires-python = ">=3.11"
dependencies = [{needs}]

[project.optional-dependencies]
more = ["sniffio==1.3.1"]

[dependency-groups]
dev = ["certifi==2024.2.2"]
web = ["idna==3.7"]

[build-system]
requires = ["uv_build"]
build-backend = "uv_build"
"""
WORKSPACE = {
    "pyproject.toml": """
[project]
name = "all"
version = "1"
requires-python = ">=3.11"
[tool.uv.workspace]
members = ["services/*"]
""",
    "services/api/pyproject.toml": MEMBER.format(name="api", needs='"shared", "idna==3.7"')
    + "[tool.uv.sources]\nshared = { workspace = true }\n",
    "services/api/src/api/__init__.py": "",
    "services/shared/pyproject.toml": MEMBER.format(name="shared", needs=""),
    "services/shared/src/shared/__init__.py": "",
    "services/worker/pyproject.toml": MEMBER.format(name="worker", needs='"anyio==4.3.0"'),
    "services/worker/src/worker/__init__.py": "",
}  # fmt: skip


def lock(tmp_path: Path, files: dict[str, str]) -> dict[str, str]:
    place = tmp_path / "locked"
    for name, text in files.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(text)
    subprocess.run(
        [str(UV), "lock", "--quiet", "--python", str(Path(sys.base_prefix, "bin/python3"))], check=True, cwd=place
    )
    return {**files, "uv.lock": (place / "uv.lock").read_text()}


def test_of_a_workspace_the_member_in_the_app_s_directory_is_installed(tmp_path: Path) -> None:
    files = lock(tmp_path, WORKSPACE)
    install(tmp_path, files, directory="services/api")
    assert installed(tmp_path) == {"idna==3.7", "api", "shared"}
    other = tmp_path / "other"
    other.mkdir()
    install(other, files, directory="services/worker/src", extras=["more"], groups=["web"])
    assert installed(other) == {*THREE, "worker"}


def test_the_lock_of_uv_is_compared_with_the_python(tmp_path: Path) -> None:
    project = (
        '[project]\nname = "x"\nversion = "1"\nrequires-python = ">=3.12"\ndependencies = ["pydantic-core==2.14.1"]\n'
    )
    said = refusal(tmp_path, lock(tmp_path, {"pyproject.toml": project}))
    assert said == 'pydantic-core 2.14.1 has no wheel for Python 3.13; set apps.shop.python to "3.12".'


# A private index


class Index(http.server.BaseHTTPRequestHandler):
    """An index with one package, for those who know the password."""

    wheel = b""
    name = "corp_thing-1.0-py3-none-any.whl"

    def do_GET(self) -> None:
        right = base64.b64encode(b"bob:s3cret").decode()
        if self.headers["Authorization"] != f"Basic {right}":
            self.send_response(401)
            self.send_header("WWW-Authenticate", "Basic")
            self.end_headers()
            return
        page = f'<a href="/{self.name}">{self.name}</a>'.encode()
        body = self.wheel if self.path == f"/{self.name}" else page if "corp-thing" in self.path else b""
        self.send_response(200 if body else 404)
        self.send_header("Content-Type", "application/octet-stream" if body is self.wheel else "text/html")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def index(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """Its address, without the scheme, and the digest of its package."""
    with zipfile.ZipFile(tmp_path / "wheel", "w") as file:
        file.writestr("corp_thing.py", "")
        file.writestr("corp_thing-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: corp-thing\nVersion: 1.0\n")
        file.writestr(
            "corp_thing-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        file.writestr("corp_thing-1.0.dist-info/RECORD", "")
    Index.wheel = (tmp_path / "wheel").read_bytes()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Index) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}", hashlib.sha256(Index.wheel).hexdigest()
        server.shutdown()


def test_a_private_index_has_its_password_from_build_env(tmp_path: Path, index: tuple[str, str]) -> None:
    place, digest = index
    pinned = f"corp-thing==1.0 --hash=sha256:{digest}\nidna==3.7 --hash=sha256:{IDNA}\n"
    pipfile = {
        "_meta": {
            "sources": [
                {"name": "pypi", "url": "https://pypi.org/simple"},
                {"name": "corp", "url": f"http://${{WHO}}:${{WORD}}@{place}/simple"},
            ]
        },
        "default": {
            "corp-thing": {"version": "==1.0", "hashes": [f"sha256:{digest}"], "index": "corp"},
            "idna": {"version": "==3.7", "hashes": [f"sha256:{IDNA}"]},
        },
    }
    of_poetry = POETRY.replace(
        '[[package]]\nname = "sniffio"',
        '[[package]]\nname = "corp-thing"\nversion = "1.0"\npython-versions = "*"\n'
        f'files = [{{file = "{Index.name}", hash = "sha256:{digest}"}}]\n[package.source]\ntype = "legacy"\n'
        f'url = "http://{place}/simple"\nreference = "corp"\n\n[[package]]\nname = "sniffio"',
    )
    own = {
        "WHO": "bob",
        "WORD": "s3cret",
        "POETRY_HTTP_BASIC_CORP_USERNAME": "bob",
        "POETRY_HTTP_BASIC_CORP_PASSWORD": "s3cret",
    }
    variables = {**work(tmp_path).build_env, **own}
    for number, files in enumerate([
        {"requirements.txt": f"--extra-index-url http://${{WHO}}:${{WORD}}@{place}/simple\n{pinned}"},
        {"Pipfile.lock": json.dumps(pipfile)},
        {"poetry.lock": of_poetry, "pyproject.toml": PROJECT.replace('anyio = "^4.0"', 'corp-thing = "*"\nidna = "*"')},
    ]):  # fmt: skip
        place_of = tmp_path / str(number)
        place_of.mkdir()
        install(place_of, files, build_env=variables)
        assert installed(place_of) == {"corp-thing==1.0", "idna==3.7"}


# What has to be built


def test_a_package_without_a_wheel_says_what_to_set_and_is_built_when_it_is(tmp_path: Path) -> None:
    digest = "49b3a825280bd66b3aa83585ef59c4a8c82f2c8a522dbe754a8bc8d08c85c491"
    files = {"requirements.txt": f"docopt==0.6.2 --hash=sha256:{digest}\n"}
    assert "add docopt to build_packages" in refusal(tmp_path / "1", files)
    said = refusal(tmp_path / "2", files, build_packages=["docopt"])
    assert "is not pinned with a hash" in said
    assert said.endswith("Or set apps.shop.allow_unpinned to true.")
    install(tmp_path / "3", files, build_packages=["docopt"], allow_unpinned=True)
    assert installed(tmp_path / "3") == {"docopt==0.6.2"}


def test_what_comes_from_git_and_is_not_pinned_has_to_be_approved(tmp_path: Path) -> None:
    library = tmp_path / "library"
    library.mkdir()
    (library / "setup.py").write_text('from setuptools import setup\nsetup(name="shelf", version="1", py_modules=[])\n')
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.com", "-C", str(library)]
    for command in (["init", "--quiet", "-b", "main"], ["add", "-A"], ["commit", "--quiet", "-m", "x"]):
        subprocess.run([*git, *command], check=True)
    said = refusal(tmp_path, {"requirements.txt": f"shelf @ git+file://{library}@main\n"}, allow_unpinned=True)
    assert "add shelf to build_packages and run site.yml" in said
