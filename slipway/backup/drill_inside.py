"""The part of a drill that runs in the sandbox: restore a backup, start PostgreSQL on it, and look at what it has.

This file is the whole program: it can import nothing of the engine. Its standard input is one JSON object, and so is
what it writes to the file descriptor 3. What it finds is judged elsewhere.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ANSWER = 3
_LOG = 400  # lines of the server's log that come back
_SETTINGS = """
listen_addresses = ''
max_connections = 20
shared_buffers = 32MB
maintenance_work_mem = 32MB
max_wal_size = 256MB
min_wal_size = 32MB
wal_level = minimal
max_wal_senders = 0
dynamic_shared_memory_type = mmap
fsync = off
full_page_writes = off
autovacuum = off
jit = off
max_parallel_workers_per_gather = 0
log_min_messages = warning
log_line_prefix = ''
"""
# On the command line, as it counts more than what somebody has set by ALTER SYSTEM on the live server.
_OVER = {
    "listen_addresses": "",
    "archive_mode": "off",
    "hot_standby": "off",
    "ssl": "off",
    "shared_preload_libraries": "",
    "session_preload_libraries": "",
    "logging_collector": "off",
    "log_destination": "stderr",
    "primary_conninfo": "",
    "synchronous_standby_names": "",
}


class ProblemError(Exception):
    """The drill cannot go on; the text is the end of what a program has said."""


def main() -> None:
    wanted = json.load(sys.stdin)
    found: dict[str, Any] = {}
    try:
        run(wanted, found)
    except ProblemError as problem:
        found["problem"] = str(problem)
    with os.fdopen(ANSWER, "w", encoding="utf-8") as answer:
        json.dump(found, answer)


def run(wanted: dict[str, Any], found: dict[str, Any]) -> None:
    """Restore, recover and look; what is found is put into `found` as far as it comes."""
    place = Path(wanted["place"])
    data, log = place / "data", place / "log"
    _timed(found, "restore", lambda: restore(wanted, place, data))
    settings = configure(place, data)
    with log.open("wb") as output:
        server = subprocess.Popen(
            [f"{wanted['programs']}/postgres", "-D", str(data), *settings], stdout=output, stderr=subprocess.STDOUT
        )
        try:
            _timed(found, "recover", lambda: wait(wanted, place, server))
            _timed(found, "look", lambda: look(wanted, place, found))
            _timed(found, "amcheck", lambda: amcheck(wanted, place))
        finally:
            server.terminate()
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                server.kill()
            found["log"] = log.read_text(errors="replace").splitlines()[-_LOG:]


def _timed(found: dict[str, Any], name: str, step: Callable[[], None]) -> None:
    found["step"] = name
    started = time.monotonic()
    try:
        step()
    finally:
        found.setdefault("seconds", {})[name] = round(time.monotonic() - started, 2)


def restore(wanted: dict[str, Any], place: Path, data: Path) -> None:
    data.mkdir(mode=0o700)
    _run(
        [
            *wanted["pgbackrest"],
            f"--pg1-path={data}",
            f"--tablespace-map-all={place}/tablespaces",
            f"--lock-path={place}/lock",
            "--archive-mode=off",
            *wanted["target"],
            "restore",
        ]
    )


def configure(place: Path, data: Path) -> list[str]:
    """Write the server's files, which Debian keeps apart from the data; its options."""
    user = os.environ["USER"]
    (place / "hba.conf").write_text("local all all peer map=drill\n")
    (place / "ident.conf").write_text(f"drill {user} postgres\n")
    (place / "postgresql.conf").write_text(_SETTINGS)
    over = {
        **_OVER,
        "config_file": str(place / "postgresql.conf"),
        "hba_file": str(place / "hba.conf"),
        "ident_file": str(place / "ident.conf"),
        "unix_socket_directories": str(place),
        "data_directory": str(data),
        "port": "5432",
    }
    return [part for name, value in over.items() for part in ("-c", f"{name}={value}")]


def wait(wanted: dict[str, Any], place: Path, server: subprocess.Popen[bytes]) -> None:
    """Until the recovery has ended and the server answers."""
    deadline = time.monotonic() + wanted["patience"]
    while True:
        if server.poll() is not None:
            raise ProblemError(f"PostgreSQL ended with the exit code {server.returncode}")
        done = _psql(wanted, place, "postgres", "SELECT pg_is_in_recovery()")
        if done.returncode == 0 and done.stdout.strip() == "f":
            return
        if time.monotonic() > deadline:
            raise ProblemError(f"the recovery did not end within {wanted['patience']} s")
        time.sleep(0.2)


def look(wanted: dict[str, Any], place: Path, found: dict[str, Any]) -> None:
    """What is in the restored cluster: its databases, the heartbeat, revisions, and rows of the largest tables."""
    names = [row[0] for row in _rows(wanted, place, "postgres", wanted["databases"])]
    found["databases"] = {}
    for name in names:
        revisions = {
            table: revision
            for row in _rows(wanted, place, name, wanted["revisions"])
            for table, revision in _rows(wanted, place, name, row[0])
        }
        rows = {
            table: int(_rows(wanted, place, name, f"SELECT count(*) FROM {table}")[0][0])  # noqa: S608  # PostgreSQL has quoted it
            for table, *_ in _rows(wanted, place, name, wanted["tables"])
        }
        found["databases"][name] = {"revisions": revisions, "rows": rows}
    if wanted["heartbeat_database"] in names:
        beats = _rows(wanted, place, wanted["heartbeat_database"], wanted["heartbeat"])
        found["heartbeat"] = int(beats[0][0]) if beats else None


def amcheck(wanted: dict[str, Any], place: Path) -> None:
    """Have PostgreSQL's own program look through all tables and their indexes."""
    connection = [f"--host={place}", "--port=5432", "--username=postgres", "--no-password"]
    _run([f"{wanted['programs']}/pg_amcheck", *connection, "--all", "--install-missing"])


def _rows(wanted: dict[str, Any], place: Path, database: str, query: str) -> list[list[str]]:
    done = _psql(wanted, place, database, query)
    if done.returncode != 0:
        raise ProblemError(_end(done.stderr))
    return [line.split("\t") for line in done.stdout.splitlines() if line]


def _psql(wanted: dict[str, Any], place: Path, database: str, query: str) -> subprocess.CompletedProcess[str]:
    how = ["--no-psqlrc", "--no-password", "--tuples-only", "--no-align", "--quiet", "--field-separator=\t"]
    where = [f"--host={place}", "--port=5432", "--username=postgres", f"--dbname={database}"]
    command = [f"{wanted['programs']}/psql", *how, *where, "--set=ON_ERROR_STOP=1", f"--command={query}"]
    return subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode != 0:
        raise ProblemError(
            _end(done.stderr + done.stdout) or f"{command[0]} ended with the exit code {done.returncode}"
        )


def _end(said: str) -> str:
    return "\n".join([line for line in said.splitlines() if line.strip()][-12:])


if __name__ == "__main__":
    main()
