"""Hosts as they are: one that Slipway has provisioned, in the hands of its users, and one that is not ready for it.

What is in the way of `site.yml` is decided without a host in tests/circumstances/test_obstacles.py, which PostgreSQL
cluster serves in test_clusters.py, and what is an answer in test_frame.py.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from hosts import scratch
from hosts.host import USER, Host
from tests.controller import Controller, flat
from tests.faults.site import Site

STATE = scratch.PROJECT / ".cache/circumstances/misfit"
# An address family that the kernel does not have, as with ipv6.disable=1: EAFNOSUPPORT.
WITHOUT_IPV6 = {
    "defaultAction": "SCMP_ACT_ALLOW",
    "syscalls": [
        {
            "names": ["socket"],
            "action": "SCMP_ACT_ERRNO",
            "errnoRet": 97,
            "args": [{"index": 0, "value": 10, "op": "SCMP_CMP_EQ"}],
        }
    ],
}
# Holds the lock of dpkg for a minute, under the name of a program that installs packages.
HOLDS_THE_LOCK = """\
printf '%s\\n' 'import fcntl, time; f = open("/var/lib/dpkg/lock-frontend", "w")' 'fcntl.lockf(f, fcntl.LOCK_EX)' \
  'time.sleep(60)' >/root/unattended-upgrade
systemd-run --quiet --unit first-boot /usr/bin/python3 /root/unattended-upgrade
until grep -q ":$(stat --format=%i /var/lib/dpkg/lock-frontend) " /proc/locks; do sleep 0.05; done
"""
BREAKS_A_PACKAGE = """\
mkdir -p /root/broken/DEBIAN; cd /root
printf '%s\\n' 'Package: broken' 'Version: 1' 'Architecture: all' 'Maintainer: x <x@x>' 'Description: x' \\
  >broken/DEBIAN/control
