"""What site.yml finds in the way on hosts that are not as fresh as a new machine: the decisions, without a host."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from playbooks.look.obstacles import Wanted, busy_with_packages, cautions, may_pass, obstacles, read

LOOK = Path(__file__).parents[2] / "playbooks/look/host.sh"
NOW = datetime(2026, 11, 26, 20, tzinfo=UTC)
# A new Debian 13, as host.sh describes it.
FRESH = f"""\
uid 0
time {int(NOW.timestamp())}
PRETTY_NAME Debian GNU/Linux 13 (trixie)
VERSION_CODENAME trixie
ID debian
init systemd
systemd running
python 3.13.5
listener 22 83 sshd ssh.service
MemTotal 2014092
MemAvailable 1527992
SwapTotal 0
disk / / 7780780 1620915
disk /usr / 7780780 1620915
disk /tmp /tmp 900000 50000
disk /var / 7780780 1620915
source http://deb.debian.org/debian trixie main
source [signed-by=/usr/share/keyrings/x.gpg] http://deb.debian.org/debian trixie-updates main
source http://security.debian.org/debian-security trixie-security main
"""
OURS = """\
provisioned yes
listener 80 -
listener 80 412 nginx nginx.service
listener 80 413 nginx nginx.service
listener 443 412 nginx nginx.service
cluster 17 main 5432 online postgres /var/lib/postgresql/17/main /var/log/x.log auto
ours 17 main
database 17 main 16388
"""
MAIN = "cluster 17 main 5432 online postgres /var/lib/postgresql/17/main /var/log/x.log auto"
OLD = "cluster 15 main 5433 down postgres /var/lib/postgresql/15/main /var/log/y.log manual"


def found(more: str = "", without: str = "", wanted: Wanted | None = None, ahead: int = 0) -> list[str]:
    """The obstacles of a fresh host with more facts, and without those whose line begins with one of some words."""
    dropped = tuple(f"{word} " for word in without.split())
    kept = "".join(f"{line}\n" for line in FRESH.splitlines() if not (dropped and line.startswith(dropped)))
    return obstacles(read(kept + more), wanted or Wanted(), NOW - timedelta(minutes=ahead))


def test_nothing_is_in_the_way_on_a_fresh_host() -> None:
    assert found() == []
    assert cautions(read(FRESH)) == []


@pytest.mark.parametrize("systemd", ["running", "degraded", "starting", "initializing"])
def test_nothing_is_in_the_way_on_a_host_that_slipway_has_provisioned(systemd: str) -> None:
    assert found(OURS + f"systemd {systemd}\n", without="systemd") == []


def test_all_that_is_in_the_way_is_named_at_once() -> None:
    more = "listener 80 812 apache2 apache2.service\npackage iF  mysql-server\nselinux enforcing\n"
    assert len(found(more, "python", ahead=90)) == 5


CASES = [
    # the system
    ("ID ID", "ID rocky\nID_LIKE rhel centos fedora\n", "Slipway needs Debian"),
    ("systemd init", "init tini\n", "It is run by tini and not by systemd"),
    ("systemd", "systemd maintenance\n", "systemd says that the host is 'maintenance'"),
    ("python", "", "It has no Python (/usr/bin/python3): type `apt-get install python3 python3-apt`"),
    ("python", "python 3.9.2\n", "It has Python 3.9.2, but Slipway needs 3.11 or newer"),
    ("python", "python ModuleNotFoundError: No module named 'json'\n", "Its Python does not work (ModuleNotFoundError"),
    ("", "selinux enforcing\n", "SELinux is enforcing"),
    ("", "timezone missing\n", "The time zone 'Etc/UTC' does not exist: set host_timezone"),
    # ports
    ("", "listener 80 812 apache2 apache2.service\n", "apache2 (process 812, apache2.service) listens on port 80"),
    ("", "listener 80 8 caddy caddy.service\nlistener 443 8 caddy caddy.service\n", "listens on ports 80 and 443 that"),
    ("", "listener 443 99 docker-proxy docker.service\n", "docker-proxy (process 99) listens on port 443 that"),
    ("", "listener 80 99 nginx session-3.scope\n", "nginx (process 99) listens on port 80"),
    ("", "listener 80 99 python3 session-3.scope\n", "python3 (process 99) listens on port 80"),
    ("", "listener 80 -\n", "Something listens on port 80 that Nginx needs: see what with `ss -ltnp`"),
    ("", "site /etc/nginx/conf.d/shop.conf\n", "Nginx has a configuration that is not of Slipway (/etc/nginx/conf.d/"),
    # PostgreSQL
    ("", MAIN.replace("5432", "5433") + "\n", "No PostgreSQL cluster has port 5432, which apps use. There are: 17"),
    ("", f"{MAIN}\n{OLD}\ndatabase 17 main 16400\n", "has 1 database of others, and site.yml replaces its pg_hba.conf"),
    ("", "listener 5432 77 docker-proxy docker.service\n", "docker-proxy (process 77) listens on port 5432, so a new"),
    # room
    ("MemTotal", "MemTotal 250000\n", "It has 244 MB of memory, but Slipway needs 400 MB"),
    ("disk", "disk /usr / 400000 90000\ndisk /var / 400000 90000\n", "The file system / has 390 MB free, but 1500 MB"),
    ("disk", "disk /var /var 9000000 12\n", "The file system /var has 12 inodes free"),
    ("", "mount /srv noexec\n", "The file system /srv is mounted noexec"),
    ("", "mount / ro\n", "The file system / is mounted read-only"),
    # packages
    ("", "package iF  nginx\n", "Packages were left half-installed: nginx: type `dpkg --configure -a"),
    ("", "package iU  a\npackage iHR b\n", "Packages were left half-installed: a, b: type"),
    ("", "interrupted dpkg\n", "Packages were left half-installed: type `dpkg --configure -a"),
    ("source", "", "apt has no sources of packages"),
    ("source", "stanza\nstanza Types: deb\nstanza URIs: http://a/debian\nstanza Suites: trixie\nstanza Enabled: no\n",
     "apt has no sources of packages"),
    ("", "source cdrom:[Debian GNU/Linux 13 _Trixie_]/ trixie main\n", "apt's sources name a CD-ROM"),
    ("VERSION_CODENAME", "VERSION_CODENAME bookworm\n", "the host is Debian bookworm, but apt's sources name trixie"),
    ("", "source http://deb.debian.org/debian bookworm main\n", "is Debian trixie, but apt's sources name bookworm"),
    # network
    ("", "unresolved deb.debian.org\n", "It cannot resolve deb.debian.org, where apt's packages come from"),
    ("", "unreachable deb.debian.org 80\n", "deb.debian.org does not answer on port 80"),
]  # fmt: skip


@pytest.mark.parametrize(("without", "more", "sentence"), CASES, ids=[sentence[:40] for _, _, sentence in CASES])
def test_what_is_in_the_way_is_one_sentence(without: str, more: str, sentence: str) -> None:
    sentences = found(more, without)
    assert len(sentences) == 1
    assert sentence in sentences[0]


HARMLESS = [
    "listener 8080 812 apache2 apache2.service\n",
    f"{MAIN}\nlistener 5432 90 postgres postgresql@17-main.service\n",
    f"{MAIN}\n{OLD}\n",
    f"{MAIN}\ndatabase 17 main 5\n",
    f"{MAIN}\n{OLD}\nours 15 main\ndatabase 17 main 16400\n",  # pg_upgradecluster did not take our file along
    "mount /tmp noexec\n",
    "package hi  linux-image-amd64\n",
    "package iW  man-db\n",
    "package iF  libc-bin\nlock 812 /usr/bin/dpkg --configure -a\n",
    "source http://apt.postgresql.org/pub/repos/apt bookworm-pgdg main\n",
    "source http://deb.debian.org/debian trixie-backports main\n",
    "unresolved mirror.of.nobody\n",  # of a source that is turned off
    "stanza\nstanza Types: deb-src\nstanza URIs: http://deb.debian.org/debian\nstanza Suites: bookworm\n",
]


@pytest.mark.parametrize("more", HARMLESS)
def test_what_is_not_in_the_way_is_not_named(more: str) -> None:
    assert found(more) == []


def test_stanzas_of_deb822_are_sources() -> None:
    stanza = "Types: deb\nURIs: http://deb.debian.org/debian\nSuites: bookworm\n  bookworm-updates\nComponents: main"
    more = "stanza\n" + "".join(f"stanza {line.strip() if ':' in line else line}\n" for line in stanza.split("\n"))
    assert "apt's sources name bookworm" in found(more, "source")[0]


@pytest.mark.parametrize("more", [MAIN + "\ndatabase 17 main 16400\n", "site /etc/nginx/sites-enabled/shop\n"])
def test_adopt_takes_over_what_others_left(more: str) -> None:
    assert "add `-e adopt=true` to the command if that is meant" in found(more)[0]
    assert found(more, wanted=Wanted(adopt=True)) == []


def test_adopt_takes_no_port_from_anybody() -> None:
    assert found("listener 80 812 apache2 apache2.service\n", wanted=Wanted(adopt=True)) != []


def test_a_host_without_databases_may_have_any_cluster() -> None:
    assert found(MAIN.replace("5432", "5433"), wanted=Wanted(has_databases=False)) == []


@pytest.mark.parametrize(("ahead", "sentence"), [(90, "90 minutes ahead of"), (-600, "600 minutes behind"), (4, "")])
def test_the_clock_of_the_host_is_that_of_the_controller(ahead: int, sentence: str) -> None:
    sentences = found(ahead=ahead)
    assert len(sentences) == bool(sentence)
    assert all(sentence in one for one in sentences)


def test_a_provisioned_host_needs_less_room() -> None:
    tight = "disk /usr / 600000 90000\ndisk /var / 600000 90000\n"
    assert len(found(tight, "disk")) == 1
    assert found(OURS + tight, "disk") == []


def test_a_greeting_that_ansible_would_take_for_an_answer_is_named() -> None:
    (sentence,) = obstacles(read(FRESH, user="bob", greeting="hi"), Wanted(), NOW)
    assert sentence.startswith("The shell of 'bob' prints 'hi' without a line break")


def test_why_the_look_was_without_root_is_named_with_all_else() -> None:
    facts = read(FRESH + "listener 80 -\n", user="bob", refused="The host has no sudo, and 'bob' is not root.")
    assert len(obstacles(facts, Wanted(), NOW)) == 2


@pytest.mark.parametrize(
    ("lock", "name"),
    [
        ("812 /usr/bin/python3 /usr/bin/unattended-upgrade --download-only", "unattended-upgrade (process 812)"),
        ("90 apt-get install nginx", "apt-get (process 90)"),
        ("7 /usr/bin/dpkg --status-fd 20 --configure -a", "dpkg (process 7)"),
        ("8", "a program (process 8)"),
    ],
)
def test_whoever_installs_packages_is_named(lock: str, name: str) -> None:
    assert busy_with_packages(read(f"lock {lock}\nlock {lock}\n")) == [name]


def test_a_network_that_does_not_answer_may_be_late() -> None:
    assert may_pass(read("unresolved deb.debian.org\n"))
    assert not may_pass(read(FRESH))


def test_what_may_get_in_the_way_later_is_a_caution() -> None:
    sentences = cautions(read("enabled apache2.service\npackage hi  libpq5\napparmor /usr/sbin/nginx\n"))
    assert [sentence.split()[0] for sentence in sentences] == ["apache2.service", "Packages", "AppArmor"]


def test_the_look_runs_here_without_an_error() -> None:
    """On whatever machine runs the tests: no command of it prints an error, and it says at least the basics."""
    inputs = "ports='80 443 5432' timezone='Etc/UTC'\n"
    done = subprocess.run(["sh", "-s"], input=inputs + LOOK.read_text(), capture_output=True, text=True, check=True)
    assert done.stderr == ""
    facts = read(done.stdout)
    assert facts.number("uid") is not None
    assert facts.number("MemTotal")
    assert facts.one("ID")
