"""What an app does beyond its release: denied by the strict sandbox and named, and possible with the word for it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from slipway.base import sandbox
from slipway.base import settings as config
from slipway.slot import denials
from tests.circumstances.host.workshop import made, workshop
from tests.controller import flat
from tests.faults.site import Site
from tests.settings import written

__all__ = ["made", "workshop"]

DEVICE = "/dev/slipway-test"  # /dev/null by another name

# For each word what real apps do with it; `unconfined` is for what no word is about.
USES = {
    "jit": ["mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)"],
    "psutil": [
        "open('/proc/meminfo')",
        "open('/proc/stat')",
        "open('/proc/1/cmdline')",
        "open('/proc/net/dev')",
        "open('/proc/sys/kernel/random/boot_id')",
    ],
    "network_interfaces": ["socket.if_nameindex()", "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)"],
    "listen": [
        "socket.create_server(('127.0.0.1', 0))",
        "socket.create_server(('0.0.0.0', 9100))",
        "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).bind(('0.0.0.0', 0))",
        "asyncio.run(asyncio.start_server(print, '0.0.0.0', 9100))",
    ],
    "own_programs": [
        "shutil.copy('/usr/bin/true', 'own'), subprocess.run(['sh', '-c', os.path.abspath('own')], check=True)",
        "os.makedirs('bin', exist_ok=True), shutil.copy('/usr/bin/true', 'bin'), "
        "subprocess.run([os.path.abspath('bin/true')])",
    ],
    "priorities": [
        "os.nice(5)",
        "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})",
        "os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))",
        "os.setpriority(os.PRIO_PROCESS, 0, 5)",
    ],
    "devices": [f"open('{DEVICE}')"],
    "namespaces": ["subprocess.run(['unshare', '--user', '--map-root-user', '--mount', 'true'], check=True)"],
    "suid_files": ["os.chmod(tempfile.mkdtemp(), 0o2775)"],
    "chown": ["os.chown(tempfile.mkdtemp(), os.getuid(), -1)"],
    "debugger": ["ptrace()"],
    "writable_home": ["open('/home/logbook-test/file', 'w')"],
    "unconfined": ["subprocess.run(['sudo', '--non-interactive', '--list'], check=True)"],
}

# What works without any word.
ORDINARY = [
    "subprocess.run(['ls', '/'], check=True, capture_output=True)",
    "tempfile.NamedTemporaryFile().write(b'x')",
    "pathlib.Path.home().joinpath('.cache').mkdir(exist_ok=True)",
    "sqlite3.connect(os.environ['STATE_DIRECTORY'] + '/test.db').execute('CREATE TABLE IF NOT EXISTS t (a)')",
    "multiprocessing.Lock(), multiprocessing.Queue()",
    "multiprocessing.shared_memory.SharedMemory(create=True, size=8).unlink()",
    "list(concurrent.futures.ProcessPoolExecutor(2).map(abs, [-1]))",
    "threading.Thread(target=print).start()",
    "socket.socketpair(), socket.getaddrinfo('localhost', 80)",
    "socket.socket(socket.AF_UNIX).bind(os.path.join(tempfile.mkdtemp(), 'socket'))",
    "os.memfd_create('x'), os.cpu_count(), os.getloadavg(), ctypes.CDLL(None).inotify_init()",
    "resource.setrlimit(resource.RLIMIT_CORE, (0, 0))",
    "ctypes.CFUNCTYPE(ctypes.c_int)(lambda: 5)()",
    "open('/proc/self/status').read(), open('/etc/resolv.conf').read(), zoneinfo.ZoneInfo('Europe/Berlin')",
]

PREAMBLE = """\
import asyncio, concurrent.futures, ctypes, mmap, multiprocessing, multiprocessing.shared_memory, os, pathlib, resource
import shutil, socket, sqlite3, subprocess, tempfile, threading, zoneinfo


def ptrace():
    if ctypes.CDLL(None, use_errno=True).ptrace(0, 0, 0, 0):
        raise PermissionError(1, "Operation not permitted")


