"""Values of the inventory and of the command line: the app gets what was written, or one sentence asks for quotes.

Row 17 of `cases.md` and its kind: YAML turns what is written into types, and types do not know their form.
"""

from __future__ import annotations

import datetime
import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader

from filter_plugins import apps
from hosts.scratch import PROJECT
from roles.app.filter_plugins import app_settings
from roles.app.module_utils import env_values, written
from slipway.slot import envfile
from tests.templates import render

SECRET = "SECRET_KEY: c4n4ry"


def load(tmp_path: Path, text: str) -> Any:
    """What Ansible makes of a file of an inventory."""
    path = tmp_path / "main.yml"
    path.write_text(text)
    return DataLoader().load_from_file(str(path))


def refusals(tmp_path: Path, *lines: str) -> list[str]:
    """What is wrong with an app that has such lines in its `env`."""
    declared = load(tmp_path, "\n  ".join(("domains: [a.example]", "env:", SECRET, *lines)).replace("\n  env", "\nenv"))
    settings = app_settings.complete({"repository": "/x", **declared})
    return app_settings.faults(settings, "x", "prod", settings["env"])


# What the app gets


@pytest.mark.parametrize(
    ("written_as", "given"),
    [
        ('""', ""),
        ("text", "text"),
        ('"1.10"', "1.10"),
        ("'010'", "010"),
        ("1.5", "1.5"),
        ("0", "0"),
        ("-3", "-3"),
        ("12345678901234567890", "12345678901234567890"),
        ("true", "true"),
        ("False", "false"),
        ("1.10.2", "1.10.2"),
        ("1e3", "1e3"),  # for YAML as Ansible reads it this is a text
        ('["https://a", "https://b"]', '["https://a","https://b"]'),
        ('{rate: 1.5, on: null, who: ["ü"]}', '{"rate":1.5,"true":null,"who":["ü"]}'),
        ("[]", "[]"),
        ("{}", "{}"),
        ('"a\\nb\\n"', "a\nb\n"),
        ("|\n    -----BEGIN KEY-----\n    abc\n    -----END KEY-----", "-----BEGIN KEY-----\nabc\n-----END KEY-----"),
        ("' a '", " a "),
        ("a#b=c%d", "a#b=c%d"),
        ("""'q"u\\o$t`e'""", """q"u\\o$t`e"""),
        ("!unsafe '{{ braces }}'", "{{ braces }}"),
    ],
)
def test_the_app_gets_what_is_written(tmp_path: Path, written_as: str, given: str) -> None:
    assert refusals(tmp_path, f"A: {written_as}") == []
    settings = app_settings.complete({"env": load(tmp_path, f"A: {written_as}")})
    assert envfile.parse(app_settings.env_file(settings["env"]))["A"] == given


@pytest.mark.parametrize("nothing", ["", "~", "null"])
def test_a_variable_of_null_is_left_out(tmp_path: Path, nothing: str) -> None:
    declared = load(tmp_path, f"env:\n  SENTRY_DSN: {nothing}\n  DATABASE_URL: {nothing}\n  ENV: x")
    settings = app_settings.complete(declared)
    assert settings["env"] == {"ENV": "x"}
    values = render.evaluate("{{ __app_env }}", **render.variables("app", {"env": declared["env"]}))
    assert values["DATABASE_URL"].startswith("postgresql+asyncpg://logbook@localhost/logbook?")


def test_a_required_variable_of_null_is_missing(tmp_path: Path) -> None:
    settings = app_settings.complete(
        {
            "repository": "/x",
            "domains": ["a.example"],
            "env": load(tmp_path, "SECRET_KEY:"),
            "required_env": ["SECRET_KEY"],
        }
    )
    assert "has no SECRET_KEY" in app_settings.faults(settings, "x", "prod", settings["env"])[0]


AWKWARD = {
    "QUOTES": """q"u\\o$t`e '""",
    "LINES": 'first\n second\\\n\n"third"\n$HOME # no comment\n',
    "BLANKS": "  both\t",
    "OTHERS": "# ; = %i %% !x ü 🙂 \\n \r\n",
    "EMPTY": "",
}


