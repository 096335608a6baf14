"""What the roles look at before they write: every file that they would write, with its owner and mode."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.templates import render

ROLES = Path(__file__).parents[2] / "roles"


def tasks(role: str) -> list[dict[str, Any]]:
    return [
        task
        for path in sorted((ROLES / role / "tasks").glob("*.yml"))
        for task in yaml.safe_load(path.read_text()) or []
        if task.get("when") == f"__{role}_differs"
    ]


def test_both_files_of_postgresql_are_looked_at_with_the_mode_that_they_are_written_with() -> None:
    look = yaml.safe_load((ROLES / "postgresql/vars/main.yml").read_text())["__postgresql_look"]
    found = tasks("postgresql")
    assert len(found) == 2
    for task in found:
        module, file = task["ansible.builtin.template"], task["vars"]["__file"]
        assert (module["src"], module["dest"]) == ("{{ __file.src }}", "{{ __file.dest }}")
        assert (module["owner"], module["group"]) == ("postgres", "postgres")
        assert module["mode"] == f"0{file['mode']}"
        assert file["dest"].replace("{{ __postgresql_configuration }}", "/etc/postgresql/*/*") in look


def answers(script: str, **environment: str) -> list[str]:
    done = subprocess.run(
        ["sh", "-c", script], capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )
    return done.stdout.splitlines()


def programs(directory: Path, scripts: dict[str, str]) -> dict[str, str]:
    """An environment in which programs of these names come before the machine's."""
    for name, script in scripts.items():
        path = directory / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
    return {"PATH": f"{directory}:{os.environ['PATH']}"}


def said_of_packages(directory: Path, **scripts: str) -> list[str]:
    """What a host says to role `host` before it installs packages; its certificates are those of `directory`."""
    look = yaml.safe_load((ROLES / "host/tasks/packages.yml").read_text())[0]["slipway_look"]["script"]
    known = render.variables("host", __host_authorities=f"{directory}/slipway.crt")
    script = render.evaluate(look, **known).replace("/etc/ssl/certs/", f"{directory}/certs/")
    return answers(script, **programs(directory, scripts))


def missing(lines: list[str]) -> set[str]:
    known = render.variables("host", __host_packages_found={"stdout_lines": lines})
    return set(render.evaluate("{{ __host_missing }}", **known))


def test_a_package_is_missing_unless_it_is_installed_or_apt_would_remove_another_for_it(tmp_path: Path) -> None:
    status = """case $* in *Provides*) cat "$0.provides" ;; *) echo 'installed git'; echo 'config-files kmod' ;; esac"""
    provides = tmp_path / "dpkg-query.provides"
    provides.write_text("installed default-mta\nconfig-files time-daemon\nconfig-files sudo\ninstalled \n")
    found = missing(said_of_packages(tmp_path, **{"dpkg-query": status}))
    assert {"kmod", "systemd-timesyncd", "sudo", "locales"} < found
    assert "git" not in found
    provides.write_text("installed ntp (= 1:4.2), time-daemon\ninstalled sudo\n")
    assert found - missing(said_of_packages(tmp_path, **{"dpkg-query": status})) == {"systemd-timesyncd", "sudo"}


def test_what_programs_read_of_our_authorities_is_made_again_where_it_is_not_that_of_the_file(tmp_path: Path) -> None:
    """The file was written or removed by a run that was killed before it told the system so."""
    ours, certs = tmp_path / "slipway.crt", tmp_path / "certs"
    certs.mkdir()
    bundle, link = certs / "ca-certificates.crt", certs / "slipway.pem"

    def behind() -> bool:
        return "behind authorities" in said_of_packages(tmp_path)

    bundle.write_text("BEGIN\nDebian's\nEND\n")
    assert not behind()
    ours.write_text("BEGIN\none\nEND\nBEGIN\ntwo\nEND\n")
    assert behind()
    bundle.write_text("BEGIN\nDebian's\nEND\nBEGIN\none\nEND\nBEGIN\ntwo\nEND\n")
    link.symlink_to(ours)
    assert not behind()
    bundle.unlink()
    bundle.touch()
    assert behind()
    ours.unlink()
    assert behind()
    link.unlink()
    assert not behind()


