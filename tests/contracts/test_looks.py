"""What the roles look at before they write: every file that they would write, with its owner and mode."""

from __future__ import annotations

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


@pytest.mark.parametrize("file", ["absent", "same", "other content", "other mode"])
def test_certificate_authorities_are_written_only_where_the_host_has_others(tmp_path: Path, file: str) -> None:
    """What the host says of the file comes from the command of the role itself, run here."""
    path = tmp_path / "slipway.crt"
    if file != "absent":
        path.write_text("authority\n" if file != "other content" else "another\n")
        path.chmod(0o600 if file == "other mode" else 0o644)
    known = yaml.safe_load((ROLES / "host/vars/main.yml").read_text())
    digest = re.sub(r"lookup\(.*?\)", "text", known["__host_authorities_digest"])
    packages = yaml.safe_load((ROLES / "host/tasks/packages.yml").read_text())[0]["slipway_look"]["script"]
    look = packages[packages.index("find {{ __host_authorities }}") :].replace("{{ __host_authorities }}", str(path))
    lines = subprocess.run(["sh", "-c", look], capture_output=True, text=True, check=False).stdout.splitlines()
    write = yaml.safe_load((ROLES / "host/tasks/authorities.yml").read_text())[0]["when"][1]
    variables: dict[str, Any] = {
        "__host_authorities": str(path),
        "__host_packages_found": {"stdout_lines": ["installed git", "fresh lists", *lines]},
    }
    variables["__host_authorities_digest"] = render.evaluate(digest, text="authority\n", **variables)
    variables["__host_authorities_found"] = render.evaluate(known["__host_authorities_found"], **variables)
    user = f"{path.owner()}:{path.group()}" if path.exists() else ""
    assert render.evaluate(f"{{{{ {write.replace('root:root', user)} }}}}", **variables) is (file != "same")
    assert bool(variables["__host_authorities_found"]) is (file != "absent")


@pytest.mark.parametrize(("role", "files"), [("app", 14), ("host", 9)])
def test_a_file_is_looked_at_with_the_group_and_the_mode_that_it_is_written_with(role: str, files: int) -> None:
    look = yaml.safe_load((ROLES / role / "vars/main.yml").read_text())[f"__{role}_look"]
    written = 0
    for task in tasks(role):
        module = task.get("ansible.builtin.template") or task["ansible.builtin.copy"]
        assert (module["dest"], module["owner"]) == ("{{ item.dest }}", "root")
        for item in task["loop"]:
            assert item["dest"] in look
            group = item.get("group", "root")
            assert module["group"] in (group, "{{ item.group }}")
            assert module["mode"] == f"0{item.get('mode', 644)}"
            written += 1
    assert written == files


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
