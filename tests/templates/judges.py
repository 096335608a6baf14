"""Whether a product accepts what a template renders: one judge for each template, and each asks the product itself.

A judge gets a function that renders its template, and an empty directory. It fails where the product refuses the file,
and where it understands it otherwise than it is meant.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import pwd
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import pytest

from filter_plugins import backups
from hosts.products import PRODUCTS
from roles.certificate.module_utils import slipway_certificates
from slipway.backup import pgbackrest as pgbackrest_output
from slipway.backup import settings as backup_engine
from slipway.base import settings as engine
from slipway.slot import envfile
from tests.templates import render


class Render(Protocol):
    """Renders the judge's template; see `render.render`."""

    def __call__(self, **changes: object) -> str: ...


Judge = Callable[[Render, Path], None]


def product(name: str) -> Path:
    """The program; a test that wants it fails without it, and is skipped only in `make quick`."""
    found = PRODUCTS[name].find()
    if found is None and os.environ.get("SLIPWAY_QUICK") == "1":
        pytest.skip(f"{name} is not installed here; `make unit` installs it and judges this template")
    assert found, f"{name} is not installed here: run `make prepare`, or apt-get install {PRODUCTS[name].packages[0]}"
    return found


def run(*command: str | Path, stdin: str = "", **environment: str) -> str:
    """What a command printed, errors as well; it has to succeed."""
    done = subprocess.run(
        [str(part) for part in command],
        env={**os.environ, "LC_ALL": "C.UTF-8", **environment},
        input=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


# systemd


def unit(judged: str, rendered: Render, directory: Path) -> None:
    """systemd has nothing to say of the unit, beside the other units of the roles.

    Its root is the directory. There it finds Debian's own targets, and the programs that ours start as empty files.
    """
    program = product("systemd-analyze")
    ours = directory / "etc/systemd/system"
    ours.mkdir(parents=True)
    theirs = directory / "usr/lib/systemd/system"
    theirs.mkdir(parents=True)
    for target in Path("/usr/lib/systemd/system").glob("*.target"):
        shutil.copy2(target, theirs, follow_symlinks=False)
    for name in [name for name in JUDGES if name.endswith((".service.j2", ".socket.j2", ".timer.j2"))]:
        role, _, template = name.partition("/")
        text = rendered() if name == judged else render.render(role, template)
        (ours / _installed(template)).write_text(text)
        for started in re.findall(r"^Exec\w+=[-+!:@|]*(\S+)", text, re.MULTILINE):
            path = directory / started.replace("%i", "blue").lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o755)
    instances = [unit.name.replace("@.", "@blue.") for unit in ours.iterdir()]
    assert run(program, "verify", "--man=no", f"--root={directory}", *instances) == ""


def _installed(template: str) -> str:
    """The name that a unit has on the host."""
    names = {"background@": "logbook.report@", "schedule.": "logbook.report.", "app@": "logbook@"}
    name = next((template.replace(old, new) for old, new in names.items() if template.startswith(old)), template)
    return name.removesuffix(".j2")


def dropped_in(most: float, rendered: Render, directory: Path) -> None:
    """systemd knows every setting, and finds the service no more exposed than so."""
    program, file = product("systemd-analyze"), directory / "dropped.service"
    file.write_text(f"[Unit]\nDescription=test\n[Service]\nExecStart=/bin/true\n{rendered()}")
    assert run(program, "verify", "--man=no", file) == ""
    said = run(program, "security", "--offline=yes", "--no-pager", file)
    assert float(said.split("Overall exposure level")[1].split()[2].strip(":")) <= most, said


def users(expected: tuple[str, ...], rendered: Render, directory: Path) -> None:
    file = directory / "sysusers.conf"
    file.write_text(rendered())
    said = run(product("systemd-sysusers"), "--dry-run", f"--root={directory}", file)
    assert re.findall(r"Creating user '(\S+)'", said) == list(expected)


