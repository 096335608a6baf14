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


@pytest.mark.parametrize(("role", "files"), [("app", 12), ("host", 4)])
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
    script = next(task["ansible.builtin.raw"] for task in find if "its version and configuration" in task["name"])
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
