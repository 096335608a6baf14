"""`slipway run` from a real shell of root at a terminal: the command cannot type there."""

from __future__ import annotations

import pytest

from tests.engine.test_terminal import TYPES, console
from tests.faults.site import Site

# Root's shell: afterwards it reads what was typed meanwhile, as it would read its next command.
SHELL = """
slipway {command} {redirect}
IFS= read -r -t 1 typed
echo "TYPED:[$typed]"
tty
"""
REDIRECTIONS = ["", "</dev/null", "| cat", ">/dev/null", "</dev/null >/dev/null 2>&1"]


@pytest.mark.parametrize("redirect", REDIRECTIONS)
def test_a_command_of_the_app_types_nothing_into_the_shell_of_root(site: Site, redirect: str) -> None:
    site.host.exec("sh", "-c", "cat > /tmp/types.py; chmod 644 /tmp/types.py", stdin=TYPES)
    script = SHELL.format(command="run logbook -- /usr/bin/python3 /tmp/types.py", redirect=redirect)
    with console("docker", "exec", "--interactive", "--tty", site.host.name, "bash", "-c", script) as at:
        code, shown = at.end()
    assert code == 0, shown
    assert "TYPED:[]" in shown, shown
    assert site.sh("ls /tmp/pwned 2>/dev/null || true") == ""


def test_without_slipway_the_same_command_does(site: Site) -> None:
    """Or the test above sees nothing."""
    if site.sh("cat /proc/sys/dev/tty/legacy_tiocsti") == "0":
        pytest.skip("this kernel lets nobody type into a terminal")
    site.host.exec("sh", "-c", "cat > /tmp/types.py; chmod 644 /tmp/types.py", stdin=TYPES)
    direct = "setpriv --reuid=logbook --regid=logbook --init-groups /usr/bin/python3 /tmp/types.py"
    script = SHELL.replace("slipway {command} {redirect}", direct)
    with console("docker", "exec", "--interactive", "--tty", site.host.name, "bash", "-c", script) as at:
        assert "TYPED:[id" in at.end()[1]


def test_the_exit_code_and_the_size_are_those_that_the_command_sees(site: Site) -> None:
    script = "slipway run logbook -- sh -c 'stty size; exit 7'; echo code $?"
    with console("docker", "exec", "--interactive", "--tty", site.host.name, "bash", "-c", script) as at:
        shown = at.end()[1]
    assert "40 100" in shown, shown
    assert "code 7" in shown
