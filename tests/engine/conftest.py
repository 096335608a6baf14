"""Shared pieces: settings of an app below a temporary root, small git repositories, a Logbook to report to."""

from __future__ import annotations

import getpass
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from slipway.base import confined, crash, process
from slipway.base import settings as config
from slipway.records import journal
from tests.settings import written

from .fake_logbook import TOKEN, Logbook, connect
from .fakes import Host, Programs


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> config.Settings:
    """An app `logbook` whose directories are below `tmp_path` and belong to the user that runs the tests."""
    me = getpass.getuser()
    root = tmp_path / "srv"
    for directory in ("releases", "slots/blue", "slots/green"):
        (root / directory).mkdir(parents=True)
    monkeypatch.setattr(config, "RUN_DIRECTORY", tmp_path / "run")
    monkeypatch.setattr(config, "UNIT_DIRECTORY", tmp_path / "units")
    monkeypatch.setattr(crash, "HOST_DIRECTORY", tmp_path / "crashes")
    without_systemd(monkeypatch)
    env_file = tmp_path / "etc/env"
    env_file.parent.mkdir()
    env_file.write_text('DATABASE_URL="postgresql+asyncpg://logbook@/logbook"\nSECRET_KEY="s3cret"\n')
    values = written(
        root,
        me,
        env_file=str(env_file),
        migrate_env_file=str(tmp_path / "etc/migrate.env"),
        uv_cache=str(tmp_path),
        required_env=["SECRET_KEY"],
    )
    return config.parse(values, source="test")


def without_systemd(monkeypatch: pytest.MonkeyPatch) -> None:
    """What would run in a unit of its own runs as it is: there is no systemd here. `tests/attacks` has the units."""
    monkeypatch.setattr(confined, "start", lambda *_: [])
    monkeypatch.setattr(confined, "end", lambda _: None)


@pytest.fixture
def host(settings: config.Settings, monkeypatch: pytest.MonkeyPatch) -> Host:
    made = Host(settings)
    made.install(monkeypatch)
    return made


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch) -> Programs:
    """Every program that the engine would run; nothing is run."""
    made = Programs()
    monkeypatch.setattr(process, "run", made.run)
    monkeypatch.setattr(confined, "run", made.run_in_unit)
    return made


def entry(
    release: str,
    phase: str = journal.RESULT,
    outcome: str = "succeeded",
    action: str = "deploy",
    *,
    tag: str | None = None,
    sha: str = "",
    was: str | None = None,
) -> journal.Entry:
    """A journal line about `release`; by default that its deploy succeeded. `was` served before it."""
    return journal.Entry(
        deployment="d",
        action=action,
        phase=phase,
        outcome=outcome,
        release=release,
        tag=tag or release,
        sha=sha or release,
        owner="alice",
        at="2026-11-24T10:00:00.000+00:00",
        detail={"from": was},
    )


class GitRepository:
    """A scratch repository that a test fills with commits."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()
        self.git("init", "--quiet", "--initial-branch=main")

    def git(self, *arguments: str) -> str:
        identity = ["-c", "user.name=Test", "-c", "user.email=test@example.com", "-c", "commit.gpgsign=false"]
        command = ["git", "-C", str(self.path), *identity, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def commit(self, files: dict[str, str], tag: str | None = None, message: str = "change") -> str:
        for name, content in files.items():
            (self.path / name).parent.mkdir(parents=True, exist_ok=True)
            (self.path / name).write_text(content)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "-m", message)
        if tag:
            self.git("tag", "-a", tag, "-m", tag)
        return self.git("rev-parse", "HEAD")


@pytest.fixture
def repository(tmp_path: Path) -> GitRepository:
    return GitRepository(tmp_path / "repository")


@pytest.fixture
def server() -> Iterator[Logbook]:
    with Logbook() as made:
        threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield made
        made.shutdown()


@pytest.fixture
def told(host: Host, server: Logbook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Logbook:
    """`host` reports to a Logbook that answers."""
    monkeypatch.setattr(config, "SETTINGS_DIRECTORY", tmp_path)
    (tmp_path / "logbook.logbook-token").write_text(f"{TOKEN}\n")
    connect(host, server.url)
    return server


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A certificate for 127.0.0.1 as a host signs its own, its key, and the host's authority."""
    from roles.certificate.module_utils import slipway_certificates as certificates

    directory = tmp_path_factory.mktemp("tls")
    pair = certificates.self_sign(directory / "ca", "box", ["127.0.0.1"], days=2, renew_days=1)
    chain, key = directory / "chain.pem", directory / "key.pem"
    chain.write_text(pair.chain)
    key.write_text(pair.key)
    return chain, key, directory / "ca/ca.crt"
