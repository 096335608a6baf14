"""A project that means harm is built: it can do nothing but its own release, and what it leaves behind is gone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from textwrap import indent

import pytest

from tests.faults.site import APP, Site

VARIANTS = Path(__file__).parent / "variants"
PROJECT = (APP / "pyproject.toml").read_text().partition("[tool.uv]")[0]
BACKEND = '[build-system]\nrequires = []\nbuild-backend = "hostile_build"\nbackend-path = ["."]\n'
LOCK = (APP / "uv.lock").read_text().replace('source = { virtual = "." }', 'source = { editable = "." }')


# Put at the end of the backend: lines that run when everything else of the build is done.
MORE = """
_build = build_wheel


def build_wheel(*arguments):
    name = _build(*arguments)
{more}
    return name
"""


def hostile(more: str = "") -> dict[str, str | None]:
    """The files of a project whose build runs variants/hostile_build.py, and these lines of Python after it."""
    backend = (VARIANTS / "hostile_build.py").read_text() + (MORE.format(more=indent(more, "    ")) if more else "")
    return {"pyproject.toml": PROJECT + BACKEND, "uv.lock": LOCK, "hostile_build.py": backend}


def processes(site: Site, user: str) -> str:
    return site.sh(f"pgrep -a -u {user}; true").strip()


@pytest.fixture
def others(site: Site) -> Iterator[Site]:
    """The host with another app's directory, and what the attacks must not touch remembered."""
    site.sh("install -d /srv/other/releases/v1; echo secret > /srv/other/releases/v1/main.py")
    before = fingerprint(site)
    yield site
    assert fingerprint(site) == before
    site.sh("rm -rf /srv/other")


def fingerprint(site: Site) -> str:
    """Of the programs and settings of the host, and of the release that was there first."""
    first = site.good[0].release
    return site.sh(
        f"find /usr/local /etc/systemd/system /srv/other /srv/logbook/repo.git/config /srv/logbook/releases/{first} "
        "/root /tmp /dev/shm /var/spool/cron -type f ! -user postgres ! -path '*/.ansible*' ! -path '/tmp/ansible*' "
        "-exec sha256sum {} + | sort"
    )


def test_a_hostile_build_can_change_its_own_release_and_nothing_else(others: Site) -> None:
    version = others.version(files=hostile())
    others.deploy(version)
    release = f"/srv/logbook/releases/{version.release}"
    ways = json.loads(others.host.exec("cat", f"{release}/ways.json"))
    assert ways["could"] == []
    assert ways["tried"] > 30
    assert processes(others, "logbook_build") == ""
    done, won = map(int, others.host.exec("cat", f"{release}/tries").split())
    assert done > 100
    assert won == 0
    written = others.host.exec("sha256sum", f"{release}/left_behind.py")
    assert others.sh(f"sleep 0.3; sha256sum {release}/left_behind.py") == written


OUT = "a link that leads out of it"
DEEP = "here = os.getcwd()\nfor _ in range(3000):\n    os.mkdir('d'); os.chdir('d')\nos.chdir(here)"
BAD = {
    "a pipe": ("os.mkfifo('.manifest.json')", "has .manifest.json, which is neither a file, a directory nor a link"),
    "a pipe in the packages": ("os.mkfifo('.venv/lib/pipe')", "has .venv/lib/pipe, which is neither"),
    "a socket": ("socket.socket(socket.AF_UNIX).bind('app/socket')", "has app/socket, which is neither"),
    "a link to a secret": ("os.symlink('/etc/shadow', 'secret')", f"{OUT} (secret -> /etc/shadow)"),
    "a link in the place of alembic.ini": (
        "os.unlink('alembic.ini'); os.symlink('/root/.profile', 'alembic.ini')",
        f"{OUT} (alembic.ini -> /root/.profile)",
    ),
    "a link in the place of the lock file": (
        "os.unlink('uv.lock'); os.symlink('/etc/shadow', 'uv.lock')", f"{OUT} (uv.lock -> /etc/shadow)"
    ),
    "links that lead out together": (
        "os.symlink('..', 'app/up'); os.symlink('up/../../..', 'app/out')", f"{OUT} (app/out"
    ),
    "directories without end": (DEEP, "directories more than 100 deep"),
}  # fmt: skip


@pytest.mark.parametrize(("more", "said"), BAD.values(), ids=BAD)
def test_what_a_release_cannot_have_ends_its_build(others: Site, more: str, said: str) -> None:
    live = others.live()
    version = others.version(files=hostile(more))
    output = " ".join(others.fails(version).split())
    assert said in output, output
    assert "Traceback" not in output
    assert others.live() == live
    assert others.sh(f"ls -d /srv/logbook/releases/{version.release}* 2>/dev/null; true") == ""
    assert processes(others, "logbook_build") == ""


def test_modes_and_rights_of_a_build_do_not_outlive_it(others: Site) -> None:
    more = """
import struct
nobody = 2**32 - 1
entries = [(1, 7, nobody), (2, 7, os.getuid()), (4, 5, nobody), (16, 7, nobody), (32, 5, nobody)]
rights = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
for path in ("app", "app/main.py"):
    os.setxattr(path, "system.posix_acl_access", rights)
os.setxattr("app", "system.posix_acl_default", rights)
os.chmod("app/__init__.py", 0o777)
"""
    version = others.version(files=hostile(more))
    others.deploy(version)
    release = f"/srv/logbook/releases/{version.release}"
    strange = f"find {release} ! -type l \\( ! -user root -o ! -group root -o -perm /7022 -o ! -perm -444 \\)"
    assert others.sh(strange) == ""
    tried = f"runuser -u logbook_build -- sh -c 'echo x >> {release}/app/main.py || touch {release}/app/new'; true"
    before = others.host.exec("sha256sum", f"{release}/app/main.py")
    others.sh(f"{tried} 2>/dev/null")
    assert others.host.exec("sha256sum", f"{release}/app/main.py") == before
    assert others.sh(f"ls {release}/app/new 2>/dev/null; true") == ""


def test_a_release_shares_no_file_with_the_cache_that_a_build_can_write_to(others: Site) -> None:
    version = others.version(files=hostile(), packages="apart")
    others.deploy(version)
    cache = set(others.sh("find /var/cache/slipway/logbook -type f -printf '%D:%i\\n'").split())
    release = set(others.sh(f"find /srv/logbook/releases/{version.release} -type f -printf '%D:%i\\n'").split())
    assert release
    assert release & cache == set()


# What only the build user or the app may write to, and where root does not work by path.
OWN = ("/srv/logbook/repo.git", "/var/cache/slipway/logbook", "/var/lib/logbook", "/srv/logbook/slots/*/http.sock")


def test_nobody_else_can_write_where_root_works(others: Site) -> None:
    """Every directory and file that Slipway has made, on a host that has built and deployed."""
    prune = " -o ".join(f"-path '{path}'" for path in OWN)
    places = "/srv/logbook /etc/slipway /etc/logbook /run/slipway /var/cache/slipway /etc/ssl/slipway /usr/local/bin"
    open_to_others = "! -type l ( ! -user root -o -perm /022 )".replace("(", "\\(").replace(")", "\\)")
    assert others.sh(f"find {places} \\( {prune} \\) -prune -o {open_to_others} -print") == ""
