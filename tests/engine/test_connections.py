import contextlib
import socket
import tempfile
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


def test_failing_to_count_connections_does_not_count_as_none(programs: Programs) -> None:
    programs.answers["ss"] = (1, "", "Cannot open netlink socket")
    with pytest.raises(FailedError, match="ss does not list the sockets") as caught:
        connections.count(Path("/srv/logbook/slots/blue/http.sock"))
    assert caught.value.detail == "Cannot open netlink socket"


def test_count_agrees_with_real_connections(tmp_path: Path) -> None:
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


SESSIONS = """\
u_str ESTAB 0 0 /var/run/postgresql/.s.PGSQL.5432 58159 * 58158 users:(("postgres",pid=6157,fd=8))
u_str ESTAB 0 0                                 * 58158 * 58159 users:(("python",pid=11,fd=20))
u_str ESTAB 0 0 /var/run/postgresql/.s.PGSQL.5432 58172 * 56924 users:(("postgres",pid=6161,fd=8))
u_str ESTAB 0 0                                 * 56924 * 58172 users:(("python",pid=12,fd=21))
u_str ESTAB 0 0 /var/run/postgresql/.s.PGSQL.5432 58200 * 58201 users:(("postgres",pid=6170,fd=8))
u_str ESTAB 0 0                                 * 58201 * 58200 users:(("python",pid=99,fd=21))
u_str ESTAB 0 0       /run/systemd/journal/stdout 56826 * 56825 users:(("systemd-journal",pid=5356,fd=22))
u_str ESTAB 0 0                                 * 56825 * 56826 users:(("python",pid=11,fd=2))
tcp ESTAB      0 0 10.0.0.5:40000 10.0.0.9:5432 users:(("python",pid=12,fd=22))
tcp CLOSE-WAIT 0 0 10.0.0.5:40001 10.0.0.9:5432 users:(("python",pid=12,fd=23))
tcp ESTAB      0 0 10.0.0.5:40002 10.0.0.9:6379 users:(("python",pid=12,fd=24))
tcp ESTAB      0 0 [::1]:40003 [::1]:5432 users:(("python",pid=11,fd=25))
"""


def test_connections_to_postgresql_are_named_by_the_process_or_the_port_at_their_end() -> None:
    found = connections.parse_sessions(SESSIONS, {11, 12}, "5432")
    assert found == {"process 6157", "process 6161", "port 40000", "port 40003"}
    assert connections.parse_sessions(SESSIONS, {13}, "5432") == frozenset()


def test_a_name_with_a_line_of_ss_in_it_is_no_connection() -> None:
    with contextlib.ExitStack() as stack:
        # A short name: the whole line has to fit into the 108 bytes that a socket's name may have.
        path = Path(stack.enter_context(tempfile.TemporaryDirectory(dir="/tmp"))) / "http.sock"
        server, forged, other = (stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(3))
        server.bind(str(path))
        server.listen()
        forged.bind(f"\0\nu_str ESTAB 0 0 {path} 1 * 2")
        forged.listen()
        other.bind(f"\0\nu_str LISTEN boom 0 {path} 1 * 2")
        other.listen()
        assert connections.count(path) == connections.Connections(established=0, queued=0)


def test_what_ss_prints_otherwise_is_an_error(programs: Programs) -> None:
    programs.answers["ss"] = (0, "u_str LISTEN boom 0 /srv/x/http.sock 1 * 2", "")
    with pytest.raises(FailedError, match="ss does not list the sockets"):
        connections.count(Path("/srv/x/http.sock"))
