"""What stands under `env` in the inventory arrives in the app as it is written, through the files of a real host."""

from __future__ import annotations

import base64
import datetime
import json
import re

from roles.app.filter_plugins import app_settings
from slipway.slot import envfile
from tests.circumstances.test_values import AWKWARD
from tests.faults.site import Site

PROGRAM = "import json, os; print(json.dumps(dict(os.environ)))"


def test_systemd_the_engine_and_a_shell_read_the_same_from_what_the_role_writes(site: Site) -> None:
    path = "/run/circumstance.env"
    site.write(path, app_settings.env_file({**AWKWARD, "LIST": ["https://a"], "FLAG": False, "GONE": None}))
    try:
        by_systemd = site.host.exec(
            *("systemd-run", "--quiet", "--wait", "--pipe", "-p", f"EnvironmentFile={path}"),
            *("/usr/bin/python3", "-c", PROGRAM),
        )
        by_shell = site.sh(f"set -a; . {path}; exec /usr/bin/python3 -c '{PROGRAM}'")
        by_engine = envfile.parse(base64.b64decode(site.host.exec("base64", path)).decode())
    finally:
        site.sh(f"rm {path}")
    expected = {**AWKWARD, "LIST": '["https://a"]', "FLAG": "false"}
    for read in (json.loads(by_systemd), json.loads(by_shell), by_engine):
        assert {name: value for name, value in read.items() if name in (*expected, "GONE")} == expected


def test_site_refuses_what_yaml_has_changed_before_it_changes_anything(site: Site) -> None:
    """Row 17."""
    spoilt = {"SECRET_KEY": "c4n4ry", "LIMIT": 1.10, "SINCE": datetime.date(2026, 11, 26)}
    before = site.sh("stat -c %y /etc/logbook /etc/logbook/*")
    with site.declared(env=spoilt):
        inventory = site.state / "inventory.yml"
        inventory.write_text(inventory.read_text().replace("LIMIT: 1.1\n", "LIMIT: 1.10\n"))
        output = site.play("site.yml", check=False)
    shown = " ".join(output.split())
    for name, reason in (("LIMIT", "is a number that YAML does not keep"), ("SINCE", "is a date for YAML")):
        assert re.search(rf"apps\.logbook\.env\.{name} \(\S*inventory\.yml, line \d+\) {reason}", shown), output
    assert "c4n4ry" not in output
    assert site.sh("stat -c %y /etc/logbook /etc/logbook/*") == before
