"""A change of SSH or the firewall that locks the controller out goes back by itself; the host is never lost."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hosts.container_runtime import HostError
from tests.controller import flat
from tests.faults.site import Site, wait_for

WANTED = "/var/lib/slipway/access/wanted"
BEFORE = "/var/lib/slipway/access/before"
FILES = "/etc/slipway/firewall.nft /etc/ssh/sshd_config.d/00-slipway.conf"
CLOSED = """\
table inet slipway
delete table inet slipway
table inet slipway {
  chain input {
    type filter hook input priority 0; policy drop;
    iifname lo accept
  }
  chain output {
    type filter hook output priority 0; policy accept;
  }
}
"""


def ssh(site: Site, command: str, *options: str) -> list[str]:
    """The command of a login of the controller over SSH, a new one unless the options say otherwise."""
    known = [
        f"UserKnownHostsFile={site.state / 'known_hosts'}",
        "ControlPath=none",
        "BatchMode=yes",
        "ConnectTimeout=2",
    ]
    key = ["-i", str(site.state / "key"), "-p", str(site.port(22))]
    # The first of two options counts.
    return ["ssh", *options, *key, *(f"-o{option}" for option in known), "ops@127.0.0.1", command]


def login(site: Site, command: str = "true", *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(ssh(site, command, *options), capture_output=True, text=True, check=False)


def may_log_in(site: Site) -> bool:
    return login(site).returncode == 0


def in_force(site: Site) -> str:
    """Digests of what is in force, as files and in the kernel and in sshd."""
    return site.sh(f"sha256sum {FILES}; nft list chain inet slipway input; sshd -T | sha256sum")


@pytest.fixture
def guarded(site: Site) -> Iterator[Site]:
    """The host; whatever the test has done, it is as it was afterwards."""
    before = in_force(site)
    yield site
    site.sh("slipway-access back; nft flush set inet slipway logins 2>/dev/null; true")
    assert in_force(site) == before


def wanted(site: Site, firewall: str = "", sshd: str = "") -> None:
    """What the next `try` brings into force: the files as they are, or these."""
    site.sh(f"install -d -m 700 {WANTED} && cp -p {FILES} {WANTED}/")
    if firewall:
        site.write(f"{WANTED}/firewall.nft", firewall)
    if sshd:
        site.sh(f"echo '{sshd}' >> {WANTED}/00-slipway.conf")


@pytest.mark.parametrize(
    "change",
    [
        {"firewall": CLOSED},
        {"sshd": "AllowUsers nobody"},
        {"sshd": "PubkeyAuthentication no\\nAuthenticationMethods none"},
        {"sshd": "AuthorizedKeysFile /nowhere"},
    ],
    ids=["firewall", "users", "methods", "keys"],
)
def test_a_change_that_locks_out_goes_back_by_itself(guarded: Site, change: dict[str, str]) -> None:
    before = in_force(guarded)
    wanted(guarded, **change)
    if "PubkeyAuthentication" in change.get("sshd", ""):  # the first one counts
        guarded.sh(f"sed -i '/^PubkeyAuthentication yes/d' {WANTED}/00-slipway.conf")
    guarded.sh("slipway-access try 20")
    assert not may_log_in(guarded)
    # Not more often: the firewall drops what begins more than 30 logins a minute.
    seconds = wait_for(lambda: may_log_in(guarded), 40, 2)
    assert seconds < 30
    assert in_force(guarded) == before


def test_a_change_that_nobody_confirms_goes_back_although_it_is_harmless(guarded: Site) -> None:
    """As when the controller is killed between the change and its confirmation."""
    before = in_force(guarded)
    wanted(guarded, sshd="Banner /etc/issue.net")
    guarded.sh("slipway-access try 20")
    assert in_force(guarded) != before
    wait_for(lambda: in_force(guarded) == before, 40, 0.5)


def test_only_a_login_that_is_newer_than_the_change_confirms_it(guarded: Site, tmp_path: Path) -> None:
    socket = tmp_path / "old"
    master = ssh(guarded, "true", "-oControlMaster=yes", f"-oControlPath={socket}", "-oControlPersist=60")
    subprocess.run(master, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)  # it stays
    wanted(guarded, sshd="Banner /etc/issue.net")
    guarded.sh("slipway-access try 30")
    with pytest.raises(HostError):
        guarded.sh("slipway-access confirm")  # from the host itself
    old = login(guarded, "sudo slipway-access confirm", f"-oControlPath={socket}")
    assert (old.returncode, old.stderr.splitlines()[-1]) == (1, "This login is older than the change.")
    wait_for(lambda: login(guarded, "sudo slipway-access confirm").returncode == 0, 15, 2)
    assert (
        guarded.sh(f"test -e {BEFORE} && echo there || systemctl is-active slipway-access-back.timer || true")
        == "inactive"
    )
    late = login(guarded, "sudo slipway-access confirm")
    assert late.stderr.splitlines()[-1] == "There is no change to confirm: it has gone back already."
    wanted(guarded)
    guarded.sh(f"sed -i /Banner/d {WANTED}/00-slipway.conf; slipway-access try 30")
    # At the moment that sshd reads its settings it lets nobody in: the playbook tries again as well.
    wait_for(lambda: login(guarded, "sudo slipway-access confirm").returncode == 0, 15, 2)


def test_a_reboot_before_the_confirmation_goes_back_as_well(guarded: Site) -> None:
    before = in_force(guarded)
    wanted(guarded, firewall=CLOSED)
    guarded.sh("slipway-access try 600")
    assert not may_log_in(guarded)
    guarded.host.reboot()
    guarded.host.wait_until_booted()
    wait_for(lambda: may_log_in(guarded), 20, 0.5)
    assert in_force(guarded) == before
    guarded.wait_until_ready(60)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"firewall": "table inet slipway { nonsense }"}, "nft refuses the rules of the firewall."),
        ({"sshd": "Nonsense yes"}, "The new settings of SSH and firewall were taken back."),
        ({"sshd": "KexAlgorithms nonsense"}, "The new settings of SSH and firewall were taken back."),
    ],
)
def test_what_nft_or_sshd_refuses_never_comes_into_force(guarded: Site, change: dict[str, str], sentence: str) -> None:
    before = in_force(guarded)
    wanted(guarded, **change)
    said = guarded.sh("slipway-access try 20 2>&1 || true")
    assert said.splitlines()[-1] == sentence
    assert in_force(guarded) == before
    assert may_log_in(guarded)


def test_a_setting_that_another_file_sets_before_ours_is_named(guarded: Site) -> None:
    guarded.sh("echo 'PasswordAuthentication yes' > /etc/ssh/sshd_config.d/00-a.conf")
    try:
        wanted(guarded)
        said = guarded.sh("slipway-access try 20 2>&1 || true")
    finally:
        guarded.sh("rm /etc/ssh/sshd_config.d/00-a.conf")
    assert "PasswordAuthentication of /etc/ssh/sshd_config.d/00-slipway.conf is not what counts" in said
    assert "Another file sets it before ours" in said


# With the playbook


@pytest.mark.long
def test_site_yml_says_that_it_would_have_locked_itself_out_and_the_host_went_back(guarded: Site) -> None:
    """A controller whose SSH is too old for the key exchanges that are offered: only its old connection goes on."""
    older = f"-o UserKnownHostsFile={guarded.state / 'known_hosts'} -o KexAlgorithms=curve25519-sha256"
    as_old = {"ansible_ssh_common_args": older, "access_confirm_seconds": 20}
    guarded.declare(settings={"access_sshd": False})
    guarded.play("site.yml")
    try:
        guarded.declare(settings=as_old)
        output = flat(guarded.play("site.yml", check=False))
        assert "would have locked this controller out of" in output
        assert "The host has gone back to what it had, and this controller can log in." in output
        assert login(guarded, "true", "-oKexAlgorithms=curve25519-sha256").returncode == 0
    finally:
        guarded.declare()
        guarded.play("site.yml")
    assert login(guarded, "true", "-oKexAlgorithms=curve25519-sha256").returncode != 0


@pytest.mark.long
def test_a_controller_that_is_killed_before_it_confirms_leaves_what_was_there(guarded: Site) -> None:
    before = in_force(guarded)
    guarded.declare(settings={"access_ssh_forwarding": True, "access_confirm_seconds": 20})
    try:
        run = guarded.run("site.yml")
        guarded.wait_there(f"test -e {BEFORE}", 240)
        run.kill()
    finally:
        guarded.declare()
    wait_for(lambda: in_force(guarded) == before, 60, 0.5)


@pytest.mark.long
def test_a_login_without_a_key_is_refused_before_anything_is_changed(guarded: Site) -> None:
    """Somebody who logs in with a password: here, whose key sshd would no longer find."""
    keys = "/home/ops/.ssh/authorized_keys"
    guarded.sh(f"cp -p {keys} /opt/keys")
    run = guarded.run("site.yml", "-e", "access_ssh_forwarding=true")
    try:
        run.until("Look at the host, and wait for whoever installs packages")
        guarded.sh(f": > {keys}")
        run.end()
    finally:
        guarded.sh(f"cp -p /opt/keys {keys}; rm /opt/keys")
    output = flat(run.output)
    assert "site.yml turns logins with a password off, and 'ops', who has logged in to" in output
    assert "ssh-copy-id ops@127.0.0.1" in output
    assert "changed=0" in output


# What sshd says


def test_a_password_a_tunnel_and_a_weak_algorithm_open_nothing(site: Site) -> None:
    """Tries: 9."""
    for option in (
        "PreferredAuthentications=password",
        "PreferredAuthentications=keyboard-interactive",
        "PreferredAuthentications=hostbased,gssapi-with-mic,none",
        "KexAlgorithms=diffie-hellman-group14-sha256",
        "KexAlgorithms=curve25519-sha256",
        "Ciphers=chacha20-poly1305@openssh.com",
        "MACs=hmac-sha2-256",
        "HostKeyAlgorithms=ecdsa-sha2-nistp256",
    ):
        with_mac = "Ciphers=aes256-ctr" if option.startswith("MACs") else "LogLevel=ERROR"  # GCM needs no MAC
        assert login(site, "true", f"-o{option}", f"-o{with_mac}").returncode == 255, option
    tunnel = login(site, "", "-W127.0.0.1:443")
    assert "administratively prohibited" in tunnel.stderr or tunnel.returncode == 255
    assert may_log_in(site)


def test_root_logs_in_with_no_password_and_this_host_not_at_all(site: Site) -> None:
    effective = site.sh("sshd -T")
    assert {"passwordauthentication no", "kbdinteractiveauthentication no", "permitrootlogin no", "maxauthtries 3",
            "disableforwarding yes"} <= set(effective.splitlines())  # fmt: skip