def directories(rendered: Render, directory: Path) -> None:
    """They are made below the directory, where every name is ours: only root may give directories to others."""
    file, root = directory / "tmpfiles.conf", directory / "root"
    file.write_text(rendered())
    (root / "etc").mkdir(parents=True)
    names = ("root", "logbook", "logbook_build", "logbook_migrate")
    me, group = os.geteuid(), os.getegid()
    (root / "etc/passwd").write_text("".join(f"{name}:x:{me}:{group}::/:/bin/sh\n" for name in names))
    (root / "etc/group").write_text("".join(f"{name}:x:{group}:\n" for name in names))
    assert run(product("systemd-tmpfiles"), "--create", f"--root={root}", file) == ""
    modes = {
        name: oct((root / name).stat().st_mode & 0o7777)
        for name in ("srv/logbook/slots/blue", "var/cache/slipway/logbook")
    }
    assert modes == {"srv/logbook/slots/blue": "0o755", "var/cache/slipway/logbook": "0o750"}


def journal(rendered: Render, _: Path) -> None:
    """Each setting is one of those that systemd lists in the file which it brings."""
    brought = [Path(root, "systemd/journald.conf") for root in ("/etc", "/usr/lib")]
    known = "".join(path.read_text() for path in brought if path.exists())
    assert known, f"none of {brought} is there"
    section, *lines = [line for line in rendered().splitlines() if line and not line.startswith("#")]
    assert section == "[Journal]"
    names = [line.partition("=")[0] for line in lines]
    assert "SystemMaxUse" in names
    assert [name for name in names if not re.search(rf"^#?{name}=", known, re.MULTILINE)] == []
    assert "SystemMaxUse=1000M" in lines


# What the app and the engine read


def engine_settings(rendered: Render, _: Path) -> None:
    settings = engine.parse(tomllib.loads(rendered()), source="app.toml")
    assert (settings.app, settings.workers) == ("logbook", 4)


def environment(rendered: Render, _: Path) -> None:
    assert envfile.parse(rendered())["SECRET_KEY"] == render.APP["env"]["SECRET_KEY"]


def gunicorn(rendered: Render, directory: Path) -> None:
    file = directory / "gunicorn.conf.py"
    file.write_text(rendered())
    (directory / "served.py").write_text("async def app(scope, receive, send): ...\n")
    arguments: list[str | Path] = ["--check-config", "--chdir", directory, "--config", file, "served:app"]
    run(sys.executable, "-m", "gunicorn", *arguments, RUNTIME_DIRECTORY=str(directory))
    said = run(sys.executable, "-m", "gunicorn", "--print-config", *arguments[1:], RUNTIME_DIRECTORY=str(directory))
    assert re.search(r"^workers +  *= 4$", said, re.MULTILINE), said


def signers(rendered: Render, directory: Path) -> None:
    program, key, message = product("ssh-keygen"), directory / "key", directory / "message"
    run(program, "-q", "-t", "ed25519", "-N", "", "-f", key)
    line = f"alice@example.com {key.with_suffix('.pub').read_text().strip()}"
    file = directory / "allowed_signers"
    file.write_text(rendered(settings={"allowed_signers": [line]}))
    message.write_text("v1.0.0")
    run(program, "-Y", "sign", "-n", "git", "-f", key, message)
    how: list[str | Path] = ["-Y", "verify", "-n", "git", "-I", "alice@example.com", "-f", file, "-s", f"{message}.sig"]
    assert "Good" in run(program, *how, stdin="v1.0.0")


# Certificates


def certificate(directory: Path) -> tuple[Path, Path]:
    """A self-signed certificate and its key."""
    pair = directory / "fullchain.pem", directory / "privkey.pem"
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=logbook.example.com"]
    run(product("openssl"), "req", "-x509", *kind, "-days", "1", "-out", pair[0], "-keyout", pair[1])
    return pair


def authorities(rendered: Render, directory: Path) -> None:
    """Two files of authorities arrive as one that OpenSSL reads whole."""
    chain, _ = certificate(directory)
    file = directory / "slipway.crt"
    file.write_text(rendered(host_ca_certificates=[str(chain), str(chain)]))
    said = run(product("openssl"), "storeutl", "-noout", "-certs", file)
    assert "Total found: 2" in said


