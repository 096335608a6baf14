from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
import subprocess
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from slipway.base import process
from slipway.base.errors import FailedError, LockedError, RefusedError
from slipway.deployment import lock, removal
from slipway.deployment.removal import Places
from slipway.schema import database

SERVING = [
    "etc/systemd/system/shop@.service",
    "etc/systemd/system/shop@.socket",
    "etc/systemd/system/shop.worker@.service",
    "etc/systemd/system/shop.nightly.timer",
    "etc/systemd/system/shop.path.timer",
    "etc/systemd/system/shop.path.service",
    "etc/systemd/system/multi-user.target.wants/slipway-recover@shop.service",
    "etc/systemd/system/timers.target.wants/slipway-certificate@shop.timer",
    "etc/shop/env",
    "etc/shop/migrate.env",
    "etc/slipway/shop.hooks.json",
    "etc/slipway/shop.toml",
    "etc/nginx/shop.htpasswd",
    "etc/redis/slipway-shop.conf",
    "etc/systemd/system/multi-user.target.wants/slipway-redis@shop.service",
    "etc/ssl/slipway/shop/privkey.pem",
    "etc/tmpfiles.d/slipway-shop.conf",
    "srv/shop/slots/blue/env",
    "srv/shop/deployment.json",
]
DATA = [
    "etc/slipway/shop.generated.env",
    "etc/sysusers.d/slipway-shop.conf",
    "var/lib/shop/uploads/a.png",
    "var/lib/shop.redis/dump.rdb",
    "var/cache/slipway/shop/x",
    "srv/shop/releases/v1/app.py",
    "srv/shop/journal.jsonl",
    "var/log/nginx/shop.access.log",
]
OTHERS = [
    "etc/systemd/system/shop.service",
    "etc/systemd/system/shop.path",
    "etc/systemd/system/shop.service.d/x.conf",
    "etc/systemd/system/bookshop@.service",
    "etc/systemd/system/shop-two@.service",
    "etc/systemd/system/slipway-recover@.service",
    "etc/systemd/system/multi-user.target.wants/slipway-recover@bookshop.service",
    "etc/slipway/shop-two.toml",
    "etc/redis/slipway-shop-two.conf",
    "etc/systemd/system/slipway-redis@.service",
    "var/lib/shop-two.redis/dump.rdb",
    "etc/slipway/bookshop.toml",
    "etc/shop-two/env",
    "srv/shop-two/live",
    "var/lib/shop-two/a",
    "etc/ssl/slipway/ca/ca.key",
    "var/log/nginx/bookshop.access.log",
]
UNITS = "shop@blue.service loaded\nshop@blue.socket loaded\nshop.nightly.timer loaded\nbookshop@blue.service\n"


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The programs that are called, each with its arguments; they find neither PostgreSQL nor MariaDB."""
    calls: list[list[str]] = []

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        calls.append([str(part) for part in command])
        return subprocess.CompletedProcess(command, 0, UNITS if command[1] == "list-units" else "", "")

    monkeypatch.setattr(process, "run", run)
    monkeypatch.setattr(removal, "is_ours", lambda app: app == "shop")
    monkeypatch.setattr(removal, "CLUSTERS", Path("/nowhere"))
    monkeypatch.setattr(shutil, "which", lambda _: None)
    return calls


@pytest.fixture
def places(tmp_path: Path) -> Places:
    for name in (*SERVING, *DATA, *OTHERS):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    (tmp_path / "srv/shop/live").symlink_to("slots/blue")
    return Places("shop", tmp_path)


def there(places: Places, names: list[str]) -> list[str]:
    return [name for name in names if (places.top / name).exists()]


def test_an_absent_app_leaves_its_data_and_everything_of_others(places: Places, asked: list[list[str]]) -> None:
    gone = removal.remove("shop", places)
    assert there(places, SERVING) == []
    assert not (places.root / "live").is_symlink()
    assert there(places, [*DATA, *OTHERS]) == [*DATA, *OTHERS]
    assert gone[-1] == str(places.settings), "it says that the app is here, so it goes last"
    assert asked[-1] == ["systemctl", "daemon-reload"]


def test_timers_and_sockets_stop_before_services(places: Places, asked: list[list[str]]) -> None:
    removal.remove("shop", places)
    stopped = [call[2:] for call in asked if call[1] == "stop"]
    assert stopped == [["shop.nightly.timer"], ["shop@blue.socket"], ["shop@blue.service"]]


def test_a_second_removal_changes_nothing(places: Places) -> None:
    removal.remove("shop", places)
    assert removal.remove("shop", places) == []
    assert removal.remove("never-there", Places("never-there", places.top)) == []


def test_an_app_that_is_being_deployed_stays(places: Places) -> None:
    with lock.hold(places.top / "run/slipway/shop.lock", "shop") as held:
        held.renew("alice@laptop (pid 1)", "d1", "stage", "v2", 300)
    with pytest.raises(LockedError, match="shop is being deployed by alice@laptop"):
        removal.remove("shop", places)
    assert there(places, SERVING) == SERVING


def test_a_purge_takes_the_data_and_keeps_what_cannot_be_made_again(places: Places) -> None:
    with contextlib.closing(sqlite3.connect(places.data / "shop.db")) as written, written:
        written.execute("CREATE TABLE orders (id INTEGER)")
        written.execute("INSERT INTO orders VALUES (7)")
    (places.root / "backups").mkdir()
    (places.root / "backups/shop-0001.dump").write_text("earlier")
    kept, _ = removal.purge("shop", places)
    assert there(places, [*SERVING, *DATA]) == []
    assert not places.root.exists()
    assert not places.data.exists()
    assert there(places, OTHERS) == OTHERS
    assert [Path(path).name.partition("-2")[0] for path in kept] == ["shop", "shop-0001.dump", "shop.generated.env"]
    with contextlib.closing(sqlite3.connect(kept[0])) as copy:
        assert copy.execute("SELECT id FROM orders").fetchall() == [(7,)]
    assert {Path(path).stat().st_mode & 0o777 for path in kept} == {0o600}
    assert places.backups.stat().st_mode & 0o777 == 0o700


def test_a_link_of_the_app_leads_a_purge_nowhere(places: Places, tmp_path: Path) -> None:
    outside = tmp_path / "elsewhere"
    outside.mkdir()
    (outside / "precious").write_text("x")
    (places.data / "link").symlink_to(outside)
    (places.data / "shop.db").symlink_to(outside / "precious")
    removal.purge("shop", places)
    assert (outside / "precious").read_text() == "x"


def test_a_host_that_has_only_the_database_of_an_app_keeps_its_passwords_until_the_purge(places: Places) -> None:
    host = Places("other", places.top)
    host.passwords.write_text("SLIPWAY_DATABASE_PASSWORD=x\n")
    assert removal.remove("other", host) == []
    assert host.passwords.exists()
    _, gone = removal.purge("other", host)
    assert gone == [str(host.passwords)]
    assert not host.passwords.exists()


@pytest.mark.parametrize("name", ["nginx", "postgres", "mail"])
def test_a_name_that_is_no_app_of_ours_is_never_purged(places: Places, name: str) -> None:
    precious = places.top / f"var/lib/{name}/precious"
    precious.parent.mkdir(parents=True)
    precious.write_text("x")
    with pytest.raises(RefusedError, match=f"'{name}' is no app of this host"):
        removal.purge(name, Places(name, places.top))
    assert precious.exists()


@pytest.mark.parametrize("name", ["../etc", "a/b", "", "A", "a;b"])
def test_a_name_that_leads_elsewhere_is_refused(name: str) -> None:
    with pytest.raises(RefusedError, match="cannot be an app's name"):
        removal.purge(name)


def postgresql(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, dump: int) -> list[str]:
    """A PostgreSQL that has the app's database, and dumps it with this exit code; what it is told."""
    told: list[str] = []

    def run(command: list[str], output: Any = None, **_: Any) -> subprocess.CompletedProcess[str]:
        told.append(" ".join(str(part) for part in command))
        if command[0] == "pg_dump" and dump == 0:
            output.write(b"PGDMP")
        code = dump if command[0] == "pg_dump" else 0
        return subprocess.CompletedProcess(command, code, "1\n" if command[0] == "psql" else "", "no space left")

    (tmp_path / "clusters/17/main").mkdir(parents=True)
    monkeypatch.setattr(removal, "CLUSTERS", tmp_path / "clusters")
    monkeypatch.setattr(database, "PROGRAMS", tmp_path)
    monkeypatch.setattr(process, "run", run)
    return told


