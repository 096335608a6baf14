"""Files from elsewhere, and the commands of an app's build."""

from __future__ import annotations

import hashlib
import http.server
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from slipway.base.errors import FailedError
from slipway.release import extras
from slipway.release.work import Work

from .test_packages import work

BODY = b"a model"
DIGEST = hashlib.sha256(BODY).hexdigest()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "served").mkdir()
    (tmp_path / "served/model.bin").write_bytes(BODY)
    handler = partial(Quiet, directory=str(tmp_path / "served"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/model.bin"
        server.shutdown()


@pytest.fixture
def release(tmp_path: Path) -> Path:
    made = tmp_path / "release"
    (made / "backend").mkdir(parents=True)
    (made / ".venv/bin").mkdir(parents=True)
    return made


def told(tmp_path: Path, url: str, path: str = "models/model.bin", digest: str = DIGEST, **changes: Any) -> Work:
    return work(tmp_path, directory="backend", artefacts=[{"url": url, "sha256": digest, "path": path}], **changes)


def test_an_artefact_is_put_into_the_app_s_directory(tmp_path: Path, release: Path, address: str) -> None:
    extras.fetch(told(tmp_path, address), release)
    assert (release / "backend/models/model.bin").read_bytes() == BODY


@pytest.mark.parametrize(("end", "digest", "says"), [("", "0" * 64, DIGEST), ("x", DIGEST, "cannot be downloaded")])
def test_another_file_than_the_meant_one_is_refused(
    tmp_path: Path, release: Path, address: str, end: str, digest: str, says: str
) -> None:
    with pytest.raises(FailedError) as caught:
        extras.fetch(told(tmp_path, f"{address}{end}?token=s3cret", digest=digest), release)
    assert says in str(caught.value)
    assert "apps.shop.artefacts" in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_an_artefact_is_not_written_through_a_link_of_the_repository(
    tmp_path: Path, release: Path, address: str
) -> None:
    (release / "backend/models").symlink_to(tmp_path)
    with pytest.raises(FailedError, match="leads out of the release"):
        extras.fetch(told(tmp_path, address), release)
    (release / "backend/file").symlink_to(tmp_path / "other")
    with pytest.raises(FailedError, match="leads out of the release"):
        extras.fetch(told(tmp_path, address, "file"), release)
    assert not (tmp_path / "model.bin").exists()
    assert not (tmp_path / "other").exists()


def test_build_commands_run_in_the_app_s_directory_with_the_programs_of_the_release(
    tmp_path: Path, release: Path
) -> None:
    (release / ".venv/bin/assets").write_text('#!/bin/sh\necho "$PWD $1 $WORD" > made.txt\n')
    (release / ".venv/bin/assets").chmod(0o755)
    (release / "backend/made.sh").write_text("#!/bin/sh\ntest -s made.txt\n")
    (release / "backend/made.sh").chmod(0o755)
    commands = ["assets 'two words'", "./made.sh", "sh -c 'cat made.txt > copy.txt'"]
    extras.run(work(tmp_path, directory="backend", commands=commands, build_env={"WORD": "x"}), release, {})
    assert (release / "backend/copy.txt").read_text() == f"{release}/backend two words x\n"


def test_a_build_command_that_fails_says_what_it_printed(tmp_path: Path, release: Path) -> None:
    with pytest.raises(FailedError) as caught:
        extras.run(work(tmp_path, commands=["sh -c 'echo no module x; exit 3'"]), release, {})
    assert str(caught.value) == "apps.shop.build: 'sh -c 'echo no module x; exit 3'' failed with exit code 3."
    assert caught.value.detail == "no module x"


def test_a_build_command_that_is_not_there_names_the_setting(tmp_path: Path, release: Path) -> None:
    with pytest.raises(FailedError, match=r"no.* program 'npmx'.* apps\.shop\.packages") as caught:
        extras.run(work(tmp_path, commands=["npmx run build"]), release, {})
    assert "run site.yml" in str(caught.value)
    extras.run(replace(work(tmp_path), commands=[]), release, {})


def test_a_server_that_does_not_speak_http_is_a_sentence(tmp_path: Path, release: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")

        threading.Thread(target=answer, daemon=True).start()
        with pytest.raises(FailedError, match="cannot be downloaded"):
            extras.fetch(told(tmp_path, f"http://127.0.0.1:{server.getsockname()[1]}/x"), release)
