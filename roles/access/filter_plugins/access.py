"""What the firewall lets through, as lines of nftables, and what is wrong with the settings of role `access`."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

PORTS = range(1, 65536)
LISTS = ("access_ssh_unlimited", "access_build_networks")  # of networks
# By number: a host need not have the list of their names (/etc/protocols).
WITHOUT_PORTS = {"ah": 51, "esp": 50, "gre": 47, "vrrp": 112}
INTERFACE = re.compile(r"(?=.{1,15}$)[A-Za-z0-9_.:@-]+\*?")
HTTPS = 443

# Programs of VPNs that are no part of the kernel.
VPN = re.compile(r"(?i)vpn|tailscale|tinc|nebula|zerotier|wireguard|boringtun|^wg")

SSHD = "/etc/ssh/sshd_config"
SSHD_NAMES = {"challengeresponseauthentication": "kbdinteractiveauthentication"}  # the old names of settings
SSHD_CLOSED = (
    *("passwordauthentication", "kbdinteractiveauthentication", "permitemptypasswords", "hostbasedauthentication"),
    *("permitrootlogin", "disableforwarding"),
)

# Of the names that ssh-audit has nothing to say about, the best first. Those after them are for older clients.
KEX = ("mlkem768x25519-sha256", "sntrup761x25519-sha512", "sntrup761x25519-sha512@openssh.com")
OLDER_KEX = ("curve25519-sha256", "curve25519-sha256@libssh.org", "diffie-hellman-group16-sha512")
HOST_KEYS = ("ssh-ed25519", "ssh-ed25519-cert-v01@openssh.com")
RSA_HOST_KEYS = (
    "rsa-sha2-512",
    "rsa-sha2-512-cert-v01@openssh.com",
    "rsa-sha2-256",
    "rsa-sha2-256-cert-v01@openssh.com",
)
RSA_BITS = 3072  # a shorter key is worth a warning

# The chain of the firewall for each kind of user.
KINDS = {"user": "apps", "build_user": "builds", "migrate_user": "nothing"}
SERVICES = ("postgres", "www-data")  # of the apps' own services, which have nothing to ask of the cloud


def faults(inputs: Mapping[str, Any]) -> list[str]:
    """What is wrong with the values of the role's inputs, a sentence each; `inputs` are by their names."""
    return [*_ports(inputs), *_networks(inputs), *_others(inputs)]


def _ports(inputs: Mapping[str, Any]) -> Iterator[str]:
    numbers = [(name, port) for name in ("access_ssh_ports", "access_web_ports") for port in inputs[name]]
    for opened in inputs["access_open_ports"]:
        protocol, port = _protocol(opened), opened.get("port")
        if protocol in WITHOUT_PORTS:
            if port is not None:
                yield f"access_open_ports has port {port} of {protocol}, which has no ports. Leave it out."
        elif port is None:
            yield f"access_open_ports has an entry of {protocol} without a port. Add one, such as port: 9100."
        else:
            numbers.append(("access_open_ports", port))
    for name, port in numbers:
        if port not in PORTS:
            yield f"{name} has {port}, but a port is a number from 1 to 65535."


def _networks(inputs: Mapping[str, Any]) -> Iterator[str]:
    listed = [(name, network) for name in LISTS for network in inputs[name]]
    for opened in inputs["access_open_ports"]:
        listed += [("access_open_ports", network) for network in opened.get("from") or []]
    for name, network in listed:
        if _network(network) is None:
            yield f"{name} has '{network}', which is no network: write it as 10.20.0.0/16 or 2001:db8::/32."


def _others(inputs: Mapping[str, Any]) -> Iterator[str]:
    for name in inputs["access_trusted_interfaces"]:
        if not INTERFACE.fullmatch(str(name)):
            yield (
                f"access_trusted_interfaces has '{name}', which is no name of an interface: write it as wg0, or as "
                "br-* for all that begin so."
            )
    if inputs["access_confirm_seconds"] < 20:
        yield (
            f"access_confirm_seconds is {inputs['access_confirm_seconds']}, but a new login needs its time: set it to "
            "20 or more."
        )


def _protocol(opened: Mapping[str, Any]) -> str:
    return str(opened.get("protocol") or "tcp")


def _network(text: Any) -> Network | None:
    try:
        return ipaddress.ip_network(str(text), strict=False)
    except ValueError:
        return None


def _family(network: Network) -> str:
    return "ip" if network.version == 4 else "ip6"


def _matches(direction: str, networks: Iterable[str]) -> Iterator[str]:
    """The expression that a packet comes from (`saddr`) or goes to (`daddr`) one of the networks; one a family."""
    known = [network for network in map(_network, networks) if network is not None]
    for version in (4, 6):
        ours = sorted({network for network in known if network.version == version}, key=str)
        if ours:
            collapsed = ", ".join(str(network) for network in ipaddress.collapse_addresses(ours))  # type: ignore[type-var]
            yield f"{_family(ours[0])} {direction} {{ {collapsed} }}"