def said_of_the_system(directory: Path, locale: str, **scripts: str) -> list[str]:
    """What a host says to role `host` of its locale, and of what it has in force."""
    known = render.variables("host", host_locale=locale)
    script = render.evaluate("{{ __host_behind }}", **known)
    for path in ("/etc/locale.gen", "/etc/systemd/journald.conf.d/", "/etc/sysctl.d/"):
        script = script.replace(path, f"{directory}/{Path(path).name}{'/' if path.endswith('/') else ''}")
    return answers(script, **programs(directory, scripts))


@pytest.mark.parametrize(
    ("file", "locale", "listed"),
    [
        ("", "de_DE.UTF-8", False),
        ("# de_DE.UTF-8 UTF-8\nen_US.UTF-8 UTF-8\n", "de_DE.UTF-8", False),
        ("en_US.UTF-8 UTF-8\nde_DE.UTF-8 UTF-8  \n", "de_DE.UTF-8", True),
        ("de_DE ISO-8859-1\n", "de_DE.UTF-8", False),
        ("en_US.UTF-8 UTF-8\n", "C.UTF-8", False),
    ],
)
def test_the_line_of_a_locale_is_added_only_where_it_is_missing(
    tmp_path: Path, file: str, locale: str, listed: bool
) -> None:
    (tmp_path / "locale.gen").write_text(file)
    assert ("locale listed" in said_of_the_system(tmp_path, locale, systemctl="")) is listed
    task = next(
        task["ansible.builtin.lineinfile"]
        for task in yaml.safe_load((ROLES / "host/tasks/system.yml").read_text())
        if "ansible.builtin.lineinfile" in task
    )
    known = render.variables("host", host_locale=locale)
    line, regexp = (render.evaluate(task[name], **known) for name in ("line", "regexp"))
    assert line == {"C.UTF-8": ""}.get(locale, f"{locale} UTF-8")
    assert [found for found in file.splitlines() if line and re.match(regexp, found)] == [
        found for found in file.splitlines() if line and line in found
    ]


def test_a_locale_that_the_host_does_not_have_is_generated(tmp_path: Path) -> None:
    assert "behind locale" not in said_of_the_system(tmp_path, "C.UTF-8", systemctl="")
    assert "behind locale" in said_of_the_system(tmp_path, "xx_XX.UTF-8", systemctl="")


def test_a_unit_that_was_started_before_its_settings_were_written_is_started_again(tmp_path: Path) -> None:
    for directory in ("journald.conf.d", "sysctl.d"):
        (tmp_path / directory).mkdir()
    settings = tmp_path / "journald.conf.d/slipway.conf"
    settings.touch()
    (tmp_path / "sysctl.d/60-slipway.conf").touch()
    written = int(settings.stat().st_mtime)

    def behind(journal: str, kernel: str) -> list[str]:
        script = f'case $2 in systemd-journald.service) echo "{journal}" ;; *) echo "{kernel}" ;; esac'
        lines = said_of_the_system(tmp_path, "C.UTF-8", systemctl=script)
        return [Path(line).name for line in lines if line.startswith("behind ")]

    assert behind(f"@{written}", f"@{written + 60}") == []
    assert behind(f"@{written - 60}", f"@{written}") == ["slipway.conf"]
    assert behind(f"@{written}", f"@{written - 60}") == ["60-slipway.conf"]
    assert behind("", "") == []


