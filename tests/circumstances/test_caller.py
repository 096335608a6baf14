"""The engine does the same whoever calls it: with which umask, locale and variables."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from hosts.scratch import PROJECT
from slipway.controller import zipapp

PROGRAM = "import os, slipway.base.process as p; p.forget_caller(); os.makedirs('d'); print(dict(os.environ))"
VARIABLES = {
    "git": {"GIT_DIR": "/elsewhere", "GIT_CONFIG_COUNT": "1"},
    "python": {"PYTHONPATH": "/elsewhere", "PYTHONWARNINGS": "error", "PYTHONSTARTUP": "/elsewhere"},
    "uv": {"UV_INDEX_URL": "https://elsewhere.example", "UV_CACHE_DIR": "/elsewhere", "VIRTUAL_ENV": "/elsewhere"},
    "postgresql": {"PGHOST": "elsewhere", "PGPASSWORD": "s3cret", "PGOPTIONS": "-c search_path=elsewhere"},
    "locale": {"LANG": "de_DE.UTF-8", "LC_ALL": "C", "LANGUAGE": "de"},
    "systemd": {"SYSTEMD_PAGER": "less", "SYSTEMD_COLORS": "1", "NOTIFY_SOCKET": "/elsewhere"},
    "temporary files": {"TMPDIR": "/elsewhere", "TMP": "/elsewhere"},
    "shell": {"BASH_ENV": "/elsewhere", "ENV": "/elsewhere", "CDPATH": "/elsewhere", "IFS": "x"},
    "loader": {"LD_LIBRARY_PATH": "/elsewhere", "SSL_CERT_FILE": "/elsewhere"},
    "pip": {"PIP_INDEX_URL": "https://elsewhere.example", "PIP_REQUIRE_VIRTUALENV": "1"},
}


@pytest.mark.parametrize("variables", VARIABLES.values(), ids=VARIABLES)
@pytest.mark.parametrize("mask", [0o077, 0o027, 0o000])
def test_umask_and_variables_of_the_caller_are_forgotten(tmp_path: Path, variables: dict[str, str], mask: int) -> None:
    usual = {"PATH": "/elsewhere", "HOME": "/root", "USER": "alice", "SUDO_USER": "alice", "SLIPWAY_RUN": "7"}
    # Isolated as the first line of the engine's file has it.
    command = [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(PROJECT)!r}); {PROGRAM}"]
    done = subprocess.run(
        command, env={**usual, **variables}, umask=mask, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    found = ast.literal_eval(done.stdout)
    kept = {name: usual[name] for name in ("HOME", "USER", "SUDO_USER", "SLIPWAY_RUN")}
    assert {name: found[name] for name in kept} == kept
    assert found["LANG"] == "C.UTF-8"
    assert found["PATH"].startswith("/usr/local/sbin:")
    assert not {name for name in variables if name != "LANG"} & set(found)
    assert (tmp_path / "d").stat().st_mode & 0o777 == 0o755


def test_the_engines_file_starts_in_a_hostile_environment(tmp_path: Path) -> None:
    engine = tmp_path / "slipway"
    zipapp.write(engine)
    (tmp_path / "json.py").write_text("raise RuntimeError('a module beside the caller was imported')")
    hostile = {"PYTHONPATH": str(tmp_path), "PYTHONHOME": "/elsewhere", "LC_ALL": "C", "PYTHONUTF8": "0"}
    done = subprocess.run(
        [engine, "--version"], env={"PATH": "/usr/bin:/bin", **hostile}, cwd=tmp_path, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("slipway ")
