"""Other machines of the test host, in a network of their own inside of it: an attacker, a cloud, and an index."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator

from tests.faults.site import Site

PREFIX = "neighbour"
ATTACKER, ATTACKER6 = "198.18.99.2", "fd18:99::2"
HOST, HOST6 = "198.18.99.1", "fd18:99::1"
# A cloud's addresses, a private network's, and public ones (they are documentation's, so nobody's).
CLOUD = ("169.254.169.254", "168.63.129.16", "100.100.100.200", "fd00:ec2::254", "fe80::a9fe:a9fe")
PRIVATE = "10.99.0.2"
PUBLIC, PUBLIC6 = "203.0.113.99", "2001:db8:99::2"
PORTS = (22, 53, 80, 443, 5432, 8443)

_SERVER = """
import socket, threading
def serve(family, kind, port, address):
    server = socket.socket(family, kind)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    on_link = (0, socket.if_nametoindex("neighbour1")) if address.startswith("fe80") else ()
    server.bind((address, port, *on_link))
    if kind == socket.SOCK_STREAM:
        server.listen(64)
    while True:
        if kind == socket.SOCK_STREAM:
            server.accept()[0].sendall(b"reached")
        else:
            server.sendto(b"reached", server.recvfrom(64)[1])
for port in PORTS:
    for family in (socket.AF_INET, socket.AF_INET6):
        threading.Thread(target=serve, args=(family, socket.SOCK_STREAM, port, "")).start()
    for address in ADDRESSES:  # an answer has to come from the address that was asked
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        threading.Thread(target=serve, args=(family, socket.SOCK_DGRAM, port, address)).start()
"""

# Each place is tried at once; what it prints is a list of those that have answered.
_TRY = """
import concurrent.futures, json, socket, sys
def reached(place):
    address, port, kind = place
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM) as client:
            client.settimeout(1.5)
            on_link = (0, socket.if_nametoindex("neighbour0")) if address.startswith("fe80") else ()
            client.connect((address, port, *on_link))
            if kind == "udp":
                client.send(b"?")
            return kind == "open" or bool(client.recv(16))
    except OSError:
        return False
places = json.load(sys.stdin)
with concurrent.futures.ThreadPoolExecutor(64) as pool:
    print(json.dumps([place for place, was in zip(places, pool.map(reached, places)) if was]))
"""

Place = tuple[str, int, str]


@contextlib.contextmanager
def neighbours(site: Site) -> Iterator[None]:
    """The other machines, which answer `reached` at each of PORTS, over TCP and UDP."""
    addresses = [f"{ATTACKER}/24", f"{PRIVATE}/24", f"{PUBLIC}/24", *(f"{a}/32" for a in CLOUD if ":" not in a)]
    addresses6 = [f"{ATTACKER6}/64", f"{PUBLIC6}/64", *(f"{a}/64" for a in CLOUD if ":" in a)]
    routes = [*(f"{a}/32" for a in CLOUD if ":" not in a), f"{PRIVATE}/32", f"{PUBLIC}/32"]
    routes6 = [f"{PUBLIC6}/128", "fd00:ec2::254/128"]
    inside = f"ip netns exec {PREFIX}"
    served = (ATTACKER, ATTACKER6, PRIVATE, PUBLIC, PUBLIC6, *CLOUD)
    site.host.exec("sh", "-c", f"cat > /opt/{PREFIX}.py", stdin=f"PORTS, ADDRESSES = {PORTS}, {served}\n{_SERVER}")
    site.host.exec("sh", "-c", f"cat > /opt/{PREFIX}_try.py", stdin=_TRY)
    site.sh(
        # A container may be without IPv6, and may not say otherwise at first.
        f"""mount -o remount,bind,rw /proc/sys
        ip netns add {PREFIX} && ip link add {PREFIX}0 type veth peer name {PREFIX}1 netns {PREFIX}
        sysctl -qw net.ipv6.conf.all.disable_ipv6=0; {inside} sysctl -qw net.ipv6.conf.all.disable_ipv6=0
        ip address add {HOST}/24 dev {PREFIX}0; ip -6 address add {HOST6}/64 dev {PREFIX}0 nodad
        ip link set {PREFIX}0 up
        {inside} ip link set lo up; {inside} ip link set {PREFIX}1 up
        for address in {" ".join(addresses)}; do {inside} ip address add $address dev {PREFIX}1; done
        for address in {" ".join(addresses6)}; do {inside} ip -6 address add $address dev {PREFIX}1 nodad; done
        for route in {" ".join(routes)}; do ip route add $route via {ATTACKER}; done
        for route in {" ".join(routes6)}; do ip -6 route add $route via {ATTACKER6}; done
        mount -o remount,bind,ro /proc/sys
        systemd-run --quiet --collect --unit={PREFIX} {inside} python3 /opt/{PREFIX}.py
        for attempt in $(seq 100); do
          {inside} bash -c ': </dev/tcp/{ATTACKER}/8443' 2>/dev/null && break; done"""
    )
    try:
        yield
    finally:
        site.sh(f"systemctl stop {PREFIX}; ip link delete {PREFIX}0; ip netns delete {PREFIX}; rm -f /opt/{PREFIX}*.py")


def reached(site: Site, places: list[Place], user: str = "root", inside: str = "") -> list[Place]:
    """Those of the places, (address, port, kind), that a user reaches; kind `open` is a port of TCP, silent or not."""
    command = f"{inside} runuser -u {user} -- python3 /opt/{PREFIX}_try.py"
    answer = json.loads(site.host.exec("sh", "-c", command, stdin=json.dumps(places)))
    return [(address, port, kind) for address, port, kind in answer]