# Of each role that writes units: the look, the variable with its answer, and the condition of what reloads systemd.
RELOADS = {
    "app": ("accounts.yml", "Look at the files", "__app_found", "accounts.yml", "Look at the files", "changed_when"),
    "access": ("preflight.yml", "Look at", "__access_found", "write.yml", "Load it at boot", "when"),
    "nginx": ("main.yml", "its version", "__nginx_found", "sandbox.yml", "Write it, or take it away", "when"),
    "postgresql": (
        *("install.yml", "Find the cluster", "__postgresql_clusters"),
        *("sandbox.yml", "Write it, or take it away", "when"),
    ),
}
# As on a host on which all else is in place.
IN_PLACE = {"access": ["l {{ __access_boot_link }} {{ __access_unit }}"]}
UNITS = {
    "app": "logbook@green.socket",
    "access": "nftables.service",
    "nginx": "nginx.service",
    "postgresql": "postgresql@17-main.service",
}
SYSTEMCTL = """case $* in *=NeedDaemonReload*) for word in "$@"; do case $word in
  UNIT) echo NeedDaemonReload=NEEDED ;; *.service | *.socket) echo NeedDaemonReload=no; echo ;;
esac; done ;; esac"""


@pytest.mark.parametrize("needed", ["yes", "no"])
@pytest.mark.parametrize("role", RELOADS)
def test_systemd_reads_what_a_killed_run_has_written_of_units(tmp_path: Path, role: str, needed: str) -> None:
    look_file, look, found, file, task, key = RELOADS[role]

    def of(name: str, part: str) -> dict[str, Any]:
        known = yaml.safe_load((ROLES / role / "tasks" / name).read_text())
        return next(item for item in known if part in item["name"])

    known = render.variables(role, nginx_sandbox=False, postgresql_sandbox=False)
    machine = programs(
        tmp_path,
        {
            "systemctl": SYSTEMCTL.replace("UNIT", UNITS[role]).replace("NEEDED", needed),
            "pg_lsclusters": "echo 17 main 5432 online postgres /data /log",
            "nginx": "echo nginx version: nginx/1.26.3",
        },
    )
    script = render.evaluate(of(look_file, look)["slipway_look"]["script"], **known)
    lines = answers(script, **machine) + [render.evaluate(line, **known) for line in IN_PLACE.get(role, [])]
    told = known | {found: {"stdout_lines": lines, "stdout": ""}}
    assert render.evaluate(f"{{{{ {of(file, task)[key]} }}}}", **told) is (needed == "yes")


@pytest.mark.parametrize("file", ["absent", "same", "other content", "other mode"])
def test_certificate_authorities_are_written_only_where_the_host_has_others(tmp_path: Path, file: str) -> None:
    """What the host says of the file comes from the command of the role itself, run here."""
    path = tmp_path / "slipway.crt"
    if file != "absent":
        path.write_text("authority\n" if file != "other content" else "another\n")
        path.chmod(0o600 if file == "other mode" else 0o644)
    known = yaml.safe_load((ROLES / "host/vars/main.yml").read_text())
    digest = re.sub(r"lookup\(.*?\)", "text", known["__host_authorities_digest"])
    lines = said_of_packages(tmp_path)
    write = yaml.safe_load((ROLES / "host/tasks/authorities.yml").read_text())[0]["when"][1]
    variables: dict[str, Any] = {
        "__host_authorities": str(path),
        "__host_packages_found": {"stdout_lines": lines},
    }
    variables["__host_authorities_digest"] = render.evaluate(digest, text="authority\n", **variables)
    variables["__host_authorities_found"] = render.evaluate(known["__host_authorities_found"], **variables)
    user = f"{path.owner()}:{path.group()}" if path.exists() else ""
    assert render.evaluate(f"{{{{ {write.replace('root:root', user)} }}}}", **variables) is (file != "same")
    assert bool(variables["__host_authorities_found"]) is (file != "absent")


def test_a_file_is_looked_at_with_the_group_and_the_mode_that_it_is_written_with() -> None:
    look = yaml.safe_load((ROLES / "host/vars/main.yml").read_text())["__host_look"]
    written = 0
    for task in tasks("host"):
        module = task.get("ansible.builtin.template") or task["ansible.builtin.copy"]
        assert (module["dest"], module["owner"]) == ("{{ item.dest }}", "root")
        for item in task["loop"]:
            assert item["dest"] in look
            group = item.get("group", "root")
            assert module["group"] in (group, "{{ item.group }}")
            assert module["mode"] == f"0{item.get('mode', 644)}"
            written += 1
    assert written == 8