def test_a_shell_reads_the_file_alike(tmp_path: Path) -> None:
    path = tmp_path / "env"
    path.write_bytes(render.render("app", "env.j2", item={"variables": AWKWARD}).encode())
    program = "import json, os; print(json.dumps(dict(os.environ)))"
    script = f"set -a; . {path}; exec {sys.executable} -c {shlex.quote(program)}"
    read = json.loads(subprocess.run(["/bin/sh", "-c", script], capture_output=True, check=True).stdout)
    assert {name: read[name] for name in AWKWARD} == AWKWARD == envfile.read(path)


def test_the_variables_of_a_build_are_written_by_the_same_rule() -> None:
    settings = app_settings.complete({"build_env": {"UV_LINK": True, "UV_HTTP_TIMEOUT": 120, "NO_PROXY": None}})
    assert app_settings.env_file(settings["build_env"]) == 'UV_HTTP_TIMEOUT="120"\nUV_LINK="true"\n'
    assert "UV_" not in app_settings.toml(settings, {})


# What is refused


@pytest.mark.parametrize(
    "value", ["1.10", "010", "12:30", "22:22:22", "1_000", "0x1F", "0b11", "+5", "1.", ".5", "1.0e+3"]
)
def test_a_number_that_yaml_has_changed_is_refused(tmp_path: Path, value: str) -> None:
    (sentence,) = refusals(tmp_path, f"LIMIT: {value}")
    assert sentence.startswith(f"apps.x.env.LIMIT ({tmp_path}/main.yml, line 4) is a number that YAML does not keep")
    assert sentence.endswith("Write the value in quotes.")


@pytest.mark.parametrize("value", ["yes", "no", "NO", "on", "Off"])
def test_a_word_that_yaml_takes_for_a_boolean_is_refused(tmp_path: Path, value: str) -> None:
    (sentence,) = refusals(tmp_path, f"COUNTRY: {value}")
    assert "line 4) is written as yes, no, on or off" in sentence


@pytest.mark.parametrize("value", ["2026-11-26", "2026-11-26 10:00:00", "2026-11-26T10:00:00Z"])
def test_a_date_is_refused(tmp_path: Path, value: str) -> None:
    (sentence,) = refusals(tmp_path, f"SINCE: {value}")
    assert "line 4) is a date for YAML" in sentence


@pytest.mark.parametrize("value", [".inf", "-.inf", ".nan", "!!binary YQ==", "!!set {a, b}"])
def test_a_value_that_is_no_text_is_refused(tmp_path: Path, value: str) -> None:
    (sentence,) = refusals(tmp_path, f"A: {value}")
    assert "is neither a text nor a number" in sentence


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("VERSIONS: [1.10]", "VERSIONS[0]"),
        ("VERSIONS: {app: {minor: 1.10}}", "VERSIONS.app.minor"),
        ("COUNTRIES: [DE, NO]", "COUNTRIES[1]"),
        ("COUNTRIES: [{home: NO}]", "COUNTRIES[0].home"),
        ("DATES: [[2026-11-26]]", "DATES[0][0]"),
    ],
)
def test_a_part_of_a_list_or_mapping_is_named(tmp_path: Path, line: str, part: str) -> None:
    (sentence,) = refusals(tmp_path, line)
    assert sentence.startswith(f"apps.x.env.{part} ({tmp_path}/main.yml, line 4) is ")


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("NO: x", "apps.x.env has a variable whose name YAML takes for true or false. Write the name in quotes."),
        ("010: x", "apps.x.env has a variable whose name YAML takes for a number or a date."),
        ("MY-NAME: x", "apps.x.env.MY-NAME cannot be the name of a variable"),
        ('"A=B": x', "apps.x.env.A=B cannot be the name of a variable"),
        ('"": x', "apps.x.env. cannot be the name of a variable"),
        ('A: "s3cret\\0"', "apps.x.env.A has a NUL character"),
        (f"A: {'s3cret' * 30_000}", "apps.x.env.A has 180003 bytes, and the kernel takes at most 131072"),
    ],
)
def test_what_no_environment_can_have_is_refused(tmp_path: Path, line: str, sentence: str) -> None:
    (found,) = refusals(tmp_path, line)
    assert found.startswith(sentence)
    assert "s3cret" not in found


def test_a_text_that_is_no_unicode_is_refused() -> None:
    (found,) = env_values.faults("env", {"A": ["s3cret\ud800"]})
    assert found.startswith("env.A is not valid Unicode")


