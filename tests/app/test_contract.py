"""The API matches its OpenAPI document: Schemathesis sends requests that the document allows, and others."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from app.main import create_app

from .conftest import PROJECT, Server, make_settings


@pytest.fixture(scope="module")
def address(server: Server, template: str) -> Iterator[str]:
    """The app under Uvicorn, on its own PostgreSQL database; `token` creates tokens there."""
    os.environ["DATABASE_URL"] = server.create(f"test_{os.urandom(4).hex()}", template)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # By its number: of a socket that is handed over Uvicorn takes no note that it is TCP, and each answer waits 40 ms.
    command = [sys.executable, "-m", "uvicorn", "app.main:app", f"--port={port}", "--no-access-log"]
    with subprocess.Popen(command, cwd=PROJECT, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        try:
            url = f"http://127.0.0.1:{port}"
            _wait_until_ready(url)
            yield url
        finally:
            process.terminate()


def _wait_until_ready(url: str) -> None:
    for _ in range(200):
        try:
            assert httpx.get(f"{url}/health/ready").status_code == 200
        except httpx.TransportError:
            time.sleep(0.1)
        else:
            return
    pytest.fail("Uvicorn did not start.")


def _token(scope: str) -> str:
    create = [sys.executable, "-m", "app.tokens", "create", "--name", "contract", "--scope", scope]
    return subprocess.run(create, cwd=PROJECT, check=True, capture_output=True, text=True).stdout.strip()


REVOKE = "/api/v1/tokens/{token_id}"


@pytest.mark.parametrize(
    ("scope", "paths"),
    [
        ("admin", ["--exclude-path", REVOKE]),  # which would end the run's own token
        ("admin", ["--include-path", REVOKE, "--phases", "examples,coverage,fuzzing"]),
        ("", []),
    ],
    ids=["everything", "revoking tokens", "without a token"],
)
def test_every_response_matches_the_openapi_document(
    address: str, scope: str, paths: list[str], tmp_path: Path
) -> None:
    headers = ["--header", f"Authorization: Bearer {_token(scope)}"] if scope else []
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "run", f"{address}/openapi.json"),
        *("--checks", "all", "--max-examples", "15"),
        *("--seed", "1", "--no-color", "--generation-database", "none", "--request-timeout", "10"),
        *headers,
        *paths,
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr
    summary = re.search(r"(\d+) generated, (\d+) passed", done.stdout)
    assert summary, done.stdout
    sys.stdout.write(f"schemathesis: {summary[0]}\n")
    assert int(summary[1]) > 20


def test_operation_names_in_the_openapi_document() -> None:
    """If two models had the same name, the document would name them by their modules."""
    document = create_app(make_settings("sqlite+aiosqlite://")).openapi()
    assert not [name for name in document["components"]["schemas"] if "__" in name]