def test_each_file_of_an_app_is_looked_at_before_it_is_written() -> None:
    """The action compares what it writes with what was found: a file that was not looked at is written each time."""
    look = render.evaluate("{{ __app_look }}", **render.variables("app")).split(";")[0].split()
    written = [
        item["dest"].replace("{{ app_name }}", "logbook")
        for path in sorted((ROLES / "app/tasks").glob("*.yml"))
        for task in yaml.safe_load(path.read_text()) or []
        if "slipway_files" in task
        for item in task["slipway_files"]["files"]
    ]
    assert set(written) <= set(look)
    assert len(written) == len(set(written)) == 15


def test_units_of_processes_are_looked_at_with_the_mode_that_they_are_written_with() -> None:
    look = yaml.safe_load((ROLES / "app/vars/main.yml").read_text())["__app_look"]
    (task,) = tasks("app")
    module = task["ansible.builtin.template"]
    assert (module["dest"], module["owner"], module["group"]) == ("{{ item.dest }}", "root", "root")
    assert f"{task['loop'].removesuffix(' }}')} | map(attribute='dest')" in look
    assert module["mode"] == "0644"


def test_nginx_conf_differs_from_the_hosts_by_more_than_comments(tmp_path: Path) -> None:
    """A reload closes the connections that clients keep: an upgrade that changes only comments must not cause one."""
    installed = tmp_path / "nginx.conf"
    find = yaml.safe_load((ROLES / "nginx/tasks/main.yml").read_text())
    script = next(task["slipway_look"]["script"] for task in find if "its version and configuration" in task["name"])
    look = re.sub(r"stat --format='.*?' \S+", "echo root:root 644", script.split("nginx -v")[0])
    known = yaml.safe_load((ROLES / "nginx/vars/main.yml").read_text())
    digest = re.sub(r"lookup\(.*?\)", "text", known["__nginx_configuration_digest"])
    rendered = render.render("nginx", "nginx.conf.j2", nginx_sites=render.sites(), __nginx_found={"stdout": ""})

    def differs(text: str) -> bool:
        installed.write_text(text)
        found = look.replace("/etc/nginx/nginx.conf", str(installed))
        lines = subprocess.run(["sh", "-c", found], capture_output=True, text=True, check=True).stdout.splitlines()
        wanted = render.evaluate(digest, text=rendered)
        return bool(
            render.evaluate(
                known["__nginx_configuration_differs"],
                __nginx_configuration_digest=wanted,
                __nginx_found={"stdout_lines": lines},
            )
        )

    assert not differs(rendered)
    assert not differs("# another\n\n" + re.sub(r"(?m)^\s*#.*\n", "   # other words\n", rendered))
    assert differs(rendered.replace("proxy_next_upstream off;", "proxy_next_upstream error;"))
    assert differs(rendered + "events {}\n")
    assert differs("")


def redis_lines(directory: Path, systemctl: str) -> list[str]:
    """What a host with a Redis of the app `shop` says to role `redis`; its files are those of `directory`."""
    server = {"name": "shop", "port": 20001, "memory_mb": 64, "eviction": "noeviction", "password": True}
    script = render.evaluate("{{ __redis_look }}", **render.variables("redis", redis_instances=[server]))
    script = script.replace("/etc/redis/", f"{directory}/").replace("/run/$name.redis/", f"{directory}/")
    return answers(script, **programs(directory, {"systemctl": systemctl, "dpkg-query": ""}))


