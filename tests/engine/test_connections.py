import contextlib
import socket
from pathlib import Path

import pytest

from slipway.base.errors import FailedError
from slipway.slot import connections

from .fakes import Programs

# As printed by iproute2 6.1 and 6.15.
OUTPUT = """\
u_str LISTEN 2      4096   /srv/logbook/slots/blue/http.sock 22646            * 0
u_str ESTAB  0      0      /srv/logbook/slots/blue/http.sock 22650            * 22647
u_str ESTAB  0      0      /srv/logbook/slots/blue/http.sock 22651            * 22648
u_str ESTAB  0      0                                      * 22647            * 22650
u_str LISTEN 0      4096  /srv/logbook/slots/green/http.sock 22700            * 0
u_dgr UNCONN 0      0                       /run/systemd/notify 100           * 0
"""


def test_only_the_slots_own_connections_count() -> None:
    blue = connections.parse(OUTPUT, Path("/srv/logbook/slots/blue/http.sock"))
    assert blue == connections.Connections(established=2, queued=2)
    assert blue.total == 4
    assert connections.parse(OUTPUT, Path("/srv/logbook/slots/green/http.sock")).total == 0
    assert connections.parse("", Path("/srv/logbook/slots/blue/http.sock")).total == 0


def test_a_kernel_that_cannot_be_asked_does_not_read_as_nobody(programs: Programs) -> None:
    programs.answers["ss"] = (1, "", "Cannot open netlink socket")
    with pytest.raises(FailedError, match="ss does not list the sockets") as caught:
        connections.count(Path("/srv/logbook/slots/blue/http.sock"))
    assert caught.value.detail == "Cannot open netlink socket"


def test_agrees_with_real_connections(tmp_path: Path) -> None:
    path = tmp_path / "http.sock"
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.socket(socket.AF_UNIX))
        server.bind(str(path))
        server.listen(10)
        clients = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(3)]
        for client in clients:
            client.connect(str(path))
        accepted, _ = server.accept()
        stack.enter_context(accepted)
        assert connections.count(path) == connections.Connections(established=1, queued=2)
        accepted.close()
        clients[0].close()
        assert connections.count(path) == connections.Connections(established=0, queued=2)
