"""An attacker inside of an app, and how little of the host its unit and the others show: as they run on the host."""

from __future__ import annotations

import json
import subprocess

import pytest

from tests.faults.site import Site

# What somebody tries who runs code in the app: each statement of Python has to fail.
TRIES = [
    "os.listdir('/run/slipway')",
    "os.listdir('/etc/slipway')",
    "os.listdir('/var/log/nginx')",
    "os.listdir('/var/log/journal')",
    "os.listdir('/srv/other')",
    "os.stat('/srv/other/releases')",
    "open('/srv/other/secret').read()",
    "open('/etc/ssl/slipway/other/privkey.pem')",
    "os.listdir('/var/lib/slipway')",
    "os.listdir('/var/cache/slipway')",
    "os.listdir('/var/backups')",
    "open('/proc/1/environ').read()",
    "os.listdir('/proc/sys')",
    "open('/etc/logbook/env', 'a')",
    "open('/srv/logbook/slots/blue/env', 'a')",
    "os.rename('/srv/logbook/slots/blue', '/srv/logbook/slots/red')",
    "open('/srv/logbook/x', 'w')",
    "os.symlink('/etc', '/srv/x')",
    "socket.create_connection(('169.254.169.254', 80), 2)",
    "socket.create_connection(('127.0.0.1', 443), 2)",
    "socket.socket(socket.AF_INET)",
    "socket.socket(socket.AF_INET6)",
    "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)",
    "socket.socket(socket.AF_PACKET, socket.SOCK_RAW)",
    "socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)",
    "socket.socket(socket.AF_UNIX).connect('/run/dbus/system_bus_socket')",
    "socket.socket(socket.AF_UNIX).connect('/run/slipway/x')",
    "subprocess.run(['/var/lib/logbook/tool'], check=True)",
    "subprocess.run(['/tmp/tool'], check=True)",
    "subprocess.run(['/dev/shm/tool'], check=True)",
    "subprocess.run(['systemctl', 'stop', 'nginx'], check=True)",
    "subprocess.run(['systemd-run', '--wait', 'true'], check=True)",
    "subprocess.run(['sudo', '-n', 'true'], check=True)",
    "subprocess.run(['unshare', '--user', '--map-root-user', 'true'], check=True)",
    "os.kill(1, 0)",
    "os.setuid(0)",
    "os.chmod('/tmp/tool', 0o4755)",
    "ctypes.CDLL('/var/lib/logbook/lib.so')",
    "mmap.mmap(-1, 4096, prot=mmap.PROT_WRITE | mmap.PROT_EXEC)",
]

# Inside of an app with `network: outbound` these, too, have to fail.
TRIES_OUTBOUND = [
    "socket.create_server(('0.0.0.0', 8080))",
    "socket.create_server(('127.0.0.1', 0))",
    "socket.create_server(('::', 8080), family=socket.AF_INET6)",
    "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).bind(('0.0.0.0', 0))",
    "socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)",
    "socket.create_connection(('169.254.169.254', 80), 2)",
    "socket.create_connection(('::ffff:169.254.169.254', 80), 2)",
]

PROGRAM = """
import ctypes, json, mmap, os, shutil, socket, subprocess, sys
for place in ("/var/lib/logbook/tool", "/tmp/tool", "/dev/shm/tool"):
    shutil.copy("/usr/bin/true", place)
shutil.copy(next(path for path in (
    "/usr/lib/x86_64-linux-gnu/libz.so.1", "/usr/lib/aarch64-linux-gnu/libz.so.1") if os.path.exists(path)),
    "/var/lib/logbook/lib.so")
done = []
for statement in json.load(sys.stdin):
    try:
        exec(statement)
    except (OSError, subprocess.SubprocessError):
        continue
    except Exception as error:
        done.append(f"{statement}: {error!r}")
        continue
    done.append(statement)
for place in ("/var/lib/logbook/tool", "/var/lib/logbook/lib.so", "/dev/shm/tool"):
    os.unlink(place)
print(json.dumps(done))
"""


def succeeded(site: Site, statements: list[str], network: str) -> list[str]:
    """Those that were possible in a unit like the app's: with every directive that `site.yml` has written into it."""
    site.host.exec("sh", "-c", "cat > /opt/tries.py", stdin=PROGRAM)
    site.sh("install -d /srv/other/releases /etc/ssl/slipway/other && echo x > /srv/other/secret")
    site.sh("touch /etc/ssl/slipway/other/privkey.pem")
    unit = site.sh("cat /etc/systemd/system/logbook@.service")
    skipped = ("ExecStart", "ExecStop", "ExecCondition", "ExecReload", "Type", "NotifyAccess", "WorkingDirectory",
               "EnvironmentFile", "Restart", "RestartSec", "OOMPolicy", "KillMode")  # fmt: skip
    lines = [line for line in unit.partition("[Service]")[2].splitlines() if "=" in line and line[0].isupper()]
    lines = [line.replace("%i", "test") for line in lines if line.partition("=")[0] not in skipped]
    if network == "outbound":
        lines += ["PrivateNetwork=no", "RestrictAddressFamilies=AF_INET AF_INET6", "IPAddressAllow=any"]
    properties = [f"--property={line}" for line in lines]
    command = ["systemd-run", "--quiet", "--collect", "--wait", "--pipe", *properties, "python3", "/opt/tries.py"]
    done = subprocess.run(
        ["docker", "exec", "--interactive", site.host.name, *command],
        input=json.dumps(statements),
        capture_output=True,
        text=True,
        check=False,
    )
    site.sh("rm -rf /srv/other /etc/ssl/slipway/other /opt/tries.py")
    assert done.returncode == 0, done.stderr
    found: list[str] = json.loads(done.stdout)
    return found


def test_whoever_is_inside_of_an_app_gets_nowhere(site: Site) -> None:
    """Tries: 39, as the app's user, in its sandbox."""
    assert succeeded(site, TRIES, "none") == []


def test_an_app_with_a_network_listens_nowhere_and_does_not_reach_the_cloud(site: Site) -> None:
    assert succeeded(site, TRIES_OUTBOUND, "outbound") == []


def exposure(site: Site, unit: str) -> float:
    said = site.sh(f"systemd-analyze security --no-pager '{unit}'")
    return float(said.split("Overall exposure level")[1].split(":")[1].split()[0])


@pytest.mark.parametrize(
    ("unit", "most"),
    [
        ("logbook@blue.service", 0.3),
        ("nginx.service", 2.6),
        ("postgresql@17-main.service", 2.0),
        ("slipway-recover@logbook.service", 4.0),
    ],
)
def test_a_unit_of_the_host_is_little_exposed(site: Site, unit: str, most: float) -> None:
    assert exposure(site, unit) <= most


def test_the_services_run_in_their_sandboxes_already(site: Site) -> None:
    """They were started after their settings were written, so the host has nothing to wait for."""
    assert site.status()["upkeep"] == {"reboot": None, "restarts": {}, "upgrades": [], "firewall_lost": False}
    for program in ("nginx", "postgres"):
        status = site.sh(f"cat /proc/$(pgrep -o -x {program})/status")
        assert "NoNewPrivs:\t1" in status, program
        assert "Seccomp:\t2" in status, program
    assert site.sql("SHOW jit") == "off"


def test_no_compiler_is_on_the_host(site: Site) -> None:
    assert site.sh("for program in gcc cc c++ g++ clang as ld make; do command -v $program; done; true") == ""