def acme(rendered: Render, directory: Path) -> None:
    (directory / "acme.json").write_text(rendered())
    settings = slipway_certificates.acme_settings(directory)
    assert settings.domains == ["logbook.example.com"]
    assert json.loads(rendered())["email"] == "ops@example.com"


# Who reaches the host


def firewall(rendered: Render, _: Path) -> None:
    """The kernel takes the rules, in a network of its own, where they replace those that are there."""
    program = product("nft")
    alone = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--net"]
    elsewhere = {"SECRET_KEY": "x", "DATABASE_URL": "postgresql://u:p@/x?host=192.0.2.9:6432&host=db.example.com:5432"}
    for text in (
        rendered(),
        rendered(access_ssh_per_minute=0, access_web_ports=[], access_apps=[], access_http3=True),
        rendered(settings={"env": elsewhere}, access_build_networks=["10.1.0.0/16", "2001:db8::/32"]),
        rendered(
            access_ssh_unlimited=["192.0.2.1", "2001:db8::/64"],
            access_open_ports=[{"port": 9100, "from": ["10.0.0.0/8", "fd00::/8"]}, {"port": 51820, "protocol": "udp"}],
        ),
        rendered(
            access_trusted_interfaces=["wg0", "br-*"],
            access_open_ports=[{"protocol": "vrrp", "from": ["10.0.0.0/8", "fd00::/8"]}, {"protocol": "esp"}],
        ),
    ):
        said = run(*alone, "sh", "-c", f"{program} -f /dev/stdin && {program} list table inet slipway", stdin=text)
        assert "policy drop" in said


