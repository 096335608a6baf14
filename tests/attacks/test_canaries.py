"""Every kind of secret that an inventory can have, as a canary, at `-vvv --diff`: shown nowhere, in its file alone."""

from __future__ import annotations

import secrets

import pytest

from tests.controller import SECRET
from tests.faults.conftest import Steady
from tests.faults.site import JOURNAL, Site
from tests.faults.test_secrets import arguments_of_all_processes

ETC = "/etc/slipway/logbook"
# Where each may be on the host, beside the copies of the environment that slots have.
PLACES = {
    "env": "/etc/logbook/env",
    "build_env": f"{ETC}.build.env",
    "index": f"{ETC}.build.env",
    "token": f"{ETC}.logbook-token",
    "hook": f"{ETC}.hooks.json",
    "header": f"{ETC}.health-headers.json",
}
COPIES = {"/srv/logbook/slots/blue/env", "/srv/logbook/slots/green/env"}
KEY = "/etc/ssl/slipway/logbook/current/privkey.pem"


@pytest.mark.long
def test_no_secret_is_shown_whatever_kind_it_is(site: Site, steady: Steady) -> None:
    canaries = {name: f"canary{secrets.token_hex(12)}" for name in PLACES}
    declared = {
        "env": {"SECRET_KEY": SECRET, "CANARY": canaries["env"]},
        "build_env": {
            "UV_INDEX_OWN_PASSWORD": canaries["build_env"],
            "UV_INDEX": f"https://bob:{canaries['index']}@127.0.0.1:1/simple",
        },
        "logbook_url": "http://127.0.0.1:1",
        "logbook_token": canaries["token"],
        "hooks": [{"url": f"https://127.0.0.1:1/{canaries['hook']}", "on": ["opened", "closed"]}],
        "health_headers": {"X-Key": canaries["header"]},
    }
    old, new, broken = site.live(), site.version(migration="adds_a_table"), site.version("crashes_at_import")
    output = ""
    try:
        with steady() as load, arguments_of_all_processes() as seen:
            with site.declared(**declared):
                output += site.play("site.yml", "-vvv", "--diff")
                output += site.play("deploy.yml", *new.chosen, "-vvv", "--diff")
                output += site.fails(broken, "-vvv", "--diff")
                output += site.play("rollback.yml", "-vvv", "--diff")
            found = {name: site.sh(f"cat {PLACES[name]}") for name in PLACES}
            modes = site.sh(f"stat -c '%a %U %n' {ETC}.*").splitlines()
        units = site.sh("systemctl --no-pager show --all '*'")
        places = {
            "output": output,
            "journald": site.host.exec("journalctl", "--no-pager", "--output=verbose"),
            "the engine's journal": site.host.exec("cat", JOURNAL),
            "units": units,
            "arguments": "\n".join(seen),
        }
        holders = {
            name: set(site.sh(f"grep -rlsI {canary} /etc /srv /var /run /opt /usr/local /root /home || true").split())
            for name, canary in canaries.items()
        }
        key = site.sh(f"sed -n 3p {KEY}")
    finally:
        site.play("site.yml")
    assert {name for name, canary in canaries.items() if canary not in found[name]} == set(), "or nothing is found"
    shown = {(name, place) for name, canary in canaries.items() for place, text in places.items() if canary in text}
    assert shown == set()
    assert len(key) > 40
    assert [place for place, text in places.items() if key in text] == []
    assert {
        name: held - COPIES - {PLACES[name]} for name, held in holders.items() if held - COPIES - {PLACES[name]}
    } == {}
    public = (f"{ETC}.toml", f"{ETC}.allowed_signers")
    assert [line for line in modes if not line.startswith("600 root ") and not line.endswith(public)] == []
    assert load.failures == []
    assert site.live() == old
