"""What on a host is in the way of site.yml: pure decisions over the facts that host.sh prints.

Every obstacle is one sentence that says what is wrong and what to type. All of them are found at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import PurePosixPath

from roles.postgresql.filter_plugins import clusters as postgresql

PYTHON = (3, 11)
CLOCK = timedelta(minutes=5)  # beyond it, certificates and apt's lists may be refused as of the future or expired
MEMORY_MB = 400  # less is not enough for PostgreSQL, two slots and apt
FRESH_MB = 1500  # on /usr and /var: packages, uv and Python's packages of a first release
LATER_MB = 200  # on a host that has them
INODES = 20_000
RUNS_PROGRAMS = ("/usr", "/opt", "/srv", "/var")
DEBIAN = ("bookworm", "trixie", "forky", "bullseye", "buster", "sid", "testing", "unstable")
ADOPT = "add `-e adopt=true` to the command"


@dataclass(frozen=True)
class Wanted:
    """What site.yml is going to do on the host. `adopt` takes over what Nginx and PostgreSQL hold of others."""

    ports: tuple[int, ...] = (80, 443)
    postgresql_port: int = 5432
    has_databases: bool = True
    timezone: str = "Etc/UTC"
    adopt: bool = False


@dataclass(frozen=True)
class Facts:
    """The lines of host.sh, by their first word; what a host does not have is empty."""

    lines: dict[str, list[str]] = field(default_factory=dict)
    user: str = "root"
    refused: str = ""  # why the look was without root's rights; a sentence
    greeting: str = ""  # what the shell prints before all else, without a line break

    def all(self, word: str) -> list[str]:
        return self.lines.get(word, [])

    def one(self, word: str) -> str:
        return next(iter(self.all(word)), "")

    def number(self, word: str) -> int | None:
        return int(self.one(word)) if self.one(word).isdigit() else None


def read(text: str, user: str = "root", refused: str = "", greeting: str = "") -> Facts:
    """The facts of an answer."""
    lines: dict[str, list[str]] = {}
    for line in text.splitlines():
        word, _, value = line.partition(" ")
        lines.setdefault(word, []).append(value.strip())
    return Facts(lines, user, refused, greeting)


def obstacles(facts: Facts, wanted: Wanted, now: datetime) -> list[str]:
    """All that has to be cleared away before the first change; `now` is the time on the controller."""
    looks = [
        *([facts.refused] if facts.refused else []),
        *_shell(facts),
        *_system(facts),
        *_clock(facts, now),
        *_ports(facts, wanted),
        *_nginx(facts, wanted),
        *(_postgresql(facts, wanted) if wanted.has_databases else []),
        *_room(facts),
        *_packages(facts),
        *_network(facts),
    ]
    if facts.one("timezone"):
        looks.append(
            f"The time zone '{wanted.timezone}' does not exist: set host_timezone to one that "
            "`timedatectl list-timezones` shows."
        )
    return looks


def cautions(facts: Facts) -> list[str]:
    """What is no obstacle, but may become one."""
    found = [
        f"{unit} is enabled beside Nginx, and may take its ports at the next boot: `systemctl disable {unit}`."
        for unit in facts.all("enabled")
    ]
    held = [package for status, package in _statuses(facts) if status[0] == "h"]
    if held:
        found.append(f"Packages are on hold and stay as they are: {_list(held)} (`apt-mark showhold`).")
    found += [
        f"AppArmor enforces a profile for {name}: if that is not Debian's own, it may refuse what Slipway needs."
        for name in facts.all("apparmor")
    ]
    return found


def busy_with_packages(facts: Facts) -> list[str]:
    """The processes that hold the locks of apt and dpkg, as `unattended-upgrade (process 812)`."""
    return list(dict.fromkeys(_process(lock) for lock in facts.all("lock")))


def may_pass(facts: Facts) -> bool:
    """Whether the network has not answered, which may be late after a boot, and asking again is worth it."""
    return bool(facts.all("unresolved") or facts.all("unreachable"))


def _process(lock: str) -> str:
    """`812 /usr/bin/python3 /usr/bin/unattended-upgrade --x` by its program, which an interpreter only runs."""
    pid, *words = lock.split()
    names = [PurePosixPath(word).name for word in words if not word.startswith("-")]
    interpreted = len(names) > 1 and re.fullmatch(r"(python|perl|bash|sh|dash)[0-9.]*", names[0])
    return f"{(names[1] if interpreted else names[0]) if names else 'a program'} (process {pid})"


def _shell(facts: Facts) -> Iterator[str]:
    if facts.greeting:
        yield (
            f"The shell of '{facts.user}' prints '{facts.greeting[:60]}' without a line break, which Ansible takes for "
            "a part of its answers: begin ~/.bashrc with `case $- in *i*) ;; *) return ;; esac`."
        )


def _system(facts: Facts) -> Iterator[str]:
    families = [*facts.all("ID"), *facts.one("ID_LIKE").split()]
    if "debian" not in families:
        name = facts.one("PRETTY_NAME") or "an unknown system"
        yield f"It runs {name}: Slipway needs Debian (12 and 13 are tested)."
    if not facts.one("systemd"):
        yield (
            f"It is run by {facts.one('init') or 'an unknown program'} and not by systemd: use a machine, or a "
            "container, that boots systemd (/sbin/init)."
        )
    elif facts.one("systemd") in ("maintenance", "stopping"):
        yield f"systemd says that the host is '{facts.one('systemd')}': let it boot, then run the command again."
    python = facts.one("python")
    version = re.fullmatch(r"([0-9]+)\.([0-9]+)\.[0-9]+", python)
    if not python:
        yield "It has no Python (/usr/bin/python3): type `apt-get install python3 python3-apt` there as root."
    elif not version:
        yield (
            f"Its Python does not work ({python[:120]}): type `apt-get install --reinstall python3 python3-minimal` "
            "there as root."
        )
    elif (int(version[1]), int(version[2])) < PYTHON:
        yield f"It has Python {python}, but Slipway needs {PYTHON[0]}.{PYTHON[1]} or newer: upgrade to Debian 12 or 13."
    if facts.one("selinux"):
        yield (
            "SELinux is enforcing, and Slipway has no policy for it: type `setenforce 0` there as root, and set "
            "SELINUX=permissive in /etc/selinux/config."
        )


def _clock(facts: Facts, now: datetime) -> Iterator[str]:
    seconds = facts.number("time")
    if seconds is None:
        return
    ahead = datetime.fromtimestamp(seconds, UTC) - now
    if abs(ahead) > CLOCK:
        minutes = int(abs(ahead).total_seconds() // 60)
        yield (
            f"Its clock is {minutes} minutes {'ahead of' if ahead > timedelta() else 'behind'} this controller's: set "
            "the wrong one of the two, for example with `timedatectl set-ntp true`."
        )


def _listeners(facts: Facts) -> dict[int, list[tuple[str, str, str]]]:
    """By port: (process id, program, unit) of the first process that listens there; - where it cannot be seen."""
    found: dict[int, list[tuple[str, str, str]]] = {}
    for line in facts.all("listener"):
        port, pid, *rest = line.split()
        known = found.setdefault(int(port), [])
        if pid != "-":
            known.append((pid, rest[0] if rest else "?", rest[1] if len(rest) > 1 else ""))
    return {port: sorted(processes, key=lambda process: int(process[0])) for port, processes in found.items()}


def _ports(facts: Facts, wanted: Wanted) -> Iterator[str]:
    takers: dict[tuple[str, str, str], list[int]] = {}
    for port, processes in _listeners(facts).items():
        if port not in wanted.ports:
            continue
        taker = processes[0] if processes else ("", "", "")
        if not (taker[1] == "nginx" and taker[2] in ("", "nginx.service")):
            takers.setdefault(taker, []).append(port)
    for (pid, program, unit), ports in takers.items():
        which = f"port{'s' if len(ports) > 1 else ''} {' and '.join(map(str, sorted(ports)))}"
        if not pid:
            yield f"Something listens on {which} that Nginx needs: see what with `ss -ltnp` there as root, and stop it."
        elif unit.endswith(".service") and not unit.startswith(("docker", "containerd", "podman", "user@")):
            yield (
                f"{program} (process {pid}, {unit}) listens on {which} that Nginx needs: type "
                f"`systemctl disable --now {unit}` there as root, or move it to another port."
            )
        else:
            yield f"{program} (process {pid}) listens on {which} that Nginx needs: stop it, or move it to another port."


def _nginx(facts: Facts, wanted: Wanted) -> Iterator[str]:
    if facts.all("site") and not wanted.adopt:
        yield (
            f"Nginx has a configuration that is not of Slipway ({_list(facts.all('site'))}), and site.yml replaces "
            f"/etc/nginx/nginx.conf, which then serves none of it: {ADOPT} if that is meant, or take another host."
        )


def _postgresql(facts: Facts, wanted: Wanted) -> Iterator[str]:
    clusters = postgresql.read(f"cluster {line}" for line in facts.all("cluster"))
    port = wanted.postgresql_port
    try:
        chosen = postgresql.serving(clusters, port)
    except postgresql.ClusterError as error:
        sentence = str(error)
        yield sentence[0].upper() + sentence[1:] + "."
        return
    if chosen is None:
        for pid, program, _ in _listeners(facts).get(port, [])[:1]:
            yield (
                f"{program} (process {pid}) listens on port {port}, so a new PostgreSQL cluster would get another one: "
                "stop it, or move it to another port, or give the apps its DATABASE_URL."
            )
        return
    users = [
        line.split()[2] for line in facts.all("database")
        if line.split()[:2] == [chosen.version, chosen.name] and int(line.split()[2]) >= 16384  # earlier are its own
    ]  # fmt: skip
    if users and not facts.all("ours") and not wanted.adopt:
        yield (
            f"The PostgreSQL cluster {chosen} has {len(users)} database{'s' if len(users) > 1 else ''} of others, and "
            "site.yml replaces its pg_hba.conf and ends its connections over TCP: "
            f"{ADOPT} if that is meant, or give the apps the DATABASE_URL of another server."
        )


def _room(facts: Facts) -> Iterator[str]:
    total, swap = facts.number("MemTotal"), facts.number("SwapTotal") or 0
    if total is not None and (total + swap) // 1024 < MEMORY_MB:
        yield f"It has {total // 1024} MB of memory, but Slipway needs {MEMORY_MB} MB: give it more memory, or swap."
    needed = LATER_MB if facts.one("provisioned") else FRESH_MB
    short: dict[str, str] = {}
    for line in facts.all("disk"):
        directory, target, free, inodes = line.split()
        if directory not in ("/usr", "/var"):
            continue
        if free.isdigit() and int(free) // 1024 < needed:
            short[target] = f"{int(free) // 1024} MB free, but {needed} MB are needed"
        elif inodes.isdigit() and 0 < int(inodes) < INODES and target not in short:
            short[target] = f"{inodes} inodes free, but {INODES} are needed"
    for target, words in short.items():
        yield f"The file system {target} has {words}: delete what is not needed (`apt-get clean`), or make it larger."
    for line in facts.all("mount"):
        target, flag = line.split()
        if flag == "ro":
            yield f"The file system {target} is mounted read-only: `mount -o remount,rw {target}`; see `dmesg` for why."
        elif target.startswith(RUNS_PROGRAMS) or target == "/":
            yield (
                f"The file system {target} is mounted noexec, and programs are run from there: "
                f"`mount -o remount,exec {target}`, and change /etc/fstab."
            )


def _statuses(facts: Facts) -> list[tuple[str, str]]:
    """(status, package) of those that are not simply installed: `iF` is half-configured, `hi` is on hold."""
    return [(line.split()[0], line.split()[-1]) for line in facts.all("package") if len(line.split()) > 1]


def _packages(facts: Facts) -> Iterator[str]:
    if not facts.all("lock"):  # otherwise it is in the middle of that
        broken = [package for status, package in _statuses(facts) if status[1] in "HUF" or len(status) > 2]
        if broken or facts.one("interrupted"):
            which = f": {_list(broken)}" if broken else ""
            yield (
                f"Packages were left half-installed{which}: type `dpkg --configure -a && apt-get --fix-broken install` "
                "there as root."
            )
    yield from _sources(facts)


def _sources(facts: Facts) -> Iterator[str]:
    sources = _suites(facts)
    if facts.one("ID") != "debian":
        return
    if not sources:
        yield (
            "apt has no sources of packages: write them to /etc/apt/sources.list there, for example `deb "
            f"http://deb.debian.org/debian {facts.one('VERSION_CODENAME') or 'trixie'} main`."
        )
        return
    if any(address.startswith("cdrom:") for address, _ in sources):
        yield "apt's sources name a CD-ROM, without which no list is updated: take the line `deb cdrom:` out."
    release = facts.one("VERSION_CODENAME")
    archives = [suite for address, suite in sources if re.search(r"/debian(-security)?/?$", address)]
    others = sorted({suite.partition("-")[0].partition("/")[0] for suite in archives} & set(DEBIAN) - {release})
    if release in DEBIAN and others:
        yield (
            f"An upgrade is under way, or was not finished: the host is Debian {release}, but apt's sources name "
            f"{_list(others)}. Finish it (`apt-get update && apt-get full-upgrade`), or put the sources right."
        )


def _suites(facts: Facts) -> list[tuple[str, str]]:
    """(address, suite) of each source that is in use, of both forms of files."""
    found = []
    for line in facts.all("source"):
        words = re.sub(r"^\[[^\]]*\]\s*", "", line).split("#")[0].split()
        if len(words) > 1:
            found.append((words[0], words[1]))
    stanza: dict[str, str] = {}
    key = ""
    for line in [*facts.all("stanza"), ""]:
        name, colon, value = line.partition(":")
        if not line:
            uris, suites = stanza.get("uris", "").split(), stanza.get("suites", "").split()
            if "deb" in stanza.get("types", "").split() and stanza.get("enabled", "yes") not in ("no", "false"):
                found += [(address, suite) for address in uris for suite in suites]
            stanza, key = {}, ""
        elif colon and re.fullmatch(r"[A-Za-z-]+", name):
            key = name.lower()
            stanza[key] = value.strip()
        elif key:
            stanza[key] += " " + line.strip()
    return found


def _network(facts: Facts) -> Iterator[str]:
    used = " ".join(address for address, _ in _suites(facts))
    unresolved = [host for host in facts.all("unresolved") if host in used]
    if unresolved:
        yield (
            f"It cannot resolve {_list(unresolved)}, where apt's packages come from: put /etc/resolv.conf right there "
            "(try `getent hosts debian.org`)."
        )
    for line in facts.all("unreachable"):
        host, port = line.split()
        if host in used:
            yield (
                f"{host} does not answer on port {port}, where apt's packages come from: open the firewall, or name a "
                "mirror or a proxy in /etc/apt that the host can reach."
            )


def _list(names: list[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more
