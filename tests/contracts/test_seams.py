"""What the parts of Slipway rely on in one another, held to both sides."""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import ansible
import pytest
import yaml
from pydantic import AnyUrl

from app.main import create_app
from app.settings import Settings
from filter_plugins import apps
from hosts import host, scratch
from roles.app.filter_plugins import app_settings
from roles.app.module_utils import database
from roles.release.action_plugins import slipway as plugin
from slipway.base import settings as config
from slipway.slot import envfile
from tests.templates import render

PROJECT = scratch.PROJECT
ROLE = PROJECT / "roles/app"


def _render(template: str, settings: Mapping[str, Any] | None = None, **changes: Any) -> str:
    return render.render("app", template, settings, **changes)


def test_the_engine_reads_the_settings_that_the_role_writes() -> None:
    settings = config.parse(tomllib.loads(_render("app.toml.j2")), source="app.toml.j2")
    assert settings.app == "logbook"
    assert settings.workers == 4
    assert settings.required_env == ["DATABASE_URL", "SECRET_KEY"]
    assert settings.watch_url == "https://logbook.example.com/health/ready"


def test_the_engine_takes_the_choices_that_can_be_declared() -> None:
    hints = {name: hint for name, hint in get_type_hints(config.Settings).items() if get_origin(hint) is Literal}
    declared = {name: option["choices"] for name, option in app_settings.specification().items() if "choices" in option}
    hints = {name: hint for name, hint in hints.items() if not name.startswith("database")}  # decided by the role
    declared.pop("state")  # the engine has no settings of an app that is absent
    # The role has decided it, and knows a network of the host alone.
    declared["network"] = ["loopback" if choice == "auto" else choice for choice in declared["network"]]
    hints["network"] = Literal["loopback", "none", "outbound"]
    assert {name: list(get_args(hint)) for name, hint in hints.items()} == declared


@pytest.mark.parametrize("name", sorted(app_settings.specification()))
def test_a_role_a_playbook_or_the_engine_reads_every_setting(name: str) -> None:
    roles = [path for ending in ("tasks/*.yml", "templates/*.j2") for path in (PROJECT / "roles").glob(f"*/{ending}")]
    places = [*roles, ROLE / "vars/main.yml", *(PROJECT / "playbooks").rglob("*.yml")]
    places += [
        PROJECT / "filter_plugins/apps.py",
        ROLE / "filter_plugins/pythons.py",
        ROLE / "filter_plugins/app_settings.py",
        ROLE / "module_utils/health_setting.py",
    ]
    text = "".join(path.read_text() for path in places)
    forms = (
        rf"""(__app_settings|site|declared_apps\[\w+\])\.{name}\b|(app|settings|found)\["{name}"\]|app_{name}_file\b"""
    )
    assert re.search(forms, text) or name in config.Settings.__dataclass_fields__


def test_a_port_that_is_forwarded_is_part_of_the_url() -> None:
    values = tomllib.loads(_render("app.toml.j2", settings={"https_port": 8443}))
    assert values["watch_url"] == "https://logbook.example.com:8443/health/ready"
    assert values["watch_port"] == 443


def test_an_ipv6_address_stands_in_brackets_in_the_url() -> None:
    values = tomllib.loads(_render("app.toml.j2", settings={"domains": ["2001:db8::1"]}))
    assert values["watch_url"] == "https://[2001:db8::1]/health/ready"


@pytest.mark.parametrize("processors", [1, 4, 64])
def test_the_workers_that_run_are_those_that_the_connections_are_counted_for(processors: int) -> None:
    facts = {"processor_vcpus": processors, "architecture": "x86_64"}
    running = tomllib.loads(_render("app.toml.j2", ansible_facts=facts))["workers"]
    counted = apps.databases(
        {"logbook": {"workers": 0, "pool_size": 1, "env": {}, "database": database.whole("", {})}}, processors
    )[0]["connections"]
    assert counted == apps.SLOTS * running + apps.TOOLS


