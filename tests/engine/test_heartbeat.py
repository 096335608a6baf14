"""The row that says up to when a backup is."""

from __future__ import annotations

import pytest

from slipway.backup import cluster, heartbeat
from slipway.base.errors import FailedError
from tests.engine.backups import SETTINGS


class Server:
    """What a server answers that is away for some questions, and has no database of Slipway's at first."""

    def __init__(self, away: int = 0) -> None:
        self.away = away
        self.asked: list[tuple[str, str]] = []
        self.databases: list[list[str]] = [["postgres"]]

    def ask(self, _: object, query: str, database: str = "postgres", patience: float = 0) -> list[list[str]]:
        del patience
        self.away -= 1
        if self.away >= 0 or [database] not in self.databases:
            raise FailedError("PostgreSQL does not answer on this host.")
        self.asked.append((database, query.split()[0]))
        if query.startswith("CREATE DATABASE"):
            self.databases.append([heartbeat.DATABASE])
        return self.databases if query == cluster.DATABASES else [["1795809808"]]


def test_its_database_is_made_the_first_time_and_closed_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server()
    monkeypatch.setattr(cluster, "ask", server.ask)
    assert heartbeat.beat(SETTINGS).isoformat() == "2026-11-27T20:03:28+00:00"
    own = heartbeat.DATABASE
    assert server.asked == [
        *(("postgres", "SELECT"), ("postgres", "CREATE"), ("postgres", "REVOKE"), (own, "CREATE"), (own, "INSERT"))
    ]
    heartbeat.beat(SETTINGS)
    assert server.asked[5:] == [(own, "INSERT")]


def test_a_server_that_is_being_restarted_is_waited_for_and_one_that_is_away_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = Server(away=5)
    monkeypatch.setattr(cluster, "ask", server.ask)
    assert heartbeat.beat_when_it_answers(SETTINGS, 30, interval=0).year == 2026
    monkeypatch.setattr(cluster, "ask", Server(away=10**9).ask)
    with pytest.raises(FailedError, match="PostgreSQL does not answer"):
        heartbeat.beat_when_it_answers(SETTINGS, 0.05, interval=0.01)