def sources(opened: Mapping[str, Any]) -> list[str]:
    """The rules for one of `access_open_ports`."""
    protocol = _protocol(opened)
    number = WITHOUT_PORTS.get(protocol)
    port = f"meta l4proto {number} accept" if number else f"{protocol} dport {opened['port']} accept"
    networks = opened.get("from") or []
    return [f"{source} {port}" for source in _matches("saddr", networks)] if networks else [port]


def unlimited(networks: Sequence[str]) -> list[str]:
    """The rules for networks whose logins are not counted."""
    return [f"{source} accept" for source in _matches("saddr", networks)]


def reached(networks: Sequence[str]) -> list[str]:
    """The rules for networks that may be reached."""
    return [f"{destination} accept" for destination in _matches("daddr", networks)]


def database(destinations: Sequence[Mapping[str, Any]]) -> list[str]:
    """The rules for a database elsewhere: [{host, port}]. Of a name the addresses change: there the port counts."""
    rules = []
    for place in destinations:
        port = f"tcp dport {place['port']} accept"
        network = _network(place["host"])
        rules.append(port if network is None else f"{_family(network)} daddr {network.network_address} {port}")
    return list(dict.fromkeys(rules))


def places(apps: Sequence[Mapping[str, Any]]) -> list[str]:
    """The indexes and proxies of the apps' builds, as `host port`, for the host to resolve."""
    return sorted({f"{place['host']} {place['port']}" for app in apps for place in app["build_from"]})


def indexes(lines: Iterable[str]) -> list[str]:
    """The rules for the indexes and proxies of builds that are not on port 443 of a public address.

    They come from lines like `index 10.0.0.5 3128`: what the host has resolved.
    """
    rules = set()
    for line in lines:
        word, _, rest = line.partition(" ")
        address, _, port = rest.partition(" ")
        network = _network(address) if word == "index" else None
        if network is None or not port.isdigit() or (int(port) == HTTPS and network.is_global):
            continue
        rules.add(f"{_family(network)} daddr {network.network_address} tcp dport {port} accept")
    return sorted(rules)


def users(apps: Sequence[Mapping[str, Any]], lines: Iterable[str]) -> list[dict[str, str]]:
    """The users that the firewall knows: [{name, id, chain}]. Their numbers come from lines like `user logbook 997`."""
    numbers = dict(line.split()[1:3] for line in lines if line.startswith("user ") and len(line.split()) == 3)
    wanted = [(name, "apps") for name in SERVICES]
    for app in apps:
        for key, chain in KINDS.items():
            own = app["name"].replace("-", "_")
            if key == "migrate_user" and app["database"]:
                chain = f"database_{own}"  # the usual one is for those without
            if key == "user" and app.get("is_closed"):
                chain = f"loopback_{own}"
            wanted.append((app[key], chain))
    return [{"name": name, "id": numbers[name], "chain": chain} for name, chain in wanted if name in numbers]


def reserved(apps: Sequence[Mapping[str, Any]], lines: Iterable[str]) -> list[str]:
    """The rules for ports of the host that only root and the users of one app may reach: nobody asks for a password."""
    numbers = dict(line.split()[1:3] for line in lines if line.startswith("user ") and len(line.split()) == 3)
    rules = []
    for app in apps:
        ids = ["0", *(numbers[app[key]] for key in ("user", "migrate_user") if app[key] in numbers)]
        rules += [
            f'oifname "lo" tcp dport {port} meta skuid != {{ {", ".join(ids)} }} reject with icmpx admin-prohibited'
            for port in app.get("reserved") or []
        ]
    return rules


def key_exchanges(lines: Iterable[str], older_clients: bool) -> list[str]:
    """Those to offer, of the ones that this OpenSSH has: lines like `kex curve25519-sha256`."""
    known = [line.removeprefix("kex ") for line in lines if line.startswith("kex ")]
    return [name for name in (*KEX, *(OLDER_KEX if older_clients else ())) if name in known]


def host_keys(lines: Iterable[str]) -> list[str]:
    """Those to offer; RSA only with a key that is long enough: a line like `rsa 3072`."""
    bits = [int(line.split()[1]) for line in lines if line.startswith("rsa ") and line.split()[1].isdigit()]
    return [*HOST_KEYS, *(RSA_HOST_KEYS if bits and min(bits) >= RSA_BITS else ())]