def test_a_redis_that_was_started_before_its_settings_were_written_is_started_again(tmp_path: Path) -> None:
    settings, password = tmp_path / "slipway-shop.conf", tmp_path / "password.conf"
    settings.touch()
    password.touch()
    loaded = "case $* in *NeedDaemonReload*) echo NeedDaemonReload=no ;; esac"
    os.utime(settings, (1, 1))
    assert "runs shop" in redis_lines(tmp_path, loaded)
    os.utime(settings, (1, 1))
    os.utime(password, (0, 0))
    assert "runs shop" not in redis_lines(tmp_path, loaded)
    os.utime(password, (2, 2))
    assert "runs shop" not in redis_lines(tmp_path, "case $* in *NeedDaemonReload*) echo NeedDaemonReload=yes ;; esac")
    assert "runs shop" not in redis_lines(tmp_path, "case $* in *is-active*) exit 3 ;; esac\necho NeedDaemonReload=no")


def unused(top: Path, **scripts: str) -> list[str]:
    """What roles/app/files/unused.sh names on a host whose files are below `top`."""
    script = (ROLES / "app/files/unused.sh").read_text()
    for path in ("/opt/slipway", "/etc/slipway", "/etc/systemd", "/srv/", "/proc/"):
        script = script.replace(path, f"{top}{path}")
    (top / "bin").mkdir(exist_ok=True)
    lines = answers(script, **programs(top / "bin", {"systemctl": "", **scripts}))
    return [line.replace(f"unused {top}/opt/slipway/", "") for line in lines]


def placed(top: Path, path: str, text: str = "") -> None:
    (top / path).parent.mkdir(parents=True, exist_ok=True)
    (top / path).write_text(text.replace("/opt", f"{top}/opt"))


def test_what_no_app_no_release_and_no_process_refers_to_is_unused(tmp_path: Path) -> None:
    for name in ("python/3.12-a", "python/3.12-b", "python/3.12-c", "python/3.12", "server-1", "server-2", "uv-1"):
        placed(tmp_path, f"opt/slipway/{name}/file")
    placed(tmp_path, "opt/slipway/server-3.new/file")
    assert set(unused(tmp_path)) == {
        *("python/3.12", "python/3.12-a", "python/3.12-b", "python/3.12-c", "server-1", "server-2", "uv-1")
    }
    # The settings of an app, a release, one that is being built, a process, a unit.
    placed(
        tmp_path,
        "etc/slipway/shop.toml",
        'python = "/opt/slipway/python/3.12-a/bin/python3"\nuv = "/opt/slipway/uv-1/uv"',
    )
    placed(tmp_path, "srv/shop/releases/v1/.venv/pyvenv.cfg", "home = /opt/slipway/python/.uv-3.12-b/cpython/bin\n")
    link = tmp_path / "srv/shop/releases/v2.partial/tree/.venv/bin/python"
    link.parent.mkdir(parents=True)
    link.symlink_to(f"{tmp_path}/opt/slipway/python/3.12-c/bin/python3")
    placed(tmp_path, "proc/77/maps", "7f00 r-xp /opt/slipway/python/3.12/bin/python3.12\n")
    placed(tmp_path, "etc/systemd/system/shop@.service", "ExecStart=/x /opt/slipway/server-2/serve.py\n")
    assert unused(tmp_path) == ["server-1"]
    placed(tmp_path, "proc/78/cmdline", "python\0/opt/slipway/server-1/serve.py\0")
    assert unused(tmp_path) == []


@pytest.mark.parametrize(("started", "found"), [("@1", []), ("@99999999999", ["server-1"]), ("", [])])
def test_the_server_of_before_stays_while_a_slot_may_run_it(tmp_path: Path, started: str, found: list[str]) -> None:
    """Its processes may call themselves what they like: a slot that is older than its unit counts."""
    placed(tmp_path, "opt/slipway/server-1/serve.py")
    placed(tmp_path, "etc/systemd/system/shop@.service", "ExecStart=/x /opt/slipway/server-2/serve.py\n")
    says = f"case $1 in list-units) echo 'shop@blue.service loaded active running' ;; *) echo {started} ;; esac"
    assert unused(tmp_path, systemctl=says) == found
