"""A release that was built earlier: what makes it one that this host cannot run, and that it is then built again."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from slipway.base import settings as config
from slipway.base.errors import FailedError
from slipway.records import manifest
from slipway.records.manifest import Manifest
from slipway.release import fit, store
from slipway.slot import slots

from .fakes import V1, V2, Host, deployed, request

VERSION = "{}.{}.{}".format(*sys.version_info)
NAME = "v1-1"


@pytest.fixture
def place(settings: config.Settings) -> Iterator[config.Settings]:
    """The settings of an app whose releases any user can reach, which those below pytest's own directory are not."""
    directory = Path(tempfile.mkdtemp())
    directory.chmod(0o755)
    found = replace(settings, root=directory, user="nobody", python=Path(_python()))
    release = found.release(NAME)
    (release / ".venv/bin").mkdir(parents=True)
    (release / ".venv/bin/python").symlink_to(_python())
    packages(release, fit.python_version(found))
    (release / "app.py").write_text("")
    (release / "uv.lock").write_text("pinned")
    yield found
    shutil.rmtree(directory)


def _python() -> str:
    """A Python that any user may run, of this version where there is one."""
    return shutil.which("python3", path="/usr/bin:/bin") or sys.executable


def built(settings: config.Settings, python: str = "") -> Manifest:
    digest = fit.digest(settings.release(NAME), "")
    return Manifest(NAME, "v1", "1" * 40, "", python or fit.python_version(settings), digest, "")


def packages(release: Path, python: str) -> None:
    """Gunicorn, where a Python of that version looks for it."""
    (release / ".venv/lib/python{}.{}/site-packages/gunicorn".format(*python.split("."))).mkdir(parents=True)


def answering(settings: config.Settings, line: str) -> None:
    """The release's Python says this line."""
    python = settings.root / "python"
    python.write_text(f"#!/bin/sh\necho '{line}'\n")
    python.chmod(0o755)
    (settings.release(NAME) / ".venv/bin/python").unlink()
    (settings.release(NAME) / ".venv/bin/python").symlink_to(python)


as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can look with the eyes of another user")


def test_a_python_of_the_release_itself_is_not_run(place: config.Settings) -> None:
    ran = place.root / "ran"
    python = place.release(NAME) / ".venv/bin/python"
    python.unlink()
    python.write_text(f"#!/bin/sh\ntouch {ran}\necho 3.13.5\n")
    python.chmod(0o755)
    assert fit.misfit(place, built(place)) == "its Python is a file of its own, and not the host's"
    assert not ran.exists()


@as_root
def test_a_release_that_any_user_can_read_fits(place: config.Settings) -> None:
    answering(place, fit.python_version(place))
    own = replace(place, python=(place.release(NAME) / ".venv/bin/python").resolve())
    assert fit.misfit(own, built(own)) == ""


@as_root
def test_a_release_that_runs_on_another_python_of_the_same_version_is_noticed(place: config.Settings) -> None:
    answering(place, fit.python_version(place))
    assert "and releases are built with" in fit.misfit(place, built(place))


@as_root
@pytest.mark.parametrize("change", [{"directory": "api"}, {"extras": ["pg"]}, {"build": ["make"]}])
def test_a_release_that_was_built_with_other_settings_is_noticed(
    place: config.Settings, change: dict[str, Any]
) -> None:
    own = replace(place, **change)
    (own.release(NAME) / "api").mkdir()
    made = built(own)
    assert fit.misfit(own, made) == "it was built with other settings"
    assert fit.misfit(own, replace(made, built_with=fit.chosen(own))) == ""


@as_root
@pytest.mark.parametrize(
    ("path", "mode"),
    [("app.py", 0o600), (".", 0o700), (".", 0o777), (".venv", 0o700), ("uv.lock", 0o640), ("app.py", 0o666)],
)
def test_modes_that_another_umask_has_left_are_named(place: config.Settings, path: str, mode: int) -> None:
    answering(place, fit.python_version(place))
    made = built(place)
    (place.release(NAME) / path).chmod(mode)
    assert fit.misfit(place, made) != ""


@as_root
def test_files_of_the_apps_own_user_could_be_changed_by_it(place: config.Settings) -> None:
    answering(place, fit.python_version(place))
    shutil.chown(place.release(NAME) / "app.py", "nobody")
    assert fit.misfit(place, built(place)).startswith("app.py has an owner or a mode with which nobody")


def test_a_python_that_is_gone_or_is_another_one_is_named(place: config.Settings) -> None:
    own = replace(place, user=place.build_user)
    python = place.release(NAME) / ".venv/bin/python"
    answering(own, "3.2.1")
    packages(own.release(NAME), "3.2.1")
    assert fit.misfit(own, built(own)) == f"it was built with Python {fit.python_version(own)}, and runs 3.2.1 now"
    assert fit.misfit(own, built(own, python="3.2.9")) == (
        f"it was built with Python 3.2.1, and releases are built with {fit.python_version(own)} now"
    )
    answering(own, fit.python_version(own))
    shutil.rmtree(own.release(NAME) / ".venv/lib")
    assert fit.misfit(own, built(own)) == "its Python does not find its packages"
    python.unlink()
    python.symlink_to("/usr/bin/python3.2")
    assert fit.misfit(own, built(own)) != ""


def test_another_lock_file_is_noticed(place: config.Settings) -> None:
    own = replace(place, user=place.build_user)
    made = built(own)
    (own.release(NAME) / "uv.lock").write_text("other")
    assert fit.misfit(own, made) == "its lock file is not the one that it was built from"


def test_what_does_not_fit_is_built_again_and_that_is_said_with_the_result(host: Host) -> None:
    deployed(host, V1, V2)
    host.misfit = "its Python 3.11.2 does not run"
    assert host.engine.deploy(request(V1), None).message.endswith(
        "v1-111111111111 was built again, as its Python 3.11.2 does not run."
    )
    assert host.engine.rollback(request(V2), "v2").message.endswith(
        "v2-222222222222 was built again, as its Python 3.11.2 does not run."
    )


def test_the_live_release_that_does_not_fit_is_deployed_again(host: Host) -> None:
    deployed(host, V1)
    assert not host.engine.plan(request(V1)).needed
    host.misfit = "its Python 3.11.2 does not run"
    assert host.engine.plan(request(V1)).needed


def test_what_is_live_and_gives_no_answer_is_not_said_to_serve(host: Host) -> None:
    deployed(host, V1)
    host.bad_gate.add(V2[1])
    host.no_answer = "HTTP 503: the database does not answer"
    with pytest.raises(FailedError, match=r"v1-111111111111 is live, but not ready \(HTTP 503: the database"):
        deployed(host, V2)
    assert host.engine.plan(request(V1)).needed


def test_a_release_under_its_temporary_name_counts_as_none(settings: config.Settings) -> None:
    release = settings.releases / f"v1-1{store.PARTIAL}"
    release.mkdir()
    made = Manifest("v1-1", "v1", "1" * 40, "", "3.13", "", "")
    (release / manifest.NAME).write_text(manifest.dump(made))
    (release / manifest.COMPLETE).touch()
    assert store.complete(settings) == {}
    assert store.incomplete(settings) == [release]
    assert slots.live_release(settings) is None
