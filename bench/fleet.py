"""Several hosts: copies of the first one, as provisioning eight would only measure the machine that they share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from bench.stand import SSH_PORT, Stand
from hosts.container_runtime import run, say
from hosts.host import FLAGS, Host, cgroup_flags

SIZES = (1, 2, 4, 8)
IMAGE = "slipway-bench:copy"


@contextmanager
def copies(stand: Stand, count: int) -> Iterator[None]:
    """Add `count` copies of the host to the inventory, with the same live release; they are removed afterwards."""
    hosts = [Host(f"{stand.host.name}-{number}") for number in range(1, count + 1)]
    say(f"  copying the host {count} times")
    # The copies do not need the app `baseline`.
    stand.host.exec("systemctl", "disable", "--quiet", "slipway-recover@baseline.service")
    run("docker", "commit", "--change", "CMD /sbin/init", stand.host.name, IMAGE)
    try:
        for number, host in enumerate(hosts, 1):
            host.down()  # left by an interrupted run
            port = SSH_PORT + 10 + number
            run("docker", "run", "--detach", "--name", host.name, "--hostname", host.name, *FLAGS, *cgroup_flags(),
                "--publish", f"127.0.0.1:{port}:22", IMAGE, "/sbin/init")  # fmt: skip
            host.wait_until_booted()
            stand.others[host.name] = port
        stand.declare()
        yield
    finally:
        for host in hosts:
            host.down()
        run("docker", "rmi", "--force", IMAGE, check=False)
        stand.others.clear()
        stand.declare()
        stand.host.exec("systemctl", "enable", "--quiet", "slipway-recover@baseline.service")
