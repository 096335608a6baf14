"""The sandbox of an app's unit: what it forbids, the words (`needs`) that open it, and how a denial shows in a log.

Beside it stands that of the engine's own units, which are root's. This is the only place that knows systemd's
directives for them: the role `app` writes the units from here, the preflight knows the words from here,
docs/settings.md is made from here, and slot/denials.py finds in logs what the sandbox denied.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

# Without any word, and without a network. A directive with several lines has a list: systemd reads each line as one
# more step. {root} is the directory of {app} below {parent}, which the other apps share.
STRICT: Mapping[str, Sequence[str]] = {
    "NoNewPrivileges": ["yes"],
    "CapabilityBoundingSet": [""],
    "AmbientCapabilities": [""],
    "ProtectSystem": ["strict"],
    "ProtectHome": ["yes"],
    "PrivateTmp": ["yes"],
    "PrivateDevices": ["yes"],
    "PrivateUsers": ["yes"],
    "PrivateMounts": ["yes"],
    "ProtectClock": ["yes"],
    "ProtectHostname": ["yes"],
    "ProtectKernelLogs": ["yes"],
    "ProtectKernelModules": ["yes"],
    "ProtectKernelTunables": ["yes"],
    "ProtectControlGroups": ["yes"],
    "ProtectProc": ["invisible"],
    "ProcSubset": ["pid"],
    # Of what the apps share it has its own part: nothing of other apps, of the engine, and no logs.
    "TemporaryFileSystem": ["{parent}:ro", "/var/log:ro", "/etc/ssl/slipway:ro"],
    "BindReadOnlyPaths": ["{root}/releases {root}/slots -/etc/ssl/slipway/ca/ca.crt"],
    "InaccessiblePaths": ["-/run/slipway -/run/dbus -/etc/slipway -/var/lib/slipway -/var/cache/slipway -/var/backups"],
    # What it writes it cannot run. systemd takes directories that are written to out of that, unless they are named.
    "NoExecPaths": ["/ /var/lib/{app} -/run/{app}-%i"],
    "ExecPaths": ["/usr -/opt {root}/releases"],
    "PrivateIPC": ["yes"],
    "PrivateNetwork": ["yes"],
    "IPAddressDeny": ["any"],
    "IPAddressAllow": [""],
    "SocketBindDeny": ["any"],
    "RestrictAddressFamilies": ["AF_UNIX"],
    "RestrictNamespaces": ["yes"],
    "RestrictRealtime": ["yes"],
    "RestrictSUIDSGID": ["yes"],
    "LockPersonality": ["yes"],
    "MemoryDenyWriteExecute": ["yes"],
    "RemoveIPC": ["yes"],
    "KeyringMode": ["private"],
    "DevicePolicy": ["closed"],
    "SystemCallArchitectures": ["native"],
    "SystemCallFilter": ["@system-service", "~@privileged @resources"],
    "SystemCallErrorNumber": ["EPERM"],
}


# Of the units in which the engine itself runs: root that starts and stops slots, becomes other users, and looks at
# their processes and networks, but has no part in the kernel, in devices, or in what is installed.
ENGINE: Sequence[str] = (
    "NoNewPrivileges=yes",
    "CapabilityBoundingSet=CAP_CHOWN CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_FOWNER CAP_FSETID CAP_KILL CAP_SETGID "
    "CAP_SETUID CAP_SYS_ADMIN CAP_SYS_PTRACE CAP_SYS_RESOURCE",
    "ProtectSystem=full",
    "ProtectHome=read-only",
    "PrivateDevices=yes",
    "PrivateMounts=yes",
    "ProtectClock=yes",
    "ProtectHostname=yes",
    "ProtectKernelLogs=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelTunables=yes",
    "ProtectControlGroups=yes",
    "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK",
    "RestrictNamespaces=net",  # to look at the connections of a slot that has a network of its own
    "RestrictRealtime=yes",
    "RestrictSUIDSGID=yes",
    "LockPersonality=yes",
    "KeyringMode=private",
    "SystemCallArchitectures=native",
    "SystemCallFilter=@system-service",
    "SystemCallErrorNumber=EPERM",
)


@dataclass(frozen=True)
class Need:
    """A word of the setting `needs`.

    A log shows that the sandbox denied it either by an error that says so, or by a call of a traceback that ends with
    an error which says no more than that something is forbidden. Both are regular expressions.
    """

    allows: str  # what the app can do with it
    costs: str  # what is given up
    instead: Mapping[str, str] = field(default_factory=dict)  # directives that get another value, or none with ""
    besides: Mapping[str, str] = field(default_factory=dict)  # directives that get one more line
    errors: str = r"(?!)"
    calls: str = r"(?!)"


# All of IPv4 and IPv6 but neighbours on the link (IPv6), groups, broadcast, and what is reserved. Those of IPv4 are for
# the firewall: some clouds resolve names there.
_EVERYBODY = (
    "0.0.0.0/1 128.0.0.0/2 192.0.0.0/3 ::/1 8000::/2 c000::/3 e000::/4 f000::/5 f800::/6 fc00::/7 fe00::/9 fec0::/10"
)

# What the setting `network: outbound` changes.
OUTBOUND = Need(
    allows="Connections to other machines, and to services of the host that are no unix sockets.",
    costs="Whoever breaks in can send out what the app knows.",
    instead={
        "PrivateNetwork": "no",
        "RestrictAddressFamilies": "AF_UNIX AF_INET AF_INET6",
        "IPAddressAllow": _EVERYBODY,
    },
    errors=r"Temporary failure in name resolution|Name or service not known|Could not resolve host|EAI_AGAIN"
    r"|[Nn]etwork is unreachable",
    calls=r"\bsocket\(|create_connection|\.connect\(|sock_connect|create_server|\.bind\(|start_http_server",
)

# Where a service of the host is reached by its port; the firewall lets the app's user to that port alone.
LOOPBACK = Need(
    allows="Connections to the host's own PostgreSQL, MariaDB or Redis by TCP.",
    costs="Without the firewall, every port of the host that listens on 127.0.0.1.",
    instead={
        "PrivateNetwork": "no",
        "RestrictAddressFamilies": "AF_UNIX AF_INET AF_INET6",
        "IPAddressAllow": "localhost",
    },
)

NEEDS: Mapping[str, Need] = {
    "jit": Need(
        allows="Machine code that is made at run time: `numba`, `ffi.callback` of cffi, a JavaScript engine, Chromium.",
        costs="A fault in a C library can more easily be used to run an attacker's code.",
        instead={"MemoryDenyWriteExecute": "no"},
        errors=r"write\+execute memory|LLVM ERROR: .*(?:[Aa]llocat|memory)|SetPermissions"
        r"|(?i:executable memory.*(?:denied|not permitted|fail)|(?:fail|cannot|could not|unable).*executable memory)",
        calls=r"PROT_EXEC|ffi\.callback\(|CFUNCTYPE|\bn?jit\b|numba|llvmlite|mprotect",
    ),
    "psutil": Need(
        allows="The figures of the host and its processes: `psutil`, `os.getloadavg()`, `/proc/meminfo`, "
        "`/proc/cpuinfo`; and what `network_interfaces` allows.",
        costs="The app sees every process of the host, with its command line.",
        instead={"ProtectProc": "default", "ProcSubset": "all"},
        besides={"RestrictAddressFamilies": "AF_NETLINK"},
        errors=r"'/proc/(?!self\b|thread-self\b|\d)[^']*'|'/proc/1/|Load averages are unobtainable",
        calls=r"\bpsutil\.",
    ),
    "network_interfaces": Need(
        allows="The list of the host's network interfaces: `socket.if_nameindex()`, `getifaddrs`, zeroconf, `ip`.",
        costs="The app sees the addresses and routes of the host.",
        besides={"RestrictAddressFamilies": "AF_NETLINK", "IPAddressAllow": "multicast"},
        errors=r"netlink socket",
        calls=r"if_name(?:index|toindex)|if_indextoname|net_if_addrs|getifaddrs|AF_NETLINK|ifaddr",
    ),
    "listen": Need(
        allows="Ports of its own beside the socket that Nginx uses: `prometheus_client.start_http_server()`, a "
        "debugger, UDP. It has the network `outbound` with that. Others reach the port only if `access_open_ports` has "
        "it.",
        costs="Another program of the host can be taken in by what listens there.",
        instead={"SocketBindDeny": ""},
        errors=r"\[Errno 1\] error while attempting to bind",
        calls=r"\.bind\(|create_server|start_http_server|create_datagram_endpoint",
    ),
    "own_programs": Need(
        allows="Programs and libraries that it has written or downloaded itself, in its data directory or `/tmp`: "
        "extensions of PyTorch, the browsers of Playwright, `numba` with `cache=True`.",
        costs="Whoever can make the app write a file can run it.",
        instead={"NoExecPaths": "", "ExecPaths": ""},
        errors=r"failed to map segment from shared object|^(?:\S*sh: .*|\S*/\S+): Permission denied$"
        r"|Permission denied: '/(?:tmp|var/lib/[^/']+)/(?:[^']*/)?(?:s?bin/[^']+|chrome\S*|headless_shell|node)'",
    ),
    "priorities": Need(
        allows="Priority and processors of its own processes: `os.nice()`, `ionice`, `os.sched_setaffinity()`, NUMA.",
        costs="The app can arrange the use of the processors, also to the harm of other apps.",
        besides={"SystemCallFilter": "@resources"},
        errors=r"(?:nice|ionice|taskset|chrt|setpriority|sched_set\w+): .*not permitted|set_mempolicy",
        calls=r"\.nice\(|sched_set|priority|affinity|ionice|setrlimit|set_mempolicy",
    ),
    "devices": Need(
        allows="Devices: a GPU (`/dev/dri`, `/dev/nvidia*`), a serial port, a camera. The app's user has to be in the "
        "group of the device: `usermod --append --groups render NAME`.",
        costs="The app reaches every device that its user may open.",
        instead={"PrivateDevices": "no", "DevicePolicy": "auto"},
        errors=r"'/dev/(?!shm\b|null\b)[^']*'|no CUDA-capable device|Found no NVIDIA driver|could not open port /dev/",
    ),
    "namespaces": Need(
        allows="Sandboxes of the app's own: Chromium with its sandbox, `bwrap`, `unshare`.",
        costs="The app reaches parts of the kernel in which many security holes were found.",
        instead={"RestrictNamespaces": "no"},
        besides={"SystemCallFilter": "@mount chroot"},
        errors=r"unshare.*not permitted|No usable sandbox|Failed to move to new namespace|bwrap: ",
        calls=r"\bos\.(?:unshare|setns)\(",
    ),
    "suid_files": Need(
        allows="The bits setuid and setgid of files and directories: `os.chmod(path, 0o2775)`, archives with them.",
        costs="The app can leave a program that runs with its rights when another user starts it.",
        instead={"RestrictSUIDSGID": "no"},
        errors=r"chmod: .*not permitted",
        calls=r"chmod\(.*(?:0o?[2467]\d{3}|S_IS[UG]ID)|copymode|copystat",
    ),
    "chown": Need(
        allows="`os.chown()` to its own user, or to a group of its user.",
        costs="Hardly anything: its user can only be given other groups by root.",
        besides={"SystemCallFilter": "@chown"},
        errors=r"\b(?:chown|chgrp): .*not permitted",
        calls=r"\bl?f?chown\(",
    ),
    "debugger": Need(
        allows="`ptrace` inside of the app: py-spy, gdb, strace. From outside, as root, they work without this word.",
        costs="A process of the app can read and change the memory of the others.",
        instead={"LockPersonality": "no"},
        besides={"SystemCallFilter": "@debug personality"},
        errors=r"(?:ptrace|PTRACE\w*|personality).*not permitted",
        calls=r"\bptrace\b|py-spy|process_vm_readv",
    ),
    "writable_home": Need(
        allows="Files below `/home`, as far as its user may read or write them. HOME itself, the data directory, is "
        "writable without this word.",
        costs="The app can read what people leave open to everybody there.",
        instead={"ProtectHome": "no"},
        besides={"ReadWritePaths": "-/home"},
        errors=r"'/(?:home|root)[/']",
    ),
    "unconfined": Need(
        allows="All that its user may do: `sudo`, `sendmail`, `ping`, 32-bit programs.",
        costs="The whole sandbox. Use it only to find out which of the other words is needed, or where none of them is "
        "enough.",
        instead=dict.fromkeys(STRICT, ""),
        errors=r"effective uid is not 0|no new privileges|postdrop:|setuid: Operation not permitted",
    ),
}


def unknown(words: Iterable[str]) -> list[str]:
    """Those that are no words of `needs`."""
    return [word for word in words if word not in NEEDS]


def directives(
    words: Sequence[str], *, root: str, network: str = "none", writable_paths: Sequence[str] = ()
) -> list[str]:
    """The lines of the unit, as `Name=value`, for an app with these `needs`, its directory `root` and its `network`."""
    if "unconfined" in words:
        return []
    needs = {"outbound": [OUTBOUND], "loopback": [LOOPBACK]}.get(network, [])
    needs += [need for word, need in NEEDS.items() if word in words]  # in the order of the table
    lines = {name: list(values) for name, values in STRICT.items()}
    for need in needs:
        lines |= {name: [value] for name, value in need.instead.items()}
    for need in needs:
        for name, value in need.besides.items():
            lines[name] = [*(line for line in lines.get(name, []) if line not in (value, "")), value]
    places = {"root": root, "parent": str(PurePosixPath(root).parent), "app": PurePosixPath(root).name}
    said = [f"{name}={value.format_map(places)}" for name, values in lines.items() for value in values]
    return _opened(said, writable_paths)


def _opened(lines: Sequence[str], paths: Sequence[str]) -> list[str]:
    """The lines, and those for directories that the app may write to, also where they are below one that is hidden."""
    hidden = {line.removeprefix(_HIDES).partition(":")[0]: line for line in lines if line.startswith(_HIDES)}
    kept = [line for place, line in hidden.items() if not any(_is_below(place, path) for path in paths)]
    opened = [line for line in lines if line not in hidden.values() or line in kept]
    for path in paths:
        covered = any(_is_below(path, place) for place, line in hidden.items() if line in kept)
        opened.append(f"BindPaths={path}" if covered else f"ReadWritePaths={path}")
    if any(line.startswith("NoExecPaths=/") for line in lines):
        opened += [f"NoExecPaths={path}" for path in paths]
    return opened


_HIDES = "TemporaryFileSystem="


def _is_below(path: str, place: str) -> bool:
    """Whether a path is this place, or below it."""
    return PurePosixPath(path).is_relative_to(place)
