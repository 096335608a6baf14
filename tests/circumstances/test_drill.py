"""What a drill runs in its sandbox, with a real PostgreSQL and a real pgBackRest, but without the sandbox."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hosts import postgresql
from hosts.products import PRODUCTS
from slipway.backup import cluster, drill_checks, drill_inside, heartbeat, pgbackrest
from slipway.backup.drill_checks import Seen

AS = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"] if os.geteuid() == 0 else []
USER = "nobody" if AS else pwd.getpwuid(os.geteuid()).pw_name
CONFIGURATION = """
[global]
repo1-path={place}/repository
repo1-cipher-type=aes-256-cbc
repo1-cipher-pass=a pass phrase of the tests
repo1-bundle=y
compress-type=zst
start-fast=y
lock-path={place}/lock
log-level-file=off
log-level-console=warn
spool-path={place}/spool
[main]
pg1-path={place}/live
pg1-port=5432
pg1-socket-path={place}
pg1-user=postgres
"""


@dataclass
class Live:
    """A live server that archives its WAL into a repository, and a place for drills."""

    place: Path
    programs: Path

    def run(self, *command: str | Path, given: str = "", **how: Any) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "USER": USER, "HOME": str(self.place)}
        return subprocess.run(
            [*AS, *map(str, command)],
            input=given, capture_output=True, text=True, check=False, env=environment, cwd=self.place, **how,
        )  # fmt: skip

    def done(self, *command: str | Path) -> str:
        ended = self.run(*command)
        assert ended.returncode == 0, ended.stderr + ended.stdout
        return ended.stdout

    @property
    def pgbackrest(self) -> list[str]:
        return ["pgbackrest", f"--config={self.place}/pgbackrest.conf", "--stanza=main"]

    def sql(self, statement: str, database: str = "postgres") -> str:
        where = ["--host", str(self.place), "--username=postgres", f"--dbname={database}"]
        return self.done(self.programs / "psql", "-XqtA", *where, "--set=ON_ERROR_STOP=1", f"--command={statement}")

    def archived(self) -> Path:
        """The file in the repository of the WAL that is written now."""
        self.sql(heartbeat._BEAT, heartbeat.DATABASE)  # a segment without anything in it is not handed over
        name = self.sql("SELECT pg_walfile_name(pg_current_wal_insert_lsn())").strip()
        self.sql("SELECT pg_switch_wal()")
        deadline = time.monotonic() + 30
        while not (found := list((self.place / "repository/archive").rglob(f"{name}-*"))):
            assert time.monotonic() < deadline, f"{name} was not archived"
            time.sleep(0.1)
        return found[0]

    def drill(self) -> dict[str, Any]:
        """What the program finds; it writes its answer to file descriptor 3."""
        place = self.place / "drill"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(mode=0o700)
        shutil.chown(place, USER)
        request = {
            "place": str(place), "programs": str(self.programs), "pgbackrest": self.pgbackrest,
            "target": ["--type=default"], "patience": 60, "databases": cluster.DATABASES,
            "revisions": cluster.REVISIONS, "tables": cluster.TABLES,
            "heartbeat_database": heartbeat.DATABASE, "heartbeat": heartbeat.READ,
        }  # fmt: skip
        source = Path(drill_inside.__file__).read_text()
        command = ["sh", "-c", '"$@" 3>&1 >&2', "sh", "/usr/bin/python3", "-I", "-c", source]
        ended = self.run(*command, given=json.dumps(request))
        assert ended.stdout, ended.stderr[-2000:]
        found: dict[str, Any] = json.loads(ended.stdout)
        return found

    def problems(self, **changes: Any) -> list[str]:
        found = self.drill()
        live = {"shop": {"revisions": {"alembic_version": "0002"}, "rows": {"orders": 5000}}}
        return drill_checks.problems(Seen(found, live, time.time(), 900, **changes))


@pytest.fixture(scope="module")
def live() -> Iterator[Live]:
    programs = postgresql.programs()
    if programs is None or PRODUCTS["pgbackrest"].find() is None:
        pytest.skip("needs PostgreSQL and pgBackRest")
    place = Path(tempfile.mkdtemp(prefix="drill-"))  # a short path, as that of a socket has to be
    shutil.chown(place, USER)
    made = Live(place, programs)
    (place / "pgbackrest.conf").write_text(CONFIGURATION.format(place=place))
    made.done("mkdir", place / "repository")
    made.done(programs / "initdb", "--username=postgres", "--auth=trust", "--no-sync", f"--pgdata={place}/live")
    with (place / "live/postgresql.conf").open("a") as file:
        file.write(f"archive_mode = on\narchive_command = '{' '.join(made.pgbackrest)} archive-push %p'\n")
    options = f"-k {place} -c listen_addresses='' -c fsync=off"
    made.done(
        programs / "pg_ctl", "start", "-w", f"--pgdata={place}/live", f"--log={place}/log", f"--options={options}"
    )
    try:
        made.done(*made.pgbackrest, "stanza-create")
        made.sql("CREATE DATABASE shop")
        made.sql("CREATE TABLE alembic_version (version_num text); INSERT INTO alembic_version VALUES ('0002')", "shop")
        made.sql("CREATE TABLE orders AS SELECT n, md5(n::text) FROM generate_series(1, 5000) n", "shop")
        made.sql("CREATE INDEX ON orders (n)", "shop")
        made.sql(f"CREATE DATABASE {heartbeat.DATABASE}")
        made.sql(heartbeat._TABLE, heartbeat.DATABASE)
        made.done(*made.pgbackrest, "--type=full", "backup")
        made.archived()
        yield made
    finally:
        made.run(programs / "pg_ctl", "stop", "--mode=immediate", f"--pgdata={place}/live")
        shutil.rmtree(place)


def test_a_backup_is_restored_recovered_and_looked_at(live: Live) -> None:
    found = live.drill()
    assert "problem" not in found, found
    assert set(found["databases"]) == {"postgres", "shop", heartbeat.DATABASE}
    assert found["databases"]["shop"] == {
        "revisions": {"alembic_version": "0002"},
        "rows": {"alembic_version": 1, "orders": 5000},
    }
    assert abs(time.time() - found["heartbeat"]) < 120
    assert set(found["seconds"]) == {"restore", "recover", "look", "amcheck"}
    assert pgbackrest.errors(found["log"]) == []
    assert live.problems() == []
    assert not (live.place / "drill/data/postmaster.pid").exists()


def test_wal_that_was_cut_ends_the_recovery_early_and_is_found(live: Live) -> None:
    live.sql("INSERT INTO orders SELECT n, 'x' FROM generate_series(1, 10) n", "shop")
    cut = live.archived()
    whole = cut.read_bytes()
    cut.write_bytes(whole[:100])
    try:
        problems = live.problems()
    finally:
        cut.write_bytes(whole)
    assert len(problems) == 1, problems
    assert problems[0].startswith("WAL in the repository cannot be read (")


def test_what_is_in_the_archive_is_listed_and_what_is_missing_found(live: Live) -> None:
    info = pgbackrest.parse(live.done(*live.pgbackrest, "info", "--output=json"), "main")
    assert info.last is not None
    where = f"archive/main/{info.archive}"
    first = live.archived()
    live.archived()
    segments = pgbackrest.segments(live.done(*live.pgbackrest, "repo-ls", "--recurse", "--output=json", where))
    assert pgbackrest.gaps(segments, info.last.first_wal) == []
    aside = live.place / "aside"
    first.rename(aside)
    try:
        left = pgbackrest.segments(live.done(*live.pgbackrest, "repo-ls", "--recurse", "--output=json", where))
    finally:
        aside.rename(first)
    assert pgbackrest.gaps(left, info.last.first_wal) == [first.name[:24]]


def test_another_pass_phrase_is_a_sentence(live: Live) -> None:
    file = live.place / "pgbackrest.conf"
    right = file.read_text()
    file.write_text(right.replace("a pass phrase of the tests", "another pass phrase"))
    try:
        problems = live.problems()
    finally:
        file.write_text(right)
    assert problems == ["The backup could not be read back: the repository was made with another pass phrase."]


def test_an_index_that_is_damaged_is_found(live: Live) -> None:
    """In a backup that is made of it: nothing else would notice."""
    path = live.sql("SELECT pg_relation_filepath('orders_n_idx')", "shop").strip()
    live.sql("CHECKPOINT")
    file = live.place / "live" / path
    whole = file.read_bytes()
    page = bytearray(whole)
    page[2 * 8192 - 64 : 2 * 8192] = b"\x01" * 64  # the tuples at the end of the first leaf
    file.write_bytes(page)
    try:
        live.done(*live.pgbackrest, "--type=full", "backup")
        problems = live.problems()
    finally:
        file.write_bytes(whole)
    assert any(problem.startswith("The backup came up damaged:") for problem in problems), problems
