"""What the units say that no product judges."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from slipway.base import sandbox
from slipway.slot import systemd
from tests.templates import judges, render


def test_what_ends_a_paused_slot_runs_outside_of_the_sandbox_which_hides_the_main_process() -> None:
    lines = render.render("app", "app@.service.j2").splitlines()
    assert {"ProtectProc=invisible", "PrivateUsers=yes"} & set(lines)
    assert [line.split("/")[0] for line in lines if line.startswith("ExecStop=")] == ["ExecStop=-+"]


def test_what_the_unit_of_an_app_runs_as_root_is_none_of_the_apps_own_programs() -> None:
    """The environment of the slot, which leads into the release first, goes for these commands, too."""
    lines = [line for line in render.render("app", "app@.service.j2").splitlines() if line.startswith("Exec")]
    as_root = [line for line in lines if "+" in line.partition("=")[2][:3]]
    assert len(as_root) == 2
    assert all("/bin/sh -c 'PATH=/usr/sbin:/usr/bin:/sbin:/bin; " in line for line in as_root)


@pytest.mark.parametrize("template", ["app/slipway-recover@.service.j2", "certificate/slipway-certificate@.service.j2"])
def test_units_of_root_are_little_exposed(template: str, tmp_path: Path) -> None:
    file = tmp_path / "judged.service"
    file.write_text(render.render(template.split("/")[0], template.split("/")[1]))
    said = judges.run(judges.product("systemd-analyze"), "security", "--offline=yes", "--no-pager", file)
    assert float(said.split("Overall exposure level")[1].split()[2]) <= 4, said


def test_the_renewal_of_certificates_may_do_what_its_programs_need() -> None:
    """`nginx -t` binds port 80, and `hostname --all-ip-addresses` asks the kernel by netlink."""
    lines = render.render("certificate", "slipway-certificate@.service.j2").splitlines()
    (capabilities,) = [line.split("=")[1].split() for line in lines if line.startswith("CapabilityBoundingSet=")]
    (families,) = [line.split("=")[1].split() for line in lines if line.startswith("RestrictAddressFamilies=")]
    assert "CAP_NET_BIND_SERVICE" in capabilities
    assert "AF_NETLINK" in families


def test_a_phase_runs_in_the_sandbox_of_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """The unit of a phase is made by a command, and of the same settings as that of the boot."""
    asked: list[list[str]] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        asked.append(command)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", run)
    systemd.run_detached("logbook", "slipway", ["stage"])
    assert {f"--property={line}" for line in sandbox.ENGINE} <= set(asked[0])
    assert set(sandbox.ENGINE) <= set(render.render("app", "slipway-recover@.service.j2").splitlines())


@pytest.mark.parametrize(("directory", "end"), [("", ""), ("services/api", "/services/api")])
def test_an_app_runs_in_its_directory(directory: str, end: str) -> None:
    lines = render.render("app", "app@.service.j2", {"directory": directory}).splitlines()
    assert f"WorkingDirectory=/srv/logbook/slots/%i/release{end}" in lines


# The test hosts have no memory controller, so the kernel's part is not tried there.
@pytest.mark.parametrize("template", ["app@.service.j2", "background@.service.j2"])
def test_the_memory_of_an_app_has_a_limit_of_its_own(template: str) -> None:
    assert "MemoryMax=300M" in render.render("app", template, {"memory_max_mb": 300}).splitlines()
    assert "MemoryMax" not in render.render("app", template)