def test_no_secret_is_in_the_engines_settings() -> None:
    secrets = {
        "env": {"SECRET_KEY": "c4n4ry"},
        "logbook_token": "c4n4ry",
        "hooks": [{"url": "https://hooks.example.com/c4n4ry"}],
        "build_env": {"UV_DEFAULT_INDEX": "https://bob:c4n4ry@pypi.example.com/simple"},
        "repository": "https://bob:c4n4ry@git.example.com/logbook.git",
    }
    text = _render("app.toml.j2", settings=secrets)
    assert "c4n4ry" not in text
    assert {"env", "logbook_token", "hooks", "build_env"}.isdisjoint(tomllib.loads(text))


def test_the_engine_reads_what_was_declared_whatever_characters_it_has() -> None:
    awkward = 'a"b\\c\td\x7f ünï 🙂'
    read = config.parse(tomllib.loads(_render("app.toml.j2", settings={"logbook_ca": awkward})), source="test")
    assert read.logbook_ca == awkward


@pytest.mark.parametrize(
    ("repository", "shown"),
    [
        (".", "https://logbook.example.com/"),
        ("../logbook", "https://logbook.example.com/"),
        ("https://git.example.com/logbook.git", "https://git.example.com/logbook.git"),
        ("https://bob:t0ken@git.example.com/logbook.git", "https://git.example.com/logbook.git"),
        ("git@git.example.com:team/logbook.git", "ssh://git@git.example.com/team/logbook.git"),
        ("ssh://git@git.example.com:2222/logbook.git", "ssh://git@git.example.com:2222/logbook.git"),
    ],
)
def test_the_logbook_is_given_a_url_of_the_repository_without_a_secret_in_it(repository: str, shown: str) -> None:
    values = tomllib.loads(_render("app.toml.j2", settings={"repository": repository}))
    assert values["logbook_repository_url"] == shown
    AnyUrl(shown)


def test_the_files_with_secrets_are_where_the_engine_reads_them_and_for_root_alone() -> None:
    settings = config.parse(tomllib.loads(_render("app.toml.j2")), source="test")
    task = next(item for item in yaml.safe_load((ROLE / "tasks/settings.yml").read_text()) if "secrets" in item["name"])
    files = [item for item in task["slipway_files"]["files"] if item["dest"].startswith("/etc/slipway/")]
    paths = [item["dest"].replace("{{ app_name }}", "logbook") for item in files]
    read = (
        settings.logbook_token_file,
        settings.hooks_file,
        settings.health_headers_file,
        settings.build_env_file,
    )
    assert paths == [str(path) for path in read]
    assert task["no_log"] is True
    assert [(item.get("owner", "root"), item.get("group", "root"), item["mode"]) for item in files] == [
        ("root", "root", 600)
    ] * 4


def test_the_file_of_hooks_has_every_key_of_each() -> None:
    hooks = [
        {"command": ["/usr/local/bin/announce", "now"], True: ["opened", "closed"]},
        {"url": "https://a.example/x"},
    ]
    written = json.loads(app_settings.hooks_file(app_settings.complete({"hooks": hooks})))
    assert written == {
        "version": 1,
        "hooks": [
            {
                "on": ["opened", "closed"],
                "command": ["/usr/local/bin/announce", "now"],
                "url": "",
                "format": "json",
                "timeout": 10,
            },
            {"on": ["closed"], "command": None, "url": "https://a.example/x", "format": "json", "timeout": 10},
        ],
    }


def test_molecule_starts_hosts_with_the_flags_that_the_demo_starts_them_with() -> None:
    scenario = yaml.safe_load((PROJECT / "molecule/default/molecule.yml").read_text())
    flags = host.FLAGS
    for platform in scenario["platforms"]:
        assert flags.count("--cap-add") == len(platform["capabilities"])
        assert set(platform["capabilities"] + platform["security_opts"] + platform["tmpfs"]) <= set(flags)
        assert flags.count("--security-opt") == len(platform["security_opts"])
        assert flags.count("--tmpfs") == len(platform["tmpfs"])
        assert f"container={platform['env']['container']}" in flags


def test_the_engine_reads_the_environment_that_the_role_writes() -> None:
    awkward = {"A": 'q"u\\o$t`e', "B": "spaces and #", "C": "", "D": "ünï", "E": "'single'"}
    text = _render("env.j2", item={"variables": awkward})
    assert envfile.parse(text) == awkward