def sshd(rendered: Render, _: Path) -> None:
    """sshd says that every setting is in force; without root, which would want its account and directory."""
    installed = product("sshd")
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        # A copy, as an unpacked one is in a directory that only its owner can enter.
        program = shutil.copy2(installed, directory)
        for library in installed.parents[2].glob("usr/lib/*-linux-gnu/libwrap.so.*"):
            shutil.copy2(library, directory)
        key, file = directory / "key", directory / "sshd_config"
        run(product("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f", key)
        for forwarding in (False, True):
            text = rendered(access_ssh_forwarding=forwarding)
            file.write_text(f"HostKey {key}\n{text}")
            for path in (directory, key, file):
                shutil.chown(path, pwd.getpwnam("nobody").pw_uid) if os.geteuid() == 0 else None
            said = run(*_unprivileged(), program, "-T", "-f", file, LD_LIBRARY_PATH=str(directory)).splitlines()
            for line in [line for line in text.splitlines() if line and not line.startswith("#")]:
                option, value = line.split(" ", 1)
                assert f"{option.lower()} {value.replace('prohibit-password', 'without-password')}" in said, line


# Debian


def updates(rendered: Render, directory: Path) -> None:
    for wanted, number in ((True, "1"), (False, "0")):
        file = directory / f"20auto-upgrades-{number}"
        file.write_text(rendered(host_security_updates=wanted))
        said = run(product("apt-config"), "dump", "APT::Periodic", APT_CONFIG=str(file))
        assert f'APT::Periodic::Update-Package-Lists "{number}";' in said
        assert f'APT::Periodic::Unattended-Upgrade "{number}";' in said


def upgrades(rendered: Render, directory: Path) -> None:
    """apt takes it for what it is meant to say, with and without a window for reboots."""
    for at, by_itself in (("", "false"), ("03:30", "true")):
        file = directory / "upgrades"
        file.write_text(rendered(host_reboot_at=at))
        said = run(product("apt-config"), "dump", "Unattended-Upgrade", APT_CONFIG=str(file))
        assert f'Unattended-Upgrade::Automatic-Reboot "{by_itself}";' in said
        assert 'Unattended-Upgrade::Package-Blacklist:: "^postgresql-[0-9]+$";' in said
        assert 'Unattended-Upgrade::Package-Blacklist:: "^mariadb-.*$";' in said
        assert (f'Automatic-Reboot-Time "{at}";' in said) == bool(at)


def restarts(rendered: Render, directory: Path) -> None:
    """Perl reads it, as needrestart does, and finds who is not to be restarted."""
    file = directory / "restarts.conf"
    file.write_text(rendered())
    services = [
        "postgresql@17-main.service",
        "mariadb.service",
        "nginx.service",
        "logbook@blue.service",
        "slipway-logbook.service",
        "cron.service",
    ]
    script = (
        "our %nrconf = (override_rc => {}); my $file = shift; my $done = do $file; die $@ if $@; "
        'for my $name (@ARGV) { print "$name\n" if grep { $name =~ /$_/ } keys %{$nrconf{override_rc}} }'
    )
    assert run(product("perl"), "-Mstrict", "-e", script, file, *services).split() == services[:-1]


def kernel(rendered: Render, directory: Path) -> None:
    """sysctl would set each of them, but for those that this kernel does not have."""
    file = directory / "sysctl.conf"
    file.write_text(rendered(host_sysctl={"kernel.sysrq": None, "net.core.somaxconn": 4096}))
    names = re.findall(r"^-([\w.]+) =", file.read_text(), re.MULTILINE)
    here = [name for name in names if Path("/proc/sys", *name.split(".")).exists()]
    absent = "|".join(re.escape(name) for name in set(names) - set(here)) or "(?!)"
    file.write_text(re.sub(rf"(?m)^-({absent}) = .*\n", "", file.read_text()))
    said = run(product("sysctl"), "--dry-run", "--load", file)
    assert "net.core.somaxconn = 4096" in said
    assert "kernel.sysrq" not in said
    assert [line for line in file.read_text().splitlines() if not re.fullmatch(r"(-[\w.]+ = \d+|#.*|)", line)] == []


def modules(rendered: Render, directory: Path) -> None:
    (directory / "modprobe.d").mkdir()
    (directory / "modprobe.d/modules.conf").write_text(rendered())
    said = run(product("modprobe"), "--config", directory / "modprobe.d", "--showconfig")
    assert "install sctp /bin/false" in said
    lines = [line for line in rendered().splitlines() if line and not line.startswith("#")]
    assert [line for line in lines if not re.fullmatch(r"install [\w-]+ /bin/false", line)] == []


def limits(rendered: Render, _: Path) -> None:
    """No program reads such a file alone: four words a line, as limits.conf(5) has them."""
    lines = [line.split() for line in rendered().splitlines() if line and not line.startswith("#")]
    assert lines
    assert [
        line for line in lines if not (len(line) == 4 and line[1] in ("soft", "hard", "-") and line[2] == "core")
    ] == []


def locale(rendered: Render, directory: Path) -> None:
    """The shell reads it as logins do, and the C library knows what it names."""
    file = directory / "locale"
    file.write_text(rendered())
    assert run("env", "-i", "sh", "-c", f"set -a; . '{file}'; locale charmap") == "UTF-8\n"


# Nginx


def nginx(rendered: Render, directory: Path) -> None:
    """A site of a name, and one of addresses, as the installed version wants them."""
    program = product("nginx")
    version = run(program, "-v")
    chain, key = certificate(directory)
    sites = [
        {**site, "name": name, "domains": domains, "certificate": str(chain), "certificate_key": str(key)}
        for site in render.sites()
        for name, domains in (("logbook", ["logbook.example.com"]), ("second", ["10.0.0.1", "2001:db8::1"]))
    ]
    for served in ([], sites[:1], sites):
        text = rendered(nginx_sites=served, __nginx_found={"stdout": version})
        said = run(program, "-t", "-e", "stderr", "-c", _movable(text, directory))
        assert "test is successful" in said
        assert "[emerg]" not in said


def _movable(text: str, directory: Path) -> Path:
    """The configuration for a directory instead of the system's, and ports that everybody may listen on."""
    for name in ("log", "etc/modules-enabled"):
        (directory / name).mkdir(parents=True, exist_ok=True)
    text = text.replace("/var/log/nginx", str(directory / "log")).replace("/run/nginx.pid", str(directory / "pid"))
    text = text.replace("/etc/nginx/modules-enabled", str(directory / "etc/modules-enabled"))
    file = directory / "nginx.conf"
    file.write_text(re.sub(r"(listen (?:\[::\]:)?)(80|443)\b", r"\g<1>20\2", text))
    return file


# PostgreSQL


def database_settings(rendered: Render, _: Path) -> None:
    cluster = _cluster(product("postgresql"))
    file = cluster / "slipway.conf"
    file.write_text(rendered())
    said = _ask(cluster, "SELECT setting, 'x' FROM pg_settings WHERE name = 'max_connections'", config_file=file)
    assert 'setting = "200"' in said
    said = _ask(cluster, "SELECT count(*) AS wrong FROM pg_file_settings WHERE error IS NOT NULL", config_file=file)
    assert 'wrong = "0"' in said, said


def database_access(rendered: Render, _: Path) -> None:
    cluster = _cluster(product("postgresql"))
    file = cluster / "slipway_hba.conf"
    file.write_text(rendered())
    said = _ask(cluster, "SELECT count(error) AS wrong, count(*) AS rules FROM pg_hba_file_rules", hba_file=file)
    assert 'wrong = "0"' in said, said
    assert 'rules = "2"' in said, said


def archiving(rendered: Render, _: Path) -> None:
    cluster = _cluster(product("postgresql"))
    file = cluster / "archiving.conf"
    file.write_text(f"archive_mode = on\n{rendered()}")
    said = _ask(cluster, "SELECT setting FROM pg_settings WHERE name = 'archive_timeout'", config_file=file)
    assert 'setting = "60"' in said, said
    said = _ask(cluster, "SELECT setting AS run FROM pg_settings WHERE name = 'archive_command'", config_file=file)
    assert "--config-path=/etc/pgbackrest/slipway --stanza=app-1 archive-push %p" in said, said


# Backups


def pgbackrest(rendered: Render, directory: Path) -> None:
    """pgBackRest knows every setting, finds the pass phrase beside it, and looks for the repository where it is."""
    program = product("pgbackrest")
    number = run(program, "version").split()[1]
    repository = directory / "repository"
    text = rendered(
        ansible_facts={"distribution_major_version": "13" if int(number.split(".")[1]) >= 46 else "12"},
        backup_settings={**backups.whole({}), "path": str(repository)},
    )
    (directory / "pgbackrest.conf").write_text(text)
    (directory / "conf.d").mkdir()
    (directory / "conf.d/passphrase.conf").write_text('[global]\nrepo1-cipher-pass=some "thing" = # long; enough\n')
    (repository / "postgresql").mkdir(parents=True)
    how: list[str | Path] = [program, f"--config-path={directory}", f"--lock-path={directory}/lock", "--stanza=app-1"]
    said = run(*how, "info", "--output=json")
    assert "WARN" not in said, said
    assert pgbackrest_output.parse(said, "app-1").problem == "has nothing of this host yet", said
    assert '"cipher":"aes-256-cbc"' in said, said


def backup_settings(rendered: Render, _: Path) -> None:
    found = backup_engine.parse(tomllib.loads(rendered()), "backup.toml")
    assert (found.stanza, found.version, found.cluster, found.port) == ("app-1", "17", "main", 5432)
    assert found.timers == backup_engine.TIMERS


def _ask(cluster: Path, query: str, **files: Path) -> str:
    """The answer of PostgreSQL in its mode for a single user: there is no server, and no socket."""
    options = [part for name, path in files.items() for part in ("-c", f"{name}={path}")]
    for path in files.values():
        path.chmod(0o644)
    programs = product("postgresql")
    return run(*_unprivileged(), programs / "postgres", "--single", "-D", cluster, *options, "postgres", stdin=query)


@functools.cache
def _cluster(programs: Path) -> Path:
    """An empty cluster, of a user that may run PostgreSQL, for as long as this process runs."""
    directory = Path(tempfile.mkdtemp(prefix="templates-"))
    atexit.register(shutil.rmtree, directory)
    if _unprivileged():
        shutil.chown(directory, "nobody")
    cluster = directory / "data"
    run(*_unprivileged(), programs / "initdb", "--no-sync", "--auth=trust", f"--pgdata={cluster}")
    return cluster


def _unprivileged() -> tuple[str, ...]:
    """PostgreSQL refuses to run as root."""
    nobody = pwd.getpwnam("nobody")
    return (
        ("setpriv", f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups")
        if os.geteuid() == 0
        else ()
    )


def mariadb_settings(rendered: Render, directory: Path) -> None:
    """MariaDB names what it would be started with; it refuses what it does not know."""
    file = directory / "slipway.cnf"
    file.write_text(rendered())
    said = run(product("mariadbd"), f"--defaults-file={file}", "--user=root", "--verbose", "--help")
    found = dict(line.split(None, 1) for line in said.splitlines() if len(line.split(None, 1)) == 2)
    assert found["skip-networking"] == "TRUE"
    assert found["max-connections"].strip() == "151"
    assert found["collation-server"] == "utf8mb4_unicode_ci"


def mariadb_sandbox(rendered: Render, directory: Path) -> None:
    """As others that are dropped in; the programs that it starts are there where MariaDB is."""
    programs = re.compile(r"=\+?/(usr/sbin/mariadbd|etc/mysql/debian-start).*")
    dropped_in(2.0, lambda **changes: programs.sub("=/bin/true", rendered(**changes)), directory)


JUDGES: dict[str, Judge] = {
    "access/00-slipway.conf.j2": sshd,
    "access/firewall.nft.j2": firewall,
    "access/slipway.conf.j2": functools.partial(dropped_in, 10),
    "access/slipway-access.service.j2": functools.partial(unit, "access/slipway-access.service.j2"),
    "app/app.allowed_signers.j2": signers,
    "app/app.toml.j2": engine_settings,
    "app/app@.service.j2": functools.partial(unit, "app/app@.service.j2"),
    "app/background@.service.j2": functools.partial(unit, "app/background@.service.j2"),
    "app/schedule.service.j2": functools.partial(unit, "app/schedule.service.j2"),
    "app/schedule.timer.j2": functools.partial(unit, "app/schedule.timer.j2"),
    "app/app@.socket.j2": functools.partial(unit, "app/app@.socket.j2"),
    "app/env.j2": environment,
    "app/gunicorn.conf.py.j2": gunicorn,
    "app/slipway-recover@.service.j2": functools.partial(unit, "app/slipway-recover@.service.j2"),
    "app/sysusers.conf.j2": functools.partial(users, ("logbook", "logbook_build", "logbook_migrate")),
    "app/tmpfiles.conf.j2": directories,
    "backup/backup.toml.j2": backup_settings,
    "backup/pgbackrest.conf.j2": pgbackrest,
    "backup/slipway-backup.conf.j2": archiving,
    "backup/sysusers.conf.j2": functools.partial(users, ("slipway_drill",)),
    **{
        name: functools.partial(unit, name)
        for program in ("backup", "drill", "heartbeat")
        for kind in ("service", "timer")
        for name in (f"backup/slipway-{program}.{kind}.j2",)
    },
    "certificate/acme.json.j2": acme,
    "certificate/slipway-certificate@.service.j2": functools.partial(
        unit, "certificate/slipway-certificate@.service.j2"
    ),
    "certificate/slipway-certificate@.timer.j2": functools.partial(unit, "certificate/slipway-certificate@.timer.j2"),
    "host/20auto-upgrades.j2": updates,
    "host/52slipway-upgrades.j2": upgrades,
    "host/60-slipway.conf.j2": kernel,
    "host/slipway-limits.conf.j2": limits,
    "host/slipway-modules.conf.j2": modules,
    "host/slipway-restarts.conf.j2": restarts,
    "host/locale.j2": locale,
    "host/slipway.conf.j2": journal,
    "host/slipway.crt.j2": authorities,
    "mariadb/90-slipway.cnf.j2": mariadb_settings,
    "mariadb/sandbox.conf.j2": mariadb_sandbox,
    "nginx/nginx.conf.j2": nginx,
    "nginx/sandbox.conf.j2": functools.partial(dropped_in, 2.6),
    "postgresql/pg_hba.conf.j2": database_access,
    "postgresql/sandbox.conf.j2": functools.partial(dropped_in, 2.0),
    "postgresql/slipway.conf.j2": database_settings,
    "redis/slipway-redis@.service.j2": functools.partial(unit, "redis/slipway-redis@.service.j2"),
}