printf '#!/bin/sh\\nexit 1\\n' >broken/DEBIAN/postinst; chmod 0755 broken/DEBIAN/postinst
dpkg-deb --build broken >/dev/null; ! dpkg --install broken.deb >/dev/null 2>&1
"""


@pytest.fixture(scope="module")
def misfit(provisioned: Site) -> Iterator[Controller]:
    """A bare host without IPv6, whose user is greeted by every shell; it has the key and the app of the other one."""
    STATE.mkdir(parents=True, exist_ok=True)
    profile = STATE / "seccomp.json"
    profile.write_text(json.dumps(WITHOUT_IPV6))
    first = provisioned.port(22) + 10
    ports = {first: 22, first + 1: 80, first + 2: 443}
    host = Host("slipway-shared-2", "13", ports, flags=("--security-opt", f"seccomp={profile}"))
    host.down()
    controller = Controller(host, STATE, {"repository": str(provisioned.repository)})
    controller.up()
    host.exec("sed", "-i", "1i echo Welcome", f"/home/{USER}/.bashrc")
    yield controller
    host.down()
    shutil.rmtree(STATE, ignore_errors=True)


def sh(controller: Controller, script: str) -> str:
    return controller.host.exec("sh", "-c", script)


def refused(controller: Controller, *arguments: str) -> str:
    """What site.yml says that has to be refused before anything is changed."""
    output = controller.play("site.yml", *arguments, check=False)
    assert "changed=0" in output
    assert "is not ready, and nothing was changed." in output
    return flat(output)


def test_rows_19_20_whoever_installs_packages_is_waited_for_and_all_obstacles_are_named_at_once(
    misfit: Controller,
) -> None:
    sh(misfit, BREAKS_A_PACKAGE + "systemd-run --quiet --unit caddy python3 -m http.server 80")
    sh(misfit, "mv /etc/apt/sources.list /root; until ss -Hltn sport = 80 | grep -q .; do sleep 0.05; done")
    sh(misfit, HOLDS_THE_LOCK)
    try:
        run = misfit.start("site.yml")
        assert run.stdout
        waits = next((line for line in run.stdout if ": waiting for " in line), "it did not wait")
        sh(misfit, "systemctl stop first-boot")
        output = flat(run.communicate(timeout=60)[0])
        assert re.search(r"-2: waiting for unattended-upgrade \(process \d+\), which installs packages", waits)
        assert run.returncode
        assert "changed=0" in output
        assert "3 things are in the way:" in output
        assert re.search(r"python3 \(process \d+, caddy.service\) listens on port 80 that Nginx needs", output)
        assert "Packages were left half-installed: broken: type `dpkg --configure -a" in output
        assert "apt has no sources of packages" in output
    finally:
        sh(misfit, "systemctl stop caddy; dpkg --purge broken; mv /root/sources.list /etc/apt")


def test_who_still_installs_packages_after_the_time_to_wait_is_named(misfit: Controller) -> None:
    sh(misfit, HOLDS_THE_LOCK)
    try:
        output = refused(misfit, "-e", "site_patience=0")
    finally:
        sh(misfit, "systemctl stop first-boot")
    assert re.search(r"unattended-upgrade \(process \d+\) installs packages still after 0 minutes", output)


@pytest.mark.parametrize(
    ("breaks", "sentence"),
    [
        ("mv /usr/bin/sudo /usr/bin/no-sudo", f"-2 has no sudo, and '{USER}' is not root: install sudo there"),
        (f"echo 'Defaults:{USER} requiretty' >/etc/sudoers.d/zz", f"demands a terminal: add `Defaults:{USER} !requi"),
        (f"echo '{USER} ALL=(ALL) PASSWD: ALL' >/etc/sudoers.d/zz", "demands a password for 'ops': add -K to the com"),
    ],
)  # fmt: skip
def test_row_25_sudo_that_cannot_be_used_is_named_with_the_rest(misfit: Controller, breaks: str, sentence: str) -> None:
    sh(misfit, f"{breaks}; mv /usr/bin/python3 /usr/bin/no-python3")
    try:
        output = refused(misfit)
    finally:
        sh(misfit, "cd /usr/bin; for name in no-*; do mv $name ${name#no-}; done; rm -f /etc/sudoers.d/zz")
    assert sentence in output
    assert "It has no Python (/usr/bin/python3): type `apt-get install python3 python3-apt`" in output


def test_row_25_root_wants_no_sudo(misfit: Controller) -> None:
    sh(
        misfit,
        f"umask 077; mkdir -p /root/.ssh; cp /home/{USER}/.ssh/authorized_keys /root/.ssh; chown root /root/.ssh/*",
    )
    sh(misfit, "echo 'PermitRootLogin yes' >/etc/ssh/sshd_config.d/a.conf; systemctl restart ssh")
    sh(misfit, "mv /usr/bin/sudo /usr/bin/no-sudo; systemd-run --quiet --unit caddy python3 -m http.server 443")
    sh(misfit, "until ss -Hltn sport = 443 | grep -q .; do sleep 0.05; done")
    misfit.declare(settings={"ansible_user": "root"})
    try:
        output = refused(misfit)
    finally:
        misfit.declare()
        sh(misfit, "systemctl stop caddy; mv /usr/bin/no-sudo /usr/bin/sudo")
    assert "nothing was changed. python3 (process" in output, "the port is the only thing in the way"
    packages = yaml.safe_load((scratch.PROJECT / "roles/host/vars/main.yml").read_text())["__host_packages"]
    assert "sudo" in packages, "root becomes the user postgres by it"


def test_row_18_nginx_is_installed_and_serves_on_a_host_without_ipv6(misfit: Controller) -> None:
    playbook = scratch.PROJECT / ".cache/circumstances/nginx.yml"
    playbook.write_text(
        "- {hosts: all, become: true, gather_facts: false, vars: {nginx_acme_directory: /var/lib/acme},"
        f" roles: [{scratch.PROJECT}/roles/nginx]}}\n"
    )
    misfit.play(str(playbook))
    assert misfit.host.exec("systemctl", "is-active", "nginx.service") == "active"
    assert "[::]" not in misfit.host.exec("cat", "/etc/nginx/nginx.conf")
    assert "0.0.0.0:443" in misfit.host.exec("ss", "-Hltn")


def test_rows_6_13_a_greeting_a_tight_umask_and_a_retired_cluster_change_nothing(site: Site) -> None:
    sh(site, f"cp /etc/login.defs /root; cp /home/{USER}/.bashrc /root")
    sh(site, f"sed -i '1i echo Welcome; umask 077; export LC_ALL=de_DE.UTF-8 PATH=/bin' /home/{USER}/.bashrc")
    sh(site, "printf 'UMASK 077\\nUSERGROUPS_ENAB no\\n' >>/etc/login.defs")
    sh(site, "pg_createcluster 17 aaa -p 5433 --start-conf manual >/dev/null")
    before = sh(site, "systemctl show postgresql@17-main --property=ActiveEnterTimestamp")
    try:
        output = site.play("site.yml")
        assert "changed=0" in output, output
        assert sh(site, "pg_lsclusters --no-header 17 aaa").split()[3] == "down"
        assert sh(site, "ls /etc/postgresql/17/aaa/conf.d") == ""
        assert sh(site, "systemctl show postgresql@17-main --property=ActiveEnterTimestamp") == before
        sh(site, "pg_conftool 17 main set port 5434")
        output = refused(site)
        assert "No PostgreSQL cluster has port 5432, which apps use. There are: 17 aaa (port 5433, down" in output
        assert "`pg_conftool 17 main set port 5432 && systemctl restart postgresql@17-main`" in output
    finally:
        sh(site, "pg_conftool 17 main set port 5432; pg_dropcluster 17 aaa")
        sh(site, f"mv /root/login.defs /etc; mv /root/.bashrc /home/{USER}/; chown {USER}: /home/{USER}/.bashrc")


def test_row_26_a_checkout_that_everybody_may_write_to_deploys_from_any_directory(site: Site, tmp_path: Path) -> None:
    """Ansible does not read its ansible.cfg then: nor where it is called from elsewhere, which is done here."""
    checkout = tmp_path / "slipway"
    listed = scratch.git(
        scratch.PROJECT, "ls-files", "-z", "*.yml", "*.py", "*.cfg", "*.j2", "*.sh", "roles", "slipway"
    )
    for name in filter(None, listed.split("\0")):
        if (scratch.PROJECT / name).is_file():
            (checkout / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(scratch.PROJECT / name, checkout / name)
    checkout.chmod(0o777)
    how = site._how()
    for directory, arguments in (
        (checkout, ["site.yml", "--check"]),
        (tmp_path, ["slipway/deploy.yml", "-e", "force=true"]),
    ):
        inventory = str(site.state / "inventory.yml")
        version = ["-e", f"version={site.live().tag}"] if "--check" not in arguments else []
        command = ["ansible-playbook", "-i", inventory, "-l", "local", *arguments, *version]
        environment = {**how["env"], "ANSIBLE_ROLES_PATH": "/nowhere", "ANSIBLE_STRATEGY": "free"}
        done = subprocess.run(command, **{**how, "cwd": directory, "env": environment}, check=False)
        assert done.returncode == 0, done.stdout[-3000:]