def test_the_app_starts_with_the_environment_that_the_role_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"env": {"SECRET_KEY": "0123456789abcdef" * 4}}
    variables = render.evaluate("{{ __app_env }}", **render.variables("app", settings))
    for name in list(os.environ):
        if name in {field.upper() for field in Settings.model_fields}:
            monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    read = Settings(_env_file=None)
    assert read.env == "production"
    assert read.database_url == "postgresql+asyncpg://logbook@localhost/logbook?host=/run/postgresql"
    assert read.database_pool_size == 5


def test_the_variables_that_the_engine_adds_are_ones_that_the_app_reads() -> None:
    added = re.findall(r'"(RELEASE_[A-Z]+)"', (PROJECT / "slipway/slot/slots.py").read_text())
    assert added
    assert {name.lower() for name in added} <= set(Settings.model_fields)


def test_the_app_has_the_health_path_that_is_asked_by_default() -> None:
    defaults = app_settings.complete({})
    paths = create_app(Settings(_env_file=None)).openapi()["paths"]
    assert defaults["health_path"] in paths


def test_slot_inputs_are_files_that_the_role_writes() -> None:
    settings = config.parse(tomllib.loads(_render("app.toml.j2")), source="test")
    written = "".join((ROLE / "tasks" / name).read_text() for name in ("settings.yml", "units.yml"))
    for path in settings.slot_inputs:
        if path == settings.generated_env_file:
            continue  # the engine's own
        assert path.name.replace("logbook", "{{ app_name }}") in written


def test_the_program_is_where_the_units_and_the_plugin_look_for_it() -> None:
    assert f"dest: {plugin.PROGRAM}\n" in (ROLE / "tasks/engine.yml").read_text()
    assert f"ExecStart={plugin.PROGRAM} recover %i" in _render("slipway-recover@.service.j2")


def test_nothing_in_production_reloads_or_creates_tables() -> None:
    deployed = [*ROLE.rglob("*.j2"), *(PROJECT / "app").rglob("*.py"), *(PROJECT / "slipway").rglob("*.py")]
    deployed = [path for path in deployed if path.parent.name != "inspect"]  # it looks for these words in others' apps
    assert [str(path) for path in deployed if re.search(r"create_all\(|--reload", path.read_text())] == []


def test_requirements_are_what_the_ansible_package_bundles() -> None:
    root = Path(ansible.__file__).parents[1] / "ansible_collections"
    for item in yaml.safe_load((PROJECT / "requirements.yml").read_text())["collections"]:
        bundled = yaml.safe_load((root / item["name"].replace(".", "/") / "MANIFEST.json").read_text())
        assert bundled["collection_info"]["version"] == item["version"], item["name"]


def test_every_collection_that_is_used_is_required() -> None:
    required = {item["name"] for item in yaml.safe_load((PROJECT / "requirements.yml").read_text())["collections"]}
    places = [PROJECT / "roles", PROJECT / "playbooks", PROJECT / "molecule", PROJECT / "ansible.cfg"]
    files = [path for place in places for path in ([place] if place.is_file() else place.rglob("*.yml"))]
    used = set(re.findall(r"\b(community\.\w+|ansible\.posix)\.\w+", "".join(path.read_text() for path in files)))
    assert used <= required


def test_uv_is_the_same_version_everywhere() -> None:
    makefile = (PROJECT / "hosts/uv.txt").read_text()
    role = yaml.safe_load((ROLE / "vars/main.yml").read_text())
    assert f"uv=={role['__app_uv_version']} " in makefile
    for wheel in role["__app_uv_wheels"].values():
        assert wheel["sha256"] in makefile
        assert f"uv-{role['__app_uv_version']}-" in wheel["path"]


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({}, {"ENV": "production"}),
        ({"environment_variable": "APP_ENV"}, {"APP_ENV": "production"}),
        ({"environment_variable": ""}, {}),
        ({"env": {"SECRET_KEY": "x", "ENV": "prod"}}, {"ENV": "prod"}),
    ],
)
def test_the_variable_that_says_production_is_the_one_that_is_set(
    settings: dict[str, Any], found: dict[str, str]
) -> None:
    variables = render.evaluate("{{ __app_env }}", **render.variables("app", settings))
    assert {name: value for name, value in variables.items() if name in ("ENV", "APP_ENV")} == found
