"""A host with the bundled app, whose backups are made, broken and mended."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from hosts import scratch
from hosts.host import Host
from tests.controller import Controller
from tests.faults import table
from tests.faults.table import pytest_configure, pytest_runtest_makereport, pytest_terminal_summary

__all__ = ["backed_up", "pytest_configure", "pytest_runtest_makereport", "pytest_terminal_summary"]

ROWS = set(range(60, 71))

STATE = scratch.PROJECT / ".cache/backup"
PORTS = {27022: 22, 27080: 80, 27443: 443}
PATH = "/var/lib/slipway/backups"
CANARY = "a-row-that-is-nowhere-in-the-clear"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    table.refuse_gaps(config, items, "tests/backup", ROWS)


@dataclass(frozen=True)
class Said:
    """How a command of the engine ended, and all that it printed."""

    code: int
    text: str


class Backups(Controller):
    """A controller, and what is asked of its host about backups."""

    def sh(self, script: str) -> str:
        return self.host.exec("sh", "-c", script)

    def slipway(self, command: str) -> Said:
        printed = self.sh(f"slipway {command} 2>&1; echo code $?")
        text, _, code = printed.rpartition("code ")
        return Said(int(code), " ".join(text.split()))

    def sql(self, statement: str, database: str = "logbook") -> str:
        psql = ["psql", "--no-psqlrc", "-v", "ON_ERROR_STOP=1", "-qtA", "-d", database, "-c", statement]
        return self.host.exec("runuser", "-u", "postgres", "--", *psql)

    def backups(self) -> dict[str, Any]:
        """What `slipway status --json` says of them."""
        found: dict[str, Any] = json.loads(self.host.exec("slipway", "status", "--json").splitlines()[-1])["backup"]
        return found

    def rows(self) -> list[str]:
        """The rows of backups in `slipway status`."""
        return self.host.exec("slipway", "status").rpartition("\n\n")[2].splitlines()

    def traces(self) -> str:
        """What of a backup or a drill runs, or is left."""
        return self.sh(
            "ls -A /var/lib/slipway/drill 2>/dev/null; ps -u slipway_drill -o args=;"
            "systemctl list-units --all --plain --no-legend 'slipway-drill-work*' 'slipway-pgbackrest*';"
            "ps -eo args= | grep -E '^/usr/bin/(pgbackrest|restic)' | grep -v archive-push; true"
        )


@pytest.fixture(scope="session")
def backed_up() -> Iterator[Backups]:
    """A host that has just been provisioned, with v1.0.0 live. SLIPWAY_KEEP_HOST=1 keeps it for the next run."""
    keep = os.environ.get("SLIPWAY_KEEP_HOST") == "1"
    made = Backups(Host("slipway-backup-13", "13", PORTS), STATE, {"watch_seconds": 1, "start_deadline": 300})
    if not (keep and made.host.exists() and made.repository.exists()):
        made.host.down()  # what an interrupted run left
        shutil.rmtree(STATE, ignore_errors=True)
        scratch.tag(made.repository, "v1.0.0")
    made.up()
    if not made.sh("slipway releases logbook 2>/dev/null | grep '^[*]' || true"):
        made.play("site.yml")
        made.play("deploy.yml", "-e", "version=v1.0.0")
    made.sql("CREATE TABLE IF NOT EXISTS canary (what text, n integer)")
    made.sql(f"INSERT INTO canary SELECT '{CANARY}', n FROM generate_series(1, 2000) n")  # noqa: S608  # it is ours
    made.sh(f"umask 077; echo {CANARY} >/var/lib/logbook/kept.txt; chown logbook: /var/lib/logbook/kept.txt")
    made.slipway("backup --wait 900")  # the first one may be under way
    yield made
    if not keep:
        made.host.down()
        shutil.rmtree(STATE, ignore_errors=True)
