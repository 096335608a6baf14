"""Paths that an app keeps (`data`): copied once, by its user, and linked into each release."""

from __future__ import annotations

import dataclasses
import os
import shutil
import stat
import struct
import sys
from pathlib import Path

import pytest

from slipway.base import settings as config
from slipway.base.errors import FailedError
from slipway.release import kept

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs programs as another user")


@pytest.fixture
def top(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data directory."""
    monkeypatch.setattr(config, "DATA_DIRECTORY", tmp_path / "lib")
    made = tmp_path / "lib/logbook"
    made.mkdir(parents=True, mode=0o750)
    return made


@pytest.fixture
def release(tmp_path: Path) -> Path:
    made = tmp_path / "srv/releases/v1"
    for name, content in {
        "backend/uploads/seed/a.png": "picture",
        "backend/app.db": "sqlite",
        "backend/main.py": "code",
    }.items():
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_text(content)
    return made


def keeping(settings: config.Settings, *paths: str) -> config.Settings:
    return dataclasses.replace(settings, directory="backend", data=list(paths))


def test_what_the_repository_has_is_copied_once_and_linked(
    settings: config.Settings, top: Path, release: Path, tmp_path: Path
) -> None:
    wanted = keeping(settings, "uploads/", "app.db")
    kept.link(wanted, release)
    app = release / "backend"
    assert (app / "uploads").readlink() == top / "data/uploads"
    assert (app / "app.db").readlink() == top / "data/app.db"
    assert (app / "uploads/seed/a.png").read_text() == "picture"
    (app / "app.db").write_text("changed by the app")

    second = tmp_path / "srv/releases/v2"
    (second / "backend/uploads").mkdir(parents=True)
    (second / "backend/uploads/new.png").write_text("new")
    (second / "backend/app.db").write_text("new")
    kept.link(wanted, second)
    assert (second / "backend/app.db").read_text() == "changed by the app"
    assert [path.name for path in (second / "backend/uploads").iterdir()] == ["seed"]
    assert kept.misfit(wanted, second, wanted.data) == ""


@pytest.mark.parametrize(
    ("path", "kind"),
    [("logs/", "directory"), ("logs", "directory"), ("var/state/", "directory"), ("var/new.db", "nothing yet")],
)
def test_what_the_repository_has_not(settings: config.Settings, top: Path, release: Path, path: str, kind: str) -> None:
    kept.link(keeping(settings, path), release)
    place = top / "data" / path.rstrip("/")
    link = release / "backend" / path.rstrip("/")
    assert link.is_symlink()
    assert place.is_dir() == (kind == "directory")
    if kind != "directory":
        link.write_text("made through the link")
        assert place.read_text() == "made through the link"


def test_without_data_nothing_is_run(settings: config.Settings, tmp_path: Path) -> None:
    kept.link(settings, tmp_path)  # there is no data directory


def test_a_release_of_other_settings_does_not_fit(settings: config.Settings, top: Path, release: Path) -> None:
    assert top.is_dir()
    wanted = keeping(settings, "uploads/")
    kept.link(wanted, release)
    assert kept.misfit(wanted, release, ["uploads"]) == ""
    assert "other paths of `data`" in kept.misfit(settings, release, ["uploads"])
    assert "other paths of `data`" in kept.misfit(wanted, release, [])
    (release / "backend/uploads").unlink()
    assert "its uploads is no link to what is kept" in kept.misfit(wanted, release, ["uploads"])


def test_a_file_is_no_directory(settings: config.Settings, top: Path, release: Path) -> None:
    assert top.is_dir()
    with pytest.raises(FailedError, match=r"apps\.logbook\.data has 'app\.db/', but the release has a file there"):
        kept.link(keeping(settings, "app.db/"), release)


@pytest.mark.parametrize("path", ["main.py", "service/"])
def test_code_is_never_kept(settings: config.Settings, top: Path, release: Path, path: str) -> None:
    assert top.is_dir()
    (release / "backend/service/deep").mkdir(parents=True)
    (release / "backend/service/__init__.py").touch()
    kept.link(keeping(settings, "service/"), release)
    (release / "backend/service").unlink()
    (release / "backend/service/deep").mkdir(parents=True)
    (release / "backend/service/deep/main.py").write_text("code")
    with pytest.raises(FailedError, match=r"but the release has code there \(main\.py\)"):
        kept.link(keeping(settings, path), release)
    assert not (release / "backend" / path).is_symlink()


@pytest.mark.parametrize("target", ["/usr", "../.venv/lib"])
def test_no_link_is_made_where_a_link_of_the_release_leads(
    settings: config.Settings, top: Path, release: Path, target: str
) -> None:
    assert top.is_dir()
    (release / ".venv/lib").mkdir(parents=True)
    (release / "backend/var").symlink_to(target)
    with pytest.raises(FailedError, match="which is not below the source of the release"):
        kept.link(keeping(settings, "var/slipway-test/"), release)


@pytest.mark.parametrize("planted", ["data", "data/var"])
def test_a_link_of_the_app_is_never_followed(
    settings: config.Settings, top: Path, release: Path, tmp_path: Path, planted: str
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (top / planted).parent.mkdir(exist_ok=True)
    (top / planted).symlink_to(elsewhere)
    with pytest.raises(FailedError, match=r"is a link or a file, and must be a directory\. Move it away"):
        kept.link(keeping(settings, "var/uploads/"), release)
    assert list(elsewhere.iterdir()) == []


def test_a_link_in_the_place_itself_stays_the_apps(
    settings: config.Settings, top: Path, release: Path, tmp_path: Path
) -> None:
    """It leads wherever the app wants: only the app's user follows it, and root puts nothing there."""
    (top / "data").mkdir()
    (top / "data/app.db").symlink_to(tmp_path / "elsewhere")
    kept.link(keeping(settings, "app.db"), release)
    assert not (tmp_path / "elsewhere").exists()
    assert (release / "backend/app.db").readlink() == top / "data/app.db"


def test_a_copy_that_was_interrupted_is_made_again(settings: config.Settings, top: Path, release: Path) -> None:
    (top / "data/.uploads.new/seed").mkdir(parents=True)
    (top / "data/.uploads.new/half").touch()
    kept.link(keeping(settings, "uploads/"), release)
    assert sorted(path.name for path in (top / "data").iterdir()) == ["uploads"]
    assert [path.name for path in (top / "data/uploads").iterdir()] == ["seed"]


def test_a_directory_that_was_removed_is_made_again(settings: config.Settings, top: Path, release: Path) -> None:
    wanted = keeping(settings, "uploads/", "app.db")
    kept.link(wanted, release)
    shutil.rmtree(top / "data")
    kept.restore(wanted)
    assert [path.name for path in (top / "data").iterdir()] == ["uploads"]
    (release / "backend/app.db").write_text("made by the app")


def test_it_is_closed_to_others(settings: config.Settings, top: Path, release: Path) -> None:
    kept.link(keeping(settings, "uploads/", "app.db"), release)
    assert stat.S_IMODE((top / "data/uploads").stat().st_mode) == 0o700
    assert stat.S_IMODE((top / "data/app.db").stat().st_mode) == 0o600


@as_root
def test_it_is_the_apps_users_and_the_migration_role_may_use_it(
    settings: config.Settings, top: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in (tmp_path, *tmp_path.parents):
        if path != Path("/tmp"):  # noqa: S108
            path.chmod(path.stat().st_mode | 0o055)
    os.chown(top, 65534, 65534)
    users = {65534: "nobody", 1: "daemon", 2: "bin"}
    wanted = dataclasses.replace(keeping(settings, "uploads/", "app.db"), user="nobody", migrate_user="daemon")
    # In a unit of systemd on a host; here the program itself changes to the user.
    monkeypatch.setattr(sys, "executable", shutil.which("python3", path="/usr/bin") or sys.executable)
    made = os.fork()
    if made == 0:
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            kept._keep(wanted, [])
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(made, 0)[1] == 0
    assert (top / "data").stat().st_uid == 65534

    def can(user: int, what: str) -> bool:
        """Whether a user can do it: `what` is code of Python."""
        child = os.fork()
        if child == 0:
            try:
                os.setgroups([])
                os.setgid(user)
                os.setuid(user)
                os.umask(0o077)
                exec(what, {"top": top, "os": os})  # noqa: S102
                os._exit(0)
            except OSError:
                os._exit(1)
        return os.waitpid(child, 0)[1] == 0

    access = struct.pack("<I", 2)
    assert os.getxattr(top, "system.posix_acl_access").startswith(access), users
    assert can(1, "(top / 'data/x').write_text('migrated')")
    assert can(65534, "(top / 'data/x').write_text('app')")
    assert can(65534, "(top / 'data/y').write_text('app')")
    assert can(1, "(top / 'data/y').read_text(), (top / 'data/y').write_text('migrated')")
    assert not can(1, "list(top.iterdir())"), "only the way to it is open"
    assert not can(2, "(top / 'data').stat()")