def test_a_value_behind_an_anchor_or_a_merge_is_looked_up_where_it_stands(tmp_path: Path) -> None:
    text = "common: &common {LIMIT: 1.10, PORT: &port 010}\nenv:\n  <<: *common\n  OTHER: *port\n"
    faults = list(env_values.faults("env", load(tmp_path, text)["env"]))
    assert [fault.partition(" is ")[0] for fault in faults] == [
        f"env.LIMIT ({tmp_path}/main.yml, line 1)",
        f"env.PORT ({tmp_path}/main.yml, line 1)",
        f"env.OTHER ({tmp_path}/main.yml, line 1)",
    ]


# Other settings that are texts


def undeclared(tmp_path: Path, text: str) -> list[str]:
    """What is wrong with the settings of an app, before they are completed."""
    return apps.faults({"x": load(tmp_path, text)})


@pytest.mark.parametrize(
    "argument",
    ["now", "--all", '"1.10"', "5", "1.5", "-3", '"true"', "'NO'", "1.10.2", '""', "~/x", "https://a", "1e3"],
)
def test_a_hook_gets_its_arguments_as_they_are_written(tmp_path: Path, argument: str) -> None:
    text = f"domains: [a.example]\nhooks:\n  - {{on: [closed], command: [/bin/x, {argument}]}}"
    assert undeclared(tmp_path, text) == []
    found = apps.settings({"x": load(tmp_path, text)})["x"]
    assert found["hooks"][0]["command"] == ["/bin/x", argument.strip("\"'")]
    assert app_settings.complete(found)["hooks"] == found["hooks"]


@pytest.mark.parametrize("argument", ["1.10", "010", "1_000", "0x1F", "22:22"])
def test_an_argument_of_a_hook_that_yaml_has_changed_is_refused(tmp_path: Path, argument: str) -> None:
    (found,) = undeclared(tmp_path, f"hooks:\n  - command: [/bin/x, now, {argument}]\n")
    place = f"apps.x.hooks[0].command[2] ({tmp_path}/main.yml, line 2)"
    assert found.startswith(f"{place} is a number that YAML does not keep as it is written")
    assert found.endswith("Write the value in quotes.")


@pytest.mark.parametrize(
    "argument", ["NO", "yes", "true", "2026-11-26", "~", "[a]", "{a: b}", "key: value", "!!binary YQ=="]
)
def test_an_argument_of_a_hook_that_is_no_text_is_refused(tmp_path: Path, argument: str) -> None:
    (found,) = undeclared(
        tmp_path, f"hooks:\n  - url: https://a/c4n4ry\n  - command: [/bin/x, {argument}, ok, {argument}]"
    )
    assert found.startswith("apps.x.hooks[1].command[1], hooks[1].command[3] must be a text, and YAML takes it for")
    assert found.endswith("Write it in quotes.")
    assert "c4n4ry" not in found


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("domains: 1.10", "domains ({file}, line 1) is a number that YAML"),
        ("domains: [a.example, 010]", "domains[1] ({file}, line 1) is a number that YAML"),
        ("required_env: [A, NO]", "required_env[1] must be a text"),
        ("module: yes", "module must be a text"),
        ("repository: 2026-11-26", "repository must be a text"),
        ("repository: {url: x}", "repository must be a text"),
        ("client_max_body_size: 0x10", "client_max_body_size ({file}, line 1) is a number that YAML"),
        ("tls: {provider: off}", "tls.provider must be a text"),
        ("keep_releases: 010", "keep_releases ({file}, line 1) is a number that YAML"),
        ("start_deadline: 1:30", "start_deadline ({file}, line 1) is a number that YAML"),
        ("standby_minutes: 0b11", "standby_minutes ({file}, line 1) is a number that YAML"),
    ],
)
def test_every_setting_that_is_a_text_or_a_whole_number_is_looked_at(tmp_path: Path, text: str, sentence: str) -> None:
    (found,) = undeclared(tmp_path, text)
    assert found.startswith("apps.x." + sentence.format(file=tmp_path / "main.yml"))


def test_settings_that_are_neither_texts_nor_whole_numbers_are_left_to_their_types(tmp_path: Path) -> None:
    text = "domains: a.example\nclient_max_body_size: 5\nstandby_minutes: 10\nhooks: []\n"
    assert undeclared(tmp_path, text) == []


