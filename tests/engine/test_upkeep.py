"""What waits on a host: upgrades, restarts and a reboot, as `slipway status` says it."""

from __future__ import annotations

from pathlib import Path

import pytest

from slipway.cli import upkeep

from .fakes import Programs

MAPS = """\
7f1 r-xp 00000000 fe:01 12 /usr/lib/x86_64-linux-gnu/libssl.so.3 (deleted)
7f2 r--p 00000000 fe:01 13 /usr/lib/x86_64-linux-gnu/libc.so.6
7f3 rw-s 00000000 00:05 14 /dev/zero (deleted)
7f4 rw-p 00000000 00:00 0 [heap]
"""


def test_only_a_library_that_was_replaced_is_a_reason_to_restart() -> None:
    assert upkeep.replaced(MAPS) == ["libssl.so.3"]
    assert upkeep.replaced(MAPS.replace(" (deleted)", "")) == []


def test_upgrades_that_are_for_a_person_are_found(tmp_path: Path) -> None:
    kept = tmp_path / "kept-back"
    assert upkeep.upgrades(kept) == []
    kept.write_text("postgresql-17 nginx")
    assert upkeep.upgrades(kept) == ["nginx", "postgresql-17"]


def test_a_reboot_is_wanted_by_packages_or_by_nobody(tmp_path: Path) -> None:
    file = tmp_path / "reboot-required"
    assert upkeep.reboot(file) is None
    file.touch()
    assert upkeep.reboot(file) == []
    (tmp_path / "reboot-required.pkgs").write_text("linux-image-amd64\nlibc6\nlibc6\n")
    assert upkeep.reboot(file) == ["libc6", "linux-image-amd64"]


@pytest.mark.parametrize(
    ("maps", "changed", "reason"),
    [
        (MAPS, False, {"nginx.service": "it runs with libssl.so.3 of before an upgrade"}),
        ("", True, {"nginx.service": "its unit has changed since it was started"}),
        ("", False, {}),
    ],
)
def test_a_service_that_runs_as_of_before_is_named(
    programs: Programs,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    maps: str,
    changed: bool,
    reason: dict[str, str],
) -> None:
    (tmp_path / "12").mkdir()
    (tmp_path / "12/maps").write_text(maps)
    unit = tmp_path / "nginx.service"
    unit.touch()
    started = int(unit.stat().st_mtime) + (-60 if changed else 60)
    monkeypatch.setattr(upkeep, "PROC", tmp_path)
    shown = f"Id=nginx.service\nMainPID=12\nActiveEnterTimestamp=@{started}\nFragmentPath={unit}\nDropInPaths=\n"
    stopped = "\nId=logbook@green.service\nMainPID=0\nActiveEnterTimestamp=\nFragmentPath=/x\nDropInPaths=\n"
    programs.answers["systemctl"] = (0, shown + stopped, "")
    assert upkeep.restarts(["nginx.service", "logbook@green.service"]) == reason


def test_what_waits_is_said_with_what_to_type() -> None:
    found = {
        "reboot": ["linux-image-amd64"],
        "restarts": {"nginx.service": "old", "logbook@blue.service": "old"},
        "upgrades": ["postgresql-17"],
        "firewall_lost": True,
    }
    assert upkeep.rows(found, "logbook") == [
        ("firewall", "it is not in force: systemctl restart slipway-access"),
        ("upgrades", "postgresql-17: apt-get install --only-upgrade postgresql-17"),
        (
            "restart",
            "nginx.service: old: systemctl restart nginx.service, in a quiet minute",
        ),
        ("restart", "logbook@blue.service: old: deploy the same version again"),
        ("reboot", "linux-image-amd64 needs one: systemctl reboot, in a quiet minute"),
    ]
    assert upkeep.rows({"reboot": None, "restarts": {}, "upgrades": [], "firewall_lost": False}, "logbook") == []


@pytest.mark.parametrize(("has_file", "code", "lost"), [(True, 0, False), (True, 1, True), (False, 1, False)])
def test_a_firewall_that_somebody_has_flushed_is_noticed(
    programs: Programs, tmp_path: Path, has_file: bool, code: int, lost: bool
) -> None:
    file = tmp_path / "firewall.nft"
    if has_file:
        file.touch()
    programs.answers["nft"] = (code, "", "")
    assert upkeep.firewall_lost(file) is lost
