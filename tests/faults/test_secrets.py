"""A secret of the app is in the app's environment and nowhere else, however loud the run is."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.controller import SECRET

from .conftest import Steady
from .site import JOURNAL, Site


@contextmanager
def arguments_of_all_processes() -> Iterator[set[str]]:
    """What stands in the process lists of this machine and of the host (its processes are this machine's) meanwhile."""
    seen: set[str] = set()
    stop = threading.Event()

    def sample() -> None:
        while not stop.wait(0.05):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    seen.add(path.read_text(errors="replace"))
                except OSError:
                    continue

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join()


@pytest.mark.row(48, "logs", "a canary among the app's secrets, at -vvv --diff")
def test_a_secret_is_in_no_output_no_log_no_journal_and_no_argument(site: Site, steady: Steady) -> None:
    canary = f"canary-{secrets.token_hex(16)}"
    old, new = site.live(), site.version(migration="adds_a_table")
    output = ""
    with steady() as load, arguments_of_all_processes() as seen:
        with site.declared(env={"SECRET_KEY": SECRET, "CANARY": canary}):
            output += site.play("site.yml", "-vvv", "--diff")
            output += site.play("deploy.yml", *new.chosen, "-vvv", "--diff")
            output += site.play("rollback.yml", "-vvv", "--diff")
        running = site.sh("cat /srv/logbook/live/env")
        assert site.live() == old
        assert site.left_behind() == []
    assert canary in site.host.exec("cat", "/etc/logbook/env"), "or there was nothing to find"
    assert canary in running
    assert any("ansible-playbook" in item for item in seen)
    command = "slipway\0deploy\0"
    assert any(command in item and new.sha in item for item in seen), "the host's processes were not seen"
    assert any("alembic" in item for item in seen)
    assert "PLAY RECAP" in output
    places = {
        "output": output,
        "journald": site.host.exec("journalctl", "--no-pager", "--output=verbose"),
        "the engine's journal": site.host.exec("cat", JOURNAL),
        "arguments": "\n".join(seen),
    }
    assert [name for name, text in places.items() if canary in text] == []
    holders = site.sh(f"grep -rlsI {canary} /etc /srv /var /run /opt /usr/local /root /home || true").split()
    assert set(holders) <= {"/etc/logbook/env", "/srv/logbook/slots/blue/env", "/srv/logbook/slots/green/env"}
    assert load.failures == []
    assert load.releases == [old.sha, new.sha, old.sha]