# Where the file cannot be read, or Ansible does not say where a value comes from


WEAK = {"A": 1.1, "B": datetime.date(2026, 11, 26), "C": 8, "D": True, "E": "1.10"}


def test_without_a_file_fractions_and_dates_are_refused() -> None:
    assert [fault.split()[0] for fault in env_values.faults("env", WEAK)] == ["env.A", "env.B"]


def test_an_ansible_without_origins_checks_what_can_be_told_by_the_value(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(written, "Origin", None)
    assert len(refusals(tmp_path, "A: 1.10", "B: 010", "C: yes", "D: 2026-11-26")) == 2


def test_a_file_that_is_gone_is_no_crash(tmp_path: Path) -> None:
    found = load(tmp_path, "A: 1.10\nB: 010\n")
    (tmp_path / "main.yml").unlink()
    written._read.cache_clear()
    assert [fault.split()[0] for fault in env_values.faults("env", found)] == ["env.A"]


def test_vaults_templates_and_unsafe_values_in_a_real_run(tmp_path: Path) -> None:
    """Encrypted files are looked up in their text, and a number behind a template where it stands itself."""
    (tmp_path / "password").write_text("pw")
    group = tmp_path / "group_vars/all"
    group.mkdir(parents=True)
    programs = Path(sys.executable).parent
    vault: list[Path | str] = [programs / "ansible-vault", "--vault-password-file", tmp_path / "password"]
    encrypt = [vault[0], "encrypt_string", *vault[1:], "c4n\n4ry"]
    single = subprocess.run(encrypt, capture_output=True, check=True, text=True)
    (group / "vault.yml").write_text("vault_pin: 0123\nvault_port: 587\nvault_map: {COUNTRY: NO}\nvault_flag: true\n")
    subprocess.run([vault[0], "encrypt", *vault[1:], group / "vault.yml"], capture_output=True, check=True)
    inventory = """
both:
  env:
    PIN: "{{ vault_pin }}"
    PORT: "{{ vault_port }}"
    FLAG: "{{ vault_flag }}"
    HALF: "{{ 3 / 2 }}"
    RAW: !unsafe "{{ nothing }}"
    LIST: ["{{ vault_port }}"]
    SINGLE: """
    inventory += single.stdout.replace("\n", "\n      ").rstrip() + "\n"
    inventory += 'merged: {env: "{{ both.env | combine(vault_map) }}"}\n'
    (group / "main.yml").write_text(inventory)
    tasks = [
        {"ansible.builtin.set_fact": {"whole": "{{ {'both': both, 'merged': merged} | app_settings }}"}},
        {
            "ansible.builtin.copy": {
                "content": "{{ [item.value.env | app_env_file, item.value | app_check(item.key, 'x', {})] | to_json }}",
                "dest": f"{tmp_path}/{{{{ item.key }}}}.json",
            },
            "loop": "{{ whole | dict2items }}",
        },
    ]
    play = [{"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": tasks}]
    (tmp_path / "play.yml").write_text(yaml.safe_dump(play))
    (tmp_path / "hosts").write_text("localhost\n")
    filters = f"{PROJECT}/filter_plugins:{PROJECT}/roles/app/filter_plugins"
    done = subprocess.run(
        [programs / "ansible-playbook", "-i", "hosts", *vault[1:], "play.yml"],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "ANSIBLE_FILTER_PLUGINS": filters, "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (text, faults), (_, merged) = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("both", "merged"))
    assert {name: value for name, value in envfile.parse(text).items() if name != "PIN"} == {
        "PORT": "587",
        "FLAG": "true",
        "HALF": "1.5",
        "RAW": "{{ nothing }}",
        "LIST": "[587]",
        "SINGLE": "c4n\n4ry",
    }
    doubted = [fault.split(" is ")[0] for fault in faults if "quotes" in fault]
    assert doubted == ["apps.both.env.PIN (group_vars/all/vault.yml, line 1)"]
    doubted = [fault.split(" is ")[0] for fault in merged if "quotes" in fault]
    assert doubted[1] == "apps.merged.env.COUNTRY (group_vars/all/vault.yml, line 3)"
