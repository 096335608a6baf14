"""The container engine of the local hosts, as far as it can be tested without killing it."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest
import yaml

from hosts import container_runtime, host


def test_ports_below_1024_need_a_right_on_test_hosts_as_on_machines() -> None:
    """Docker's own setting is 0, with which everybody may bind them."""
    setting = "net.ipv4.ip_unprivileged_port_start"
    assert host.FLAGS[host.FLAGS.index("--sysctl") + 1] == f"{setting}=1024"
    molecule = yaml.safe_load((Path(__file__).parents[2] / "molecule/default/molecule.yml").read_text())
    assert [platform["sysctls"] for platform in molecule["platforms"]] == [{setting: 1024}] * 2


@pytest.mark.parametrize("program", ["sleep", "another"])
def test_the_pid_file_is_kept_only_while_its_daemon_runs(tmp_path: Path, program: str) -> None:
    pid_file = tmp_path / "daemon.pid"
    with subprocess.Popen(["sleep", "60"]) as daemon:
        pid_file.write_text(str(daemon.pid))
        container_runtime._forget_dead(pid_file, program)
        assert pid_file.exists() == (program == "sleep"), "a number may be another program's by now"
        pid_file.write_text(str(daemon.pid))
        daemon.kill()
        while Path(f"/proc/{daemon.pid}/stat").read_text().split()[2] != "Z":
            time.sleep(0.01)
        container_runtime._forget_dead(pid_file, "sleep")  # not yet reaped
        assert not pid_file.exists()


@pytest.mark.parametrize("content", ["", "no number", "999999999"])
def test_a_pid_file_that_names_no_process_is_removed(tmp_path: Path, content: str) -> None:
    pid_file = tmp_path / "daemon.pid"
    pid_file.write_text(content)
    container_runtime._forget_dead(pid_file, "dockerd")
    assert not pid_file.exists()
