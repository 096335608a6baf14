"""Open connections from `ss`: those to a slot, and those of its processes to PostgreSQL."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from slipway.base import process
from slipway.base.errors import FailedError

_SERVER_SOCKET = re.compile(r".*/\.s\.PGSQL\.\d+")
_PROCESS = re.compile(r"pid=(\d+)")


@dataclass(frozen=True)
class Connections:
    """Connections on a slot's socket: accepted ones, and ones that wait to be accepted."""

    established: int
    queued: int

    @property
    def total(self) -> int:
        return self.established + self.queued


def parse(output: str, socket: Path) -> Connections:
    """Read `ss --unix --all --no-header src SOCKET`: Netid State Recv-Q Send-Q Local-Address:Port Peer-Address:Port.

    Recv-Q of a listening socket is its accept queue; a connection shows with the socket's address once it is
    accepted.
    """
    established = queued = 0
    for line in output.splitlines():
        columns = line.split()
        if len(columns) < 5 or columns[4] != str(socket):
            continue
        if columns[1] == "LISTEN":
            queued += int(columns[2])
        elif columns[1] == "ESTAB":
            established += 1
    return Connections(established=established, queued=queued)


def count(socket: Path) -> Connections:
    """The connections to a slot now; FailedError when `ss` fails, which must not count as no connections.

    Only those of this socket are listed: the name of another one may be any text, lines like these among it.
    """
    result = process.run(["ss", "--unix", "--all", "--no-header", "src", socket])
    try:
        if result.returncode == 0:
            return parse(result.stdout, socket)
    except ValueError:
        pass
    raise FailedError("ss does not list the sockets.", process.tail(result.stderr or result.stdout))


def parse_sessions(output: str, pids: Collection[int], port: str) -> frozenset[str]:
    """Read `ss --unix --tcp --processes --no-header`: the connections of processes to PostgreSQL.

    One over a unix socket is named by the number of the server's process at its other end, one over TCP (to `port`)
    by its own port, as PostgreSQL knows both.
    """
    servers: dict[str, str] = {}  # the process behind a unix socket of PostgreSQL, by the socket's inode
    peers: list[str] = []
    found: set[str] = set()
    for line in output.splitlines():
        columns = line.split()
        if len(columns) < 6 or columns[1] != "ESTAB":
            continue
        owners = {int(number) for number in _PROCESS.findall(line)}
        ours = bool(owners & set(pids))
        if columns[0] == "u_str" and len(columns) >= 8:
            if _SERVER_SOCKET.fullmatch(columns[4]):
                servers[columns[5]] = str(min(owners)) if owners else "?"
            elif ours:
                peers.append(columns[7])
        elif columns[0] == "tcp" and ours and columns[5].rpartition(":")[2] == port:
            found.add(f"port {columns[4].rpartition(':')[2]}")
    return frozenset(found | {f"process {servers[inode]}" for inode in peers if inode in servers})


def sessions(pids: Collection[int], port: str) -> frozenset[str]:
    """The connections of a slot's processes to PostgreSQL as they are now; FailedError when they cannot be asked for.

    Both ends of a connection belong to the network that it was begun in, and a slot may have one of its own.
    """
    inside = ["nsenter", f"--net=/proc/{min(pids)}/ns/net"] if pids else []
    result = process.run([*inside, "ss", "--unix", "--tcp", "--numeric", "--processes", "--no-header"])
    if result.returncode != 0:
        raise FailedError("ss does not list the connections.", process.tail(result.stderr))
    return parse_sessions(result.stdout, pids, port)