def test_a_database_is_dropped_once_it_is_dumped(
    places: Places, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    told = postgresql(monkeypatch, tmp_path, dump=0)
    kept, _ = removal.purge("shop", places)
    assert Path(kept[0]).read_bytes() == b"PGDMP"
    dumped = next(number for number, line in enumerate(told) if line.startswith("pg_dump"))
    dropped = [number for number, line in enumerate(told) if "DROP" in line]
    assert dropped
    assert dumped < min(dropped)
    assert [role for role in ('"shop"', '"shop_migrate"', '"shop_owner"') if f"DROP ROLE {role}" in " ".join(told)]


def test_without_a_dump_nothing_is_deleted(places: Places, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    told = postgresql(monkeypatch, tmp_path, dump=1)
    with pytest.raises(FailedError, match=r"could not be dumped\. Nothing of its data was deleted"):
        removal.purge("shop", places)
    assert "DROP" not in " ".join(told)
    assert there(places, DATA) == DATA


def test_an_absent_apps_roles_cannot_log_in(places: Places, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    told = postgresql(monkeypatch, tmp_path, dump=0)
    removal.remove("shop", places)
    text = " ".join(told)
    assert 'ALTER ROLE "shop" NOLOGIN' in text
    assert 'ALTER ROLE "shop_migrate" NOLOGIN' in text


def mariadb(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, dump: int = 0) -> list[str]:
    """A MariaDB that has the app's database and its two users, and dumps it with this exit code; what it is told."""
    told: list[str] = []
    answers = {"SHOW": "mysql\nshop\n", "SELECT": "localhost\n127.0.0.1\n"}

    def run(command: list[str], output: Any = None, **_: Any) -> subprocess.CompletedProcess[str]:
        told.append(" ".join(str(part) for part in command))
        statement = str(command[-1]).removeprefix("--execute=").split()[0]
        if command[0] == "mariadb-dump" and dump == 0:
            output.write(b"-- MariaDB dump")
        code = dump if command[0] == "mariadb-dump" else 0
        return subprocess.CompletedProcess(command, code, answers.get(statement, ""), "")

    settings = tmp_path / "90-slipway.cnf"
    settings.write_text("")
    monkeypatch.setattr(removal, "MARIADB", settings)
    monkeypatch.setattr(shutil, "which", lambda name, **_: f"/usr/sbin/{name}" if name == "mariadbd" else None)
    monkeypatch.setattr(process, "run", run)
    return told


def test_a_database_of_mariadb_is_dropped_with_its_users_once_it_is_dumped(
    places: Places, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    told = mariadb(monkeypatch, tmp_path)
    kept, _ = removal.purge("shop", places)
    assert Path(kept[0]).read_bytes() == b"-- MariaDB dump"
    dumped = next(number for number, line in enumerate(told) if line.startswith("mariadb-dump"))
    dropped = [number for number, line in enumerate(told) if "DROP" in line]
    assert dumped < min(dropped)
    assert [told[number].partition("--execute=")[2] for number in dropped] == [
        "DROP DATABASE `shop`",
        "DROP USER 'shop'@'localhost'",
        "DROP USER 'shop'@'127.0.0.1'",
    ]


def test_without_a_dump_of_mariadb_nothing_is_deleted(
    places: Places, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    told = mariadb(monkeypatch, tmp_path, dump=2)
    with pytest.raises(FailedError, match=r"could not be dumped\. Nothing of its data was deleted"):
        removal.purge("shop", places)
    assert "DROP" not in " ".join(told)
    assert there(places, DATA) == DATA


def test_an_absent_apps_users_of_mariadb_cannot_log_in(
    places: Places, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    told = mariadb(monkeypatch, tmp_path)
    removal.remove("shop", places)
    locked = [line.partition("--execute=")[2] for line in told if "LOCK" in line]
    assert locked == [f"ALTER USER 'shop'@'{host}' ACCOUNT LOCK" for host in ("localhost", "127.0.0.1")]


def test_a_mariadb_of_somebody_else_is_not_asked(
    places: Places, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    told = mariadb(monkeypatch, tmp_path)
    monkeypatch.setattr(removal, "MARIADB", tmp_path / "nowhere")
    removal.purge("shop", places)
    assert not [line for line in told if line.startswith("mariadb")]


def test_the_command_says_what_is_gone(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from slipway.cli import parser

    monkeypatch.setattr(removal, "remove", lambda _: ["/etc/slipway/shop.toml"])
    assert parser.main(["remove", "shop", "--json"]) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["changed"] is True
    assert "-e purge=shop" in result["message"]


def test_a_database_of_sqlite_is_kept_whatever_its_file_is_called(places: Places, tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    for path, value in ((places.data / "a?b#c%41.db", "mine"), (other, "theirs")):
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.closing(sqlite3.connect(path)) as made, made:
            made.execute(f"CREATE TABLE {value} (x)")
    (places.data / "a").symlink_to(other)
    kept, _ = removal.purge("shop", places)
    copy = next(path for path in kept if path.endswith("a?b#c%41.db"))
    with contextlib.closing(sqlite3.connect(copy)) as found:
        assert found.execute("SELECT name FROM sqlite_master").fetchall() == [("mine",)]


def test_the_secrets_of_an_app_that_was_purged_before_stay_with_its_dumps(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    removal.purge("shop", places)
    first = {path: path.read_text() for path in places.backups.glob("shop.generated.env*")}
    places.secrets.write_text("SECRET_KEY=another")
    later = SimpleNamespace(now=lambda zone: datetime(2100, 1, 1, tzinfo=zone))
    monkeypatch.setattr(removal, "datetime", later)
    removal.purge("shop", places)
    assert {path: path.read_text() for path in first} == first
    assert len(list(places.backups.glob("shop.generated.env*"))) == 2
