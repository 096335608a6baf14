"""The field's scanners on a provisioned host: each has to give its best grade, or what it says has a reason here."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from hosts import scanners
from hosts.container_runtime import run
from tests.faults.site import Site

# What gixy says of this configuration although it is meant: {check: why}.
MEANT: dict[str, str] = {}


def test_ssh_audit_finds_nothing(site: Site) -> None:
    found = json.loads(scanners.scan("ssh-audit", "--json", "-p", str(site.port(22)), "127.0.0.1"))
    bad = [
        (kind, item["algorithm"], level, text)
        for kind in ("kex", "key", "enc", "mac")
        for item in found[kind]
        for level in ("fail", "warn")
        for text in item.get("notes", {}).get(level, [])
    ]
    assert len(found["kex"]) > 1
    assert bad == []
    assert found["cves"] == []


def test_sslyze_complains_of_nothing_but_the_private_authority(site: Site) -> None:
    said = scanners.scan("sslyze", "--mozilla_config=intermediate", f"localhost:{site.port(443)}")
    verdict = said.partition("COMPLIANCE AGAINST TLS CONFIGURATION")[2]
    assert verdict, said
    findings = re.findall(r"^\s+\* (\w+): (.*)", verdict, re.MULTILINE)
    assert [item for item in findings if item[0] != "certificate_path_validation"] == [], verdict


@pytest.mark.long
def test_testssl_gives_its_best_grade(site: Site) -> None:
    said = scanners.scan_from_beside(
        site.host, "testssl", "--quiet", "--color", "0", "--add-ca", f"/scanned/{site.authority.name}",
        "--ip", "{host}", "https://localhost", seconds=400, files=(site.authority,),
    )  # fmt: skip
    grade = re.search(r"Overall Grade\s+(\S+)", said)
    assert grade, said[-3000:]
    assert grade[1] == "A+", said[-3000:]


def test_gixy_finds_nothing_in_the_configuration_of_nginx(site: Site, tmp_path: Path) -> None:
    run("docker", "cp", f"{site.host.name}:/etc/nginx", tmp_path)
    said = scanners.scan("gixy", "--format", "json", tmp_path / "nginx/nginx.conf")
    found = json.loads(said)
    assert [item for item in found if item["plugin"] not in MEANT] == []
    (tmp_path / "nginx/bad.conf").write_text("http { server { location / { return 302 http://$host$uri; } } }")
    assert json.loads(scanners.scan("gixy", "--format", "json", tmp_path / "nginx/bad.conf")), "it finds what is wrong"


@pytest.mark.parametrize(("kind", "expected"), [("-sS", {22, 80, 443}), ("-sU", set())])
def test_nmap_finds_ssh_and_the_web_from_another_machine(site: Site, kind: str, expected: set[int]) -> None:
    ports = "-p-" if kind == "-sS" else "--top-ports=100"
    scan = ["nmap", kind, "-Pn", "-n", "--min-rate", "4000", "--max-retries", "1", ports, "-oG", "-", "{host}"]
    said = scanners.scan_from_beside(site.host, *scan)
    assert "Status: Up" in said, said
    assert {int(port) for port in re.findall(r"(\d+)/open/", said)} == expected, said
