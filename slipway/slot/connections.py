"""Who still talks to a slot: the queue of its listening socket and its established connections, from `ss`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from slipway.base import process
from slipway.base.errors import FailedError


@dataclass(frozen=True)
class Connections:
    """Connections on a slot's socket: accepted ones, and ones that wait to be accepted."""

    established: int
    queued: int

    @property
    def total(self) -> int:
        return self.established + self.queued


def parse(output: str, socket: Path) -> Connections:
    """Read `ss --unix --all --no-header`: Netid State Recv-Q Send-Q Local-Address:Port Peer-Address:Port.

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
    """Who talks to a slot now; FailedError when the kernel cannot be asked, which must not read as "nobody"."""
    result = process.run(["ss", "--unix", "--all", "--no-header"])
    if result.returncode != 0:
        raise FailedError("ss does not list the sockets.", process.tail(result.stderr))
    return parse(result.stdout, socket)