def closed(lines: Iterable[str], open_tcp: Iterable[int], opened: Iterable[Mapping[str, Any]]) -> list[str]:
    """What listens for other machines and will not be reached any more, as `tcp 9100 (node_exporter)`.

    The lines are like `listens tcp 9100 node_exporter`; the last word is missing where nobody says whose port it is.
    """
    stays = {("tcp", port) for port in open_tcp}
    stays |= {(_protocol(entry), int(entry.get("port") or 0)) for entry in opened}
    found = []
    for line in lines:
        word, *rest = line.split()[:4] or [""]
        if word != "listens":
            continue
        protocol, port, *program = rest
        if (protocol, int(port)) not in stays:
            found.append((int(port), f"{protocol} {port}{f' ({program[0]})' if program else ''}"))
    return [text for _, text in sorted(set(found))]


def vpn_ports(lines: Iterable[str], opened: Iterable[Mapping[str, Any]]) -> list[str]:
    """The UDP ports by which the VPN of a line `vpn wg0` may come in, as `udp 51820`, if none of them is open.

    A tunnel of the kernel has no program; of the others, those count whose names tell.
    """
    said = [line.split() for line in lines]
    if not any(words[:1] == ["vpn"] for words in said):
        return []
    listening = [words[2:] for words in said if words[:2] == ["listens", "udp"]]
    ports = {int(port) for port, *program in listening if not program or VPN.search(program[0])}
    is_open = {entry.get("port") for entry in opened if _protocol(entry) == "udp"}
    return [] if ports & is_open else [f"udp {port}" for port in sorted(ports)]


Setting = tuple[str, str, str]  # its file, its name in lower case, its value


def _settings(lines: Iterable[str], place: str) -> Iterator[Setting]:
    """What files of sshd set: of lines like `set /etc/ssh/sshd_config Port 22`, or `match ...` in a block of Match."""
    for line in lines:
        found = re.match(rf"{place} (\S+)\s+(\w+)[\s=]+(.*)", line)
        if found:
            name = found[2].lower()
            yield found[1], SSHD_NAMES.get(name, name), re.sub(r"\s+#.*$", "", found[3]).strip().strip('"')


def _ours(text: str) -> dict[str, str]:
    """What our file sets, but for the one that `sshd -T` shows otherwise than it is written."""
    settings = {name: value for _, name, value in _settings((f"set - {line}" for line in text.splitlines()), "set")}
    return {name: value for name, value in settings.items() if name != "persourcepenalties"}


def _differs(name: str, value: str, ours: Mapping[str, str]) -> bool:
    return name in ours and ours[name].lower() != value.lower().replace("without-password", "prohibit-password")


def sshd_faults(lines: Sequence[str], text: str, path: str) -> list[str]:
    """What keeps the settings of `text`, the file `path`, from counting: of two, the one that is read first does."""
    return list(_sshd_faults(list(_settings(lines, "set")), _ours(text), path))


def _sshd_faults(settings: Sequence[Setting], ours: Mapping[str, str], path: str) -> Iterator[str]:
    directory, _, own = path.rpartition("/")
    ways_out = f"make 'Include {directory}/*.conf' its first line, or set access_sshd: false."
    main = [setting for setting in settings if setting[0] == SSHD]
    includes = [f"{directory}/*" in f"/etc/ssh/{value} {value}" for _, name, value in main if name == "include"]
    if not any(includes):
        yield f"{SSHD} does not include {directory}/*.conf, so Slipway's settings would not count: {ways_out}"
        return
    for file, name, value in main:
        if name == "include" and f"{directory}/*" in f"/etc/ssh/{value} {value}":
            break
        if _differs(name, value, ours):
            yield f"{file} sets {name} to '{value}' before it includes {directory}/*.conf: {ways_out}"
    for file, name, value in settings:
        if file.startswith(f"{directory}/") and file < path and _differs(name, value, ours):
            yield (
                f"{file} sets {name} to '{value}' and is read before {own}, so it counts: take that line out, or set "
                "access_sshd: false."
            )


def sshd_exceptions(lines: Iterable[str], text: str) -> list[str]:
    """What blocks of Match allow some logins, as `passwordauthentication yes (/etc/ssh/sshd_config)`."""
    ours = _ours(text)
    allowed = [
        f"{name} {value} ({file})"
        for file, name, value in _settings(lines, "match")
        if name in SSHD_CLOSED and _differs(name, value, ours)
    ]
    return list(dict.fromkeys(allowed))


class FilterModule:
    """Makes them known to Ansible."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {
            "access_closed": closed,
            "access_faults": faults,
            "access_vpn_ports": vpn_ports,
            "access_sshd_faults": sshd_faults,
            "access_sshd_exceptions": sshd_exceptions,
            "access_sources": sources,
            "access_unlimited": unlimited,
            "access_reached": reached,
            "access_database": database,
            "access_places": places,
            "access_indexes": indexes,
            "access_users": users,
            "access_reserved": reserved,
            "access_kex": key_exchanges,
            "access_host_keys": host_keys,
        }
