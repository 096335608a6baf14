from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from app import settings

from .conftest import PROJECT

KEY = "Zk3-" + "0123456789abcdefghijklmnopqrstuvwxyz"
PRODUCTION = {"ENV": "production", "DATABASE_URL": "postgresql+asyncpg://logbook@/logbook", "SECRET_KEY": KEY}


def _start(environment: dict[str, str], directory: Path) -> subprocess.CompletedProcess[str]:
    """Import the application like a worker does."""
    return subprocess.run(
        [sys.executable, "-c", "import app.main"],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(PROJECT), **environment},
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
    )


def test_development_needs_no_variables(tmp_path: Path) -> None:
    assert _start({}, tmp_path).returncode == 0


def test_production_starts_with_its_three_variables(tmp_path: Path) -> None:
    done = _start(PRODUCTION, tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("change", "variable"),
    [
        ({"SECRET_KEY": ""}, "SECRET_KEY"),
        ({"SECRET_KEY": "short-but-secret"}, "SECRET_KEY"),
        ({"SECRET_KEY": "changeme" * 8}, "SECRET_KEY"),
        ({"DATABASE_URL": ""}, "DATABASE_URL"),
        ({"DATABASE_URL": "sqlite+aiosqlite:///x"}, "DATABASE_URL"),
        ({"DATABASE_URL": "postgresql://u:hunter2@h/db"}, "DATABASE_URL"),
        ({"ENV": "prod"}, "ENV"),
        ({"DATABASE_POOL_SIZE": "many"}, "DATABASE_POOL_SIZE"),
        ({"LOG_LEVEL": "loud"}, "LOG_LEVEL"),
    ],
)
def test_an_invalid_variable_is_named_without_its_value(tmp_path: Path, change: dict[str, str], variable: str) -> None:
    done = _start(PRODUCTION | change, tmp_path)
    assert done.returncode == 3
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"The Logbook cannot start: {variable} ")
    assert not [value for name, value in change.items() if len(value) > 6 and value in done.stderr and name != "ENV"]


def test_a_wrong_url_in_development_is_named_too() -> None:
    with pytest.raises(settings.SettingsError, match="DATABASE_URL is not a database URL"):
        settings.load(database_url="nonsense", _env_file=None)


def test_every_variable_is_documented() -> None:
    documented = set(re.findall(r"^#? ?([A-Z_]+)=", (PROJECT / ".env.example").read_text(), re.MULTILINE))
    assert documented == {name.upper() for name in settings.Settings.model_fields}


def test_the_example_contains_no_secret() -> None:
    lines = (PROJECT / ".env.example").read_text().splitlines()
    assert [line for line in lines if re.match(r"#? ?SECRET_KEY=", line)] == ["SECRET_KEY="]


def test_a_secret_may_come_as_a_file_of_systemd(tmp_path: Path) -> None:
    key = "key-of-the-tests-0123456789-0123456789"
    (tmp_path / "SECRET_KEY").write_text(key)
    (tmp_path / "SECRET_KEY_PREVIOUS").write_text("")
    program = "from app.settings import load; print(load().secret_key.get_secret_value())"
    given = {"ENV": "production", "DATABASE_URL": "postgresql+asyncpg:///x", "CREDENTIALS_DIRECTORY": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=given, cwd=PROJECT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == key