"""


def run(site: Site, statements: list[str], *words: str, network: str = "none") -> str:
    """Run the statements as the app's user in a unit with the sandbox for these words; what they printed.

    It is the sandbox that the app's unit has, without a deploy for each word.
    """
    script = PREAMBLE + "\n".join(statements) + "\n"
    site.write("/opt/sandbox_test.py", script)
    # What `site.yml` makes of the words: a port of its own comes with the network.
    network = "outbound" if "listen" in words else network
    lines = [
        *("User=logbook", "Group=logbook", "UMask=0077", "StateDirectory=logbook", "StateDirectoryMode=0750"),
        *("Environment=HOME=/var/lib/logbook", "WorkingDirectory=/var/lib/logbook"),
        *sandbox.directives(words, root="/srv/logbook", network=network),
    ]
    command = ["systemd-run", "--quiet", "--collect", "--wait", "--pipe", *(f"--property={line}" for line in lines)]
    program = ["/usr/bin/python3", "/opt/sandbox_test.py"]
    done = subprocess.run(
        ["docker", "exec", site.host.name, *command, "--", *program], capture_output=True, text=True, check=False
    )
    assert done.returncode in (0, 1), done
    return done.stdout + done.stderr if done.returncode else ""


@pytest.fixture
def prepared(site: Site) -> Site:
    site.sh(
        f"""test -e {DEVICE} || mknod -m 0666 {DEVICE} c 1 3
        install -d -o logbook /home/logbook-test
        echo 'logbook ALL=(ALL) NOPASSWD: /usr/bin/true' > /etc/sudoers.d/logbook-test"""
    )
    return site


def remedies(log: str, *words: str) -> list[str]:
    settings = config.parse(written(needs=list(words)), source="test")
    return [denial.remedy for denial in denials.find(log.splitlines(), settings)]


def test_every_word_is_tried_on_a_host() -> None:
    assert list(USES) == list(sandbox.NEEDS)


@pytest.mark.parametrize("word", USES)
def test_a_word_allows_what_the_sandbox_denies_without_it_and_the_log_names_the_word(prepared: Site, word: str) -> None:
    for use in USES[word]:
        said = run(prepared, [use], network="outbound" if word == "listen" else "none")
        assert said, f"{use} is possible without {word}"
        assert any(f"Add {word} to apps.logbook.needs" in remedy for remedy in remedies(said)), (use, said)
    assert run(prepared, USES[word], word) == ""


def test_what_every_app_does_needs_no_word(site: Site) -> None:
    assert run(site, ORDINARY) == ""


def test_without_a_network_nobody_is_reached_and_the_log_names_the_setting(site: Site) -> None:
    for use in (
        "socket.create_connection(('127.0.0.1', 443))",
        "socket.create_connection(('localhost', 443))",
        "socket.getaddrinfo('example.com', 443)",
        "socket.socket(socket.AF_INET6)",
    ):
        said = run(site, [use])
        assert "Set apps.logbook.network: outbound" in "".join(remedies(said)), (use, said)
    assert run(site, ["socket.create_connection(('127.0.0.1', 443))"], network="outbound") == ""


def test_all_words_together_are_a_unit_that_starts(prepared: Site) -> None:
    words = [word for word in sandbox.NEEDS if word != "unconfined"]
    uses = [use for word in words for use in USES[word]]
    assert run(prepared, uses, *words) == ""


def test_what_the_app_writes_is_kept_over_releases_and_rollbacks(workshop: Site) -> None:
    workshop.sh("rm -f /var/lib/logbook/kept.*")
    with workshop.client() as client:
        answer = client.post("/kept", content="first")
    assert answer.json()["home"] == "/var/lib/logbook"
    workshop.deploy(workshop.good[0])
    assert workshop.sh("cat /var/lib/logbook/kept.txt") == "first"
    workshop.play("rollback.yml")
    with workshop.client() as client:
        assert client.get("/kept").json() == {"file": "first", "rows": ["first"]}
    assert workshop.sh("stat --format='%U:%G %a' /var/lib/logbook") == "logbook:logbook 750"
    told = workshop.sh("slipway run logbook -- sh -c 'echo $HOME $STATE_DIRECTORY'")
    assert told == "/var/lib/logbook /var/lib/logbook"


@pytest.fixture
def disks(site: Site) -> Iterator[str]:
    """A directory for others, which is gone afterwards, as is what the unit and the settings say of it."""
    kept = "/etc/systemd/system/logbook@.service /etc/slipway/logbook.toml"
    site.sh(f"rm -rf /opt/disks && install -d /opt/disks && tar -cf /opt/kept.tar {kept}")
    try:
        yield "/opt/disks"
    finally:
        site.sh("tar -C / -xf /opt/kept.tar && systemctl daemon-reload && rm -rf /opt/disks /opt/kept.tar")


def test_writable_paths_are_made_or_refused(site: Site, disks: str) -> None:
    absent, ours, closed, file = (f"{disks}/{name}" for name in ("absent/below", "ours", "closed", "file"))
    site.sh(f"install -d -m 2770 -g logbook {ours} && install -d {closed} && touch {file}")
    before = site.sh("stat -c %y /etc/systemd/system/logbook@.service")
    with site.declared(writable_paths=[absent, ours, closed, file]):
        output = flat(site.play("site.yml", check=False))
    assert f"{closed} (directory of root:root, mode 755), {file} (regular empty file of root:root, mode 644)" in output
    assert "apps.logbook.writable_paths: the user logbook of" in output
    assert site.sh("stat -c %y /etc/systemd/system/logbook@.service") == before
    assert site.sh(f"ls {disks}").split() == ["closed", "file", "ours"]
    with site.declared(writable_paths=[absent, ours]):
        site.play("site.yml")
    assert site.sh(f"stat -c '%U:%G %a' {absent} {ours}").split("\n") == ["logbook:logbook 750", "root:logbook 2770"]
    assert site.sh("systemctl show --property=RequiresMountsFor --value logbook@blue.service").count(disks) == 2


def test_status_names_what_the_sandbox_denied_and_the_way_out(workshop: Site) -> None:
    with workshop.client() as client:
        for what in ("nice", "meminfo", "upload"):
            assert client.get(f"/denied/{what}").status_code == 500
    found = {denial["error"]: denial["remedy"] for denial in workshop.status()["sandbox"]["denied"]}
    assert "Add priorities to apps.logbook.needs" in found["PermissionError: [Errno 1] Operation not permitted"]
    assert "Add psutil to" in found["FileNotFoundError: [Errno 2] No such file or directory: '/proc/meminfo'"]
    assert "/var/lib/logbook" in found["OSError: [Errno 30] Read-only file system: 'uploads'"]
    with workshop.settings(needs=["priorities", "psutil"]):  # as after a site.yml, and a deploy
        left = [denial["error"] for denial in workshop.status()["sandbox"]["denied"]]
    assert left == ["OSError: [Errno 30] Read-only file system: 'uploads'"]


def test_a_release_that_the_sandbox_stops_at_its_start_fails_with_the_way_out(site: Site) -> None:
    started = "from pathlib import Path\nfrom app.normal import Normal as Behaviour\nPath('uploads').mkdir()\n"
    before = site.live()
    version = site.version(files={"app/behaviour.py": started})  # which env.py does not import
    output = flat(site.fails(version))
    assert "Read-only file system: 'uploads'" in output
    assert "write to the app's data directory /var/lib/logbook" in output
    assert site.live() == before
