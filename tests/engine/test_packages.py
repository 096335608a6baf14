"""Lock files of all kinds, with uv itself and packages of the public index."""

from __future__ import annotations

import getpass
import os
import subprocess
import sys
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


@pytest.mark.parametrize("files", KINDS.values(), ids=KINDS)
def test_a_lock_file_may_be_above_the_app(tmp_path: Path, files: dict[str, str]) -> None:
    install(tmp_path, {**files, "services/shop/main.py": ""}, directory="services/shop")
    assert installed(tmp_path) == THREE


@pytest.mark.parametrize("files", KINDS.values(), ids=KINDS)
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


@pytest.mark.parametrize("files", LOOSE.values(), ids=LOOSE)
def test_what_is_not_pinned_may_be_as_it_was_then_and_stays_as_it_is(tmp_path: Path, files: dict[str, str]) -> None:
    record = install(tmp_path, files, allow_unpinned=True, cutoff="2024-04-20T00:00:00Z").record
    assert installed(tmp_path) == THREE
    other = tmp_path / "other"
    other.mkdir()
    install(other, files, allow_unpinned=True, record=record.replace("4.3.0", "4.3.0"), cutoff="2030-01-01T00:00:00Z")
    assert installed(other) == THREE


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
