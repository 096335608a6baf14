"""Whom the host lets in, and whom its users reach: tried by real connections, from beside it and by its users."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

import pytest

from tests.attacks.neighbours import CLOUD, HOST, HOST6, PREFIX, PRIVATE, PUBLIC, PUBLIC6, Place, neighbours, reached
from tests.faults.site import Site

OUTSIDE = f"ip netns exec {PREFIX}"
OPEN = {22, 80, 443}
LISTENERS = (25, 111, 3306, 5000, 5432, 6379, 8000, 8080, 9090, 9100)  # what software of others opens to everybody
UNPRIVILEGED = ("logbook", "logbook_build", "logbook_migrate", "postgres", "www-data")


@pytest.fixture(scope="module")
def network(provisioned: Site) -> Iterator[Site]:
    with neighbours(provisioned):
        yield provisioned


def clouds(*ports: int, kinds: tuple[str, ...] = ("tcp", "udp")) -> list[Place]:
    return [(address, port, kind) for address in CLOUD for port in ports for kind in kinds]


# In


@pytest.fixture
def listeners(network: Site) -> Iterator[Site]:
    script = (
        "import socket, time\n"
        "kept = []\n"
        f"for port in {LISTENERS}:\n"
        "    for family, where in ((socket.AF_INET, '0.0.0.0'), (socket.AF_INET6, '::')):\n"
        "        server = socket.socket(family)\n"
        "        family == socket.AF_INET6 and server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)\n"
        "        server.bind((where, port)); server.listen(); kept.append(server)\n"
        "time.sleep(600)\n"
    )
    network.host.exec("sh", "-c", "cat > /opt/listeners.py", stdin=script)
    network.sh(
        "systemd-run --quiet --collect --unit=listeners python3 /opt/listeners.py; "
        f"until ss -Hltn | grep -q ':{LISTENERS[-1]} '; do sleep 0.05; done"
    )
    try:
        yield network
    finally:
        network.sh("systemctl stop listeners; rm /opt/listeners.py")


def scan(site: Site, address: str) -> set[int]:
    """The ports that a machine beside the host finds open, of the first 1100 and those of the listeners."""
    places: list[Place] = [(address, port, "open") for port in (*range(1, 1101), *LISTENERS)]
    return {port for _, port, _ in reached(site, places, inside=OUTSIDE)}


@pytest.mark.parametrize("address", [HOST, HOST6])
def test_a_machine_beside_the_host_finds_ssh_and_the_web_and_nothing_else(listeners: Site, address: str) -> None:
    assert scan(listeners, address) == OPEN - ({80, 443} if ":" in address and not serves_ipv6(listeners) else set())
    listeners.sh("nft delete table inet slipway")
    try:  # without the firewall they are there
        assert set(LISTENERS) <= scan(listeners, address)
    finally:
        listeners.sh("slipway-access boot")


def serves_ipv6(site: Site) -> bool:
    return "[::]:443" in site.sh("ss -Hltn")


def test_a_machine_beside_the_host_may_not_log_in_endlessly(network: Site) -> None:
    places: list[Place] = [(HOST, 22, "open")] * 80
    first = len(reached(network, places, inside=OUTSIDE))
    assert 25 <= first <= 45, f"{first} of 80 connections within a few seconds"
    assert reached(network, [(HOST, 443, "open")], inside=OUTSIDE), "only SSH is counted"
    assert network.host.exec("true") == ""
    network.sh("nft flush set inet slipway logins")


def test_rules_of_others_are_left_alone_and_a_flush_of_all_brings_ours_back(network: Site) -> None:
    network.sh("nft add table ip others && nft add chain ip others kept '{ type filter hook input priority 10; }'")
    try:
        network.sh("slipway-access boot")
        assert "table ip others" in network.sh("nft list tables")
        # Debian's own service begins with `flush ruleset`.
        network.sh("systemctl start nftables")
        network.sh("systemctl reload nftables")
        assert "table inet slipway" in network.sh("nft list tables")
        network.sh("systemctl restart nftables")
        assert "policy drop" in network.sh("nft list chain inet slipway input")
        network.sh("systemctl stop nftables")
        assert "policy drop" in network.sh("nft list chain inet slipway input")
        assert not network.status()["upkeep"]["firewall_lost"]
        network.sh("nft flush ruleset")  # by hand
        assert network.status()["upkeep"]["firewall_lost"]
    finally:
        network.sh("systemctl stop nftables; nft delete table ip others 2>/dev/null; slipway-access boot")


# Out


def test_root_reaches_what_is_forbidden_to_others(network: Site) -> None:
    """Otherwise the tests below would pass without a firewall."""
    places = [*clouds(80), (PRIVATE, 443, "tcp"), (PUBLIC, 8443, "tcp"), (PUBLIC6, 443, "tcp")]
    assert reached(network, places) == places


@pytest.mark.parametrize("user", UNPRIVILEGED)
def test_no_user_of_an_app_reaches_the_cloud(network: Site, user: str) -> None:
    places = clouds(22, 80, 443, 5432, 8443)
    mapped: list[Place] = [("::ffff:169.254.169.254", 80, "tcp"), ("64:ff9b::a9fe:a9fe", 80, "tcp")]
    assert reached(network, places + mapped, user) == []  # tries: 52


def test_names_are_resolved_also_where_a_cloud_does_that(network: Site) -> None:
    for user in ("logbook", "logbook_build"):
        assert len(reached(network, clouds(53), user)) == len(clouds(53))


def test_an_app_reaches_other_machines(network: Site) -> None:
    places: list[Place] = [(PRIVATE, 5432, "tcp"), (PUBLIC, 8443, "tcp"), (PUBLIC6, 443, "tcp"), (PUBLIC, 443, "udp")]
    assert reached(network, places, "logbook") == places


def test_a_build_reaches_the_index_and_nothing_else(network: Site) -> None:
    allowed: list[Place] = [(PUBLIC, 443, "tcp"), (PUBLIC6, 443, "tcp")]
    denied = [(PUBLIC, port, kind) for port in (22, 80, 5432, 8443) for kind in ("tcp", "udp")]
    denied += [(PUBLIC, 443, "udp"), (PRIVATE, 443, "tcp"), ("127.0.0.1", 443, "open"), ("127.0.0.1", 22, "open")]
    assert reached(network, allowed + denied, "logbook_build") == allowed


def test_a_migration_reaches_its_database_over_the_socket_and_nothing_else(network: Site) -> None:
    places = [
        (address, port, kind)
        for address in (PUBLIC, PRIVATE, "127.0.0.1")
        for port in (53, 443, 5432)
        for kind in ("tcp", "udp")
    ]
    places += [("127.0.0.1", 443, "open"), ("127.0.0.1", 80, "open"), (PUBLIC6, 443, "tcp")]
    assert reached(network, places, "logbook_migrate") == []
    assert network.sh("runuser -u logbook_migrate -- psql -d logbook -tAc 'SELECT 1'") == "1"


@pytest.mark.parametrize(
    "way",
    [
        "unshare --user --map-root-user --net sh -c 'ip link set lo up; {try}'",
        "unshare --user --map-root-user sh -c '{try}'",
        "setsid {try}",
        "systemd-run --quiet --wait --pipe {try}",
        "systemd-run --quiet --user --wait --pipe {try}",
        "sudo --non-interactive {try}",
        "su -c '{try}'",
        "nft flush ruleset; {try}",
        "ip rule add pref 1 table main; {try}",
        "ping -c1 -W1 169.254.169.254",
    ],
)
def test_no_way_around_is_open_to_a_user(network: Site, way: str) -> None:
    fetch = f"import socket; print(socket.create_connection(('{CLOUD[0]}', 80), 1).recv(9))"
    network.host.exec("sh", "-c", "cat > /opt/fetch.py", stdin=fetch)
    script = way.replace("{try}", "python3 /opt/fetch.py")
    said = network.sh(f"runuser -u logbook_build -- sh -c {shlex.quote(script)} 2>&1 </dev/null; true")
    assert "reached" not in said
    assert " 0% packet loss" not in said
    assert "policy drop" in network.sh("nft list chain inet slipway input")
