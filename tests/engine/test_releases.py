"""Whole releases, built as on a host but for the unit: what is kept of them, and what another one may share."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from slipway.base import settings as config
from slipway.base.errors import FailedError
from slipway.records import journal, manifest
from slipway.release import build, fit, store
from slipway.slot import envfile

from .conftest import GitRepository, entry
from .test_packages import UV, work

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="releases belong to root"),
]


@pytest.fixture
def app(settings: config.Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> config.Settings:
    """An app whose releases are built with the Python that runs the tests."""
    variables = work(tmp_path).build_env
    monkeypatch.setattr(envfile, "of_builds", lambda _: dict(variables))
    monkeypatch.setattr(fit, "misfit", lambda *_: "")
    python, cache = Path(sys.base_prefix, "bin/python3"), tmp_path / "cache"
    cache.mkdir()
    return replace(
        settings,
        uv_cache=cache,
        uv=UV,
        python=python,
        allow_unpinned=True,
        min_free_mb=0,
        min_free_inodes=0,
        required_env=[],
    )


def commit(settings: config.Settings, repository: GitRepository, files: dict[str, str]) -> str:
    server = {"gunicorn.py": "", "uvicorn_worker.py": ""}
    sha = repository.commit(
        {"app/__init__.py": "", "app/main.py": "from fastapi import FastAPI\n\napp = FastAPI()\n", **server, **files}
    )
    if not settings.repository.exists():
        repository.git("clone", "--quiet", "--bare", str(repository.path), str(settings.repository))
    repository.git("push", "--quiet", "--force", str(settings.repository), "HEAD:main")
    return sha


def make(settings: config.Settings, repository: GitRepository, name: str, files: dict[str, str]) -> manifest.Manifest:
    return build.build(settings, name, None, commit(settings, repository, files))


def goes_live(settings: config.Settings, made: manifest.Manifest) -> None:
    journal.append(settings.journal, entry(made.release, sha=made.sha))


def installed(settings: config.Settings, name: str) -> str:
    command = [str(UV), "pip", "freeze", "--quiet", "--python", str(settings.release(name) / ".venv/bin/python")]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.mark.matrix  # several builds
def test_what_was_installed_of_what_nobody_pins_is_used_again(app: config.Settings, repository: GitRepository) -> None:
    first = make(app, repository, "one", {"requirements.txt": "idna<3.5\n"})
    assert installed(app, "one").startswith("idna==3.4")
    record = app.records / "one.txt"
    assert "idna==3.4" in record.read_text()
    # Nothing that is newer comes in: into the same release again, or into the next one, once it was live.
    record.write_text(record.read_text().replace("idna==3.4", "idna==3.3").partition("    --hash")[0] + HASH_OF_3_3)
    store.delete(app.release("one"))
    build.build(app, "one", None, first.sha)
    assert installed(app, "one").startswith("idna==3.3")
    make(app, repository, "two", {"app/other.py": ""})
    assert installed(app, "two").startswith("idna==3.4")
    goes_live(app, first)
    make(app, repository, "three", {"app/other.py": "1"})
    assert installed(app, "three").startswith("idna==3.3")
    make(app, repository, "four", {"requirements.txt": "idna<3.6\n"})
    assert installed(app, "four").startswith("idna==3.4") is False


HASH_OF_3_3 = "    --hash=sha256:84d9dd047ffa80596e0f246e2eab0b391788b0503584e8945f2368256d2735ff\n"


@pytest.mark.matrix  # several builds
def test_packages_are_shared_with_a_live_release_that_has_the_same(
    app: config.Settings, repository: GitRepository
) -> None:
    files = {"requirements.txt": "idna==3.4\n"}
    first = make(app, repository, "one", files)
    goes_live(app, first)

    def shares(name: str, **changes: Any) -> bool:
        make(replace(app, **changes), repository, name, {"app/__init__.py": f"name = '{name}'\n"})
        places = [
            next(app.release(release).glob(".venv/lib/*/site-packages/idna/core.py")) for release in ("one", name)
        ]
        return places[0].stat().st_ino == places[1].stat().st_ino

    assert shares("two")
    assert not shares("three", extras=["more"])
    other = shutil.which("python3", path="/usr/bin")
    if other and fit.python_version(replace(app, python=Path(other))):
        assert not shares("four", python=Path(other))


def test_what_is_not_pinned_is_refused_before_anything_is_installed(
    app: config.Settings, repository: GitRepository
) -> None:
    with pytest.raises(FailedError, match=r"requirements\.txt does not pin what is installed \(idna<3\.5\)"):
        make(replace(app, allow_unpinned=False), repository, "one", {"requirements.txt": "idna<3.5\n"})
    assert not app.records.exists()
    assert list(app.releases.iterdir()) == []


def test_a_release_has_its_artefacts_and_what_its_build_makes_and_they_are_root_s(
    app: config.Settings, repository: GitRepository
) -> None:
    own = replace(app, build=["python -c \"open('built.txt', 'w').write('yes')\""], directory="app")
    made = make(own, repository, "one", {"requirements.txt": "idna==3.4\n"})
    assert (app.release("one") / "app/built.txt").read_text() == "yes"
    assert (app.release("one") / "app/built.txt").stat().st_mode & 0o777 == 0o644
    assert made.built_with == fit.chosen(own) != ""
