from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from ansible import context
from ansible.errors import AnsibleFilterError

from docs import settings as settings_page
from filter_plugins import apps, given
from hosts.scratch import PROJECT
from roles.app.filter_plugins import app_settings


def settled(defaults: dict[str, Any] | None = None, **declared: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return apps.settings(declared, defaults)


def test_settings_are_the_apps_over_the_environments_over_the_roles() -> None:
    found = settled({"keep_releases": 9, "pool_size": 2}, logbook={"keep_releases": 3})["logbook"]
    assert (found["keep_releases"], found["pool_size"], found["drain_seconds"]) == (3, 2, 30)


def test_settings_come_in_the_types_of_the_specification() -> None:
    found = settled(logbook={"domains": "a.example.com", "graceful_timeout": "30"})["logbook"]
    assert (found["domains"], found["graceful_timeout"]) == (["a.example.com"], 30)


@pytest.mark.parametrize("wrong", [{"workers": "many"}, {"wrokers": 2}, {"accept": "anything"}])
def test_a_wrong_setting_is_named_with_its_app(wrong: dict[str, Any]) -> None:
    with pytest.raises(AnsibleFilterError, match=rf"apps\.logbook\.{next(iter(wrong))} is "):
        settled(logbook=wrong)


def test_each_app_with_something_wrong_is_named() -> None:
    declared: dict[str, dict[str, Any]] = {"good": {}, "one": {"workers": "many"}, "two": {"wrokers": 2}}
    assert apps.faults(declared) == [
        "apps.one.workers is 'many', but must be a whole number.",
        "apps.two.wrokers is no setting. The nearest is 'workers': write that, or remove the line.",
    ]


GOOD: dict[str, Any] = {"repository": "/srv/git/logbook", "domains": ["a.example.com"], "env": {"SECRET_KEY": "s3cret"}}


def refusals(name: str = "logbook", **changes: Any) -> list[str]:
    """What is wrong with an app that is declared like GOOD but for `changes`."""
    settings = app_settings.complete({**GOOD, **changes})
    return app_settings.faults(settings, name, "prod", settings["env"])


def test_a_health_header_that_nginx_would_empty_is_refused() -> None:
    (found,) = apps.faults({"logbook": {"health_headers": {"X-real-ip": "s3cret", "X-Tenant": "one"}}})
    assert found.startswith("apps.logbook.health_headers: Nginx empties X-real-ip")
    assert "s3cret" not in found


def test_an_app_with_nothing_wrong_is_taken() -> None:
    assert refusals() == []
    assert refusals(allow_from=["192.0.2.7", "192.0.2.0/24", "2001:db8::/32", "::1"]) == []
    assert refusals(basic_auth=["alice:$6$abc$d/e.f", "bob:$2y$10$abc", "eve:$y$j9T$a$b"]) == []


def test_a_secret_may_be_left_to_the_host_where_there_is_one() -> None:
    made = {"SECRET_KEY": {"generate": True}, "HELLO": "x"}
    assert refusals(env=made) == []
    settings = apps.settings({"shop": {"domains": ["a.example"], "env": made}})
    assert apps.generating({**settings, **apps.settings({"other": {"env": {"A": "b"}}})}) == ["shop"]
    assert app_settings.env_file(settings["shop"]["env"]) == 'HELLO="x"\n', "its value is not the inventory's"
    assert apps.faults({"shop": {"env": made}}, hosts=1) == []
    (sentence,) = apps.faults({"shop": {"env": made}}, hosts=2)
    assert "apps.shop.env.SECRET_KEY is generated, and each of the 2 hosts would make another value." in sentence


def test_a_secret_of_the_host_is_no_reason_for_a_network() -> None:
    settings = apps.settings({"shop": {"env": {"API_KEY": {"generate": True}}}})["shop"]
    assert app_settings.network(settings) == "none"


@pytest.mark.parametrize(
    "snippet",
    [
        "location = /old {\n    return 308 /new; # } it has moved\n}",
        'location ~ "^/[0-9]{4}$" { return 410; }',
        "location /x { return 200 'a } in quotes; add_header'; }",
        "client_body_timeout 60s;\n\n# the end\n",
        'return 200 "${uri}";',
    ],
)
def test_an_ordinary_snippet_is_taken(snippet: str) -> None:
    assert refusals(nginx_snippet=snippet) == []


def test_no_app_is_called_like_a_unit_of_slipway() -> None:
    """The deployment of an app runs as slipway-<app>: of every other unit, what stands behind slipway- is reserved."""
    files = [
        path
        for pattern in ("slipway/**/*.py", "roles/*/*/*", "action_plugins/*.py")
        for path in PROJECT.glob(pattern)
        if path.is_file() and path.suffix != ".pyc"
    ]
    text = "\n".join(path.read_text() for path in files)
    before_an_app = set(re.findall(r"\bslipway-([a-z]+)-(?=[{$])", text))
    alone = set(re.findall(r"\bslipway-([a-z-]+[a-z])(?=@|\.service|\.timer|\.socket)", text))
    alone |= set(re.findall(r"(?:unit|timer)=slipway-([a-z-]+[a-z])\n", text))
    assert before_an_app == {"standby", "guard", "hold", "hook"}
    assert {"access", "access-back", "recover", "certificate"} <= alone
    for name in [f"{word}-logbook" for word in before_an_app] + sorted(alone):
        (said,) = refusals(name=name)
        assert said == f"apps: '{name}' cannot be an app's name: the system uses it. Give the app another name."
    assert refusals(name="standby") == refusals(name="accessible") == refusals(name="on-hold") == []


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"name": "log_book"}, "apps: 'log_book' cannot be an app's name: use 1 to 23 of a-z"),
        ({"name": "nginx"}, "apps: 'nginx' cannot be an app's name: the system uses it."),
        ({"name": "template1"}, "apps: 'template1' cannot be an app's name: the system uses it."),
        ({"name": "a-held"}, "apps: 'a-held' cannot be an app's name: the system uses it."),
        ({"domains": []}, "apps.logbook.domains is empty."),
        ({"env": {}, "required_env": ["SECRET_KEY"]}, "apps.logbook.env has no SECRET_KEY"),
        ({"env": {"SECRET_KEY": ""}, "required_env": ["SECRET_KEY"]}, "apps.logbook.env has no SECRET_KEY"),
        (
            {"env": {"SECRET_KEY": None}, "required_env": ["SECRET_KEY"]},
            "(inventories/prod/group_vars/prod/vault.yml).",
        ),
        ({"env": {"SECRET_KEY": "s3cret\0"}}, "apps.logbook.env.SECRET_KEY has a NUL character"),
        (
            {"env": {"SECRET_KEY": {"generate": False}}},
            ".env.SECRET_KEY: a value that the host makes is written",
        ),
        ({"env": {"SECRET_KEY": {"generate": True, "bytes": 9}}}, "is written {generate: true}, with nothing else."),
        (
            {"env": {"SECRET_KEY": "k", "DATABASE_URL": {"generate": True}}},
            "apps.logbook.env.DATABASE_URL cannot be generated. Leave it out for a database on the host.",
        ),
        (
            {"build_env": {"TOKEN": {"generate": True}}},
            "build_env.TOKEN cannot be generated: only the app gets",
        ),
        ({"credentials": ["SALT"]}, "apps.logbook.credentials has SALT, which apps.logbook.env does not have. Add it"),
        ({"env": {"SECRET_KEY": "k", "DATABASE_URL": ""}}, "apps.logbook.env.DATABASE_URL is empty."),
        (
            {"repository": "http://bob:t0ken@git.example.com/a.git"},
            "apps.logbook.repository: the repository is at git.example.com over http, where others can change what is",
        ),
        ({"repository": "git://git.example.com/a.git"}, "the repository is at git.example.com over git"),
        ({"build_packages": ["uwsgi==2.0"]}, "apps.logbook.build_packages is '['uwsgi==2.0']', but each must"),
        ({"build_packages": ["--index-url=x"]}, "each must be the name of a package"),
        ({"accept": "signed-tags"}, "apps.logbook.accept is signed-tags, but allowed_signers is empty."),
        ({"auth_check": "/api"}, "apps.logbook.auth_check is '/api', but must be a method and a path"),
        ({"auth_check": "POST /x\n"}, "but must be a method and a path"),
        ({"logbook_url": "http://a.example.com"}, "but must begin with https:// (http:// only to this host itself)"),
        ({"standby_minutes": -1}, "apps.logbook.standby_minutes is -1, but must be 0 or more."),
        (
            {"graceful_timeout": 30},
            "apps.logbook.graceful_timeout is 30, shorter than request_timeout (60): a request that Nginx still waits "
            "for would be cut when its worker is stopped. Set graceful_timeout to 60 or more, or request_timeout to 30 "
            "or less.",
        ),
        ({"request_timeout": 61}, "Set graceful_timeout to 61 or more"),
        ({"hooks": [{}]}, "apps.logbook.hooks[0] has neither command nor url. Give exactly one of the two."),
        ({"hooks": [{"command": ["true"]}]}, "apps.logbook.hooks[0].command must begin with the path of a program"),
        ({"hooks": [{"command": []}]}, "apps.logbook.hooks[0] has neither command nor url."),
        (
            {"hooks": [{"command": ["/bin/true"]}, {"command": ["/bin/true"], "url": "https://a.example/s3cret"}]},
            "apps.logbook.hooks[1] has both command and url.",
        ),
        ({"hooks": [{"url": "http://a.example/s3cret"}]}, "apps.logbook.hooks[0].url must begin with https://"),
        ({"hooks": [{"url": "https://a.example/s3 cret"}]}, "apps.logbook.hooks[0].url must begin with https://"),
        ({"hooks": [{"url": "https://a.example", "on": []}]}, "apps.logbook.hooks[0].on is empty."),
        ({"hooks": [{"url": "https://a.example", "timeout": 0}]}, "hooks[0].timeout is 0, but must be 1 or more"),
        ({"allow_from": ["192.0.2.1/24"]}, "apps.logbook.allow_from has '192.0.2.1/24', which is no address and no"),
        ({"unlimited_from": ["office"]}, "apps.logbook.unlimited_from has 'office'"),
        ({"maintenance_allow": ["2001:db8::/129"]}, "apps.logbook.maintenance_allow has '2001:db8::/129'"),
        ({"basic_auth": ["alice:s3cret"]}, "apps.logbook.basic_auth[0] is no name with a hashed password."),
        ({"basic_auth": ["alice:$1$s3cret$x"]}, "`openssl passwd -6`"),
        ({"basic_auth": ["a:$6$s3cret\nb:$6$x"]}, "apps.logbook.basic_auth[0] is no name"),
        ({"nginx_snippet": "location /x {"}, "apps.logbook.nginx_snippet has a brace without its other half"),
        ({"nginx_snippet": "}\nserver {\n}"}, "apps.logbook.nginx_snippet has a brace without its other half"),
        ({"nginx_snippet": "} server { # }"}, "apps.logbook.nginx_snippet has a brace without its other half"),
        ({"nginx_snippet": "return 404"}, "apps.logbook.nginx_snippet does not end with ';'"),
        ({"nginx_snippet": "location /x { proxy_set_header A b; }"}, "apps.logbook.nginx_snippet has proxy_set_header"),
        ({"nginx_snippet": "charset utf-8; add_header A b;"}, "apps.logbook.nginx_snippet has add_header, which would"),
        ({"nginx_snippet": "include /etc/passwd;"}, "apps.logbook.nginx_snippet has include, but"),
    ],
)
def test_what_is_wrong_with_an_app_is_one_sentence_without_a_secret(change: dict[str, Any], sentence: str) -> None:
    found = refusals(**change)
    assert len(found) == 1
    assert sentence in found[0]
    assert "s3cret" not in found[0]
    assert "s3 cret" not in found[0]


@pytest.mark.parametrize("hooks", [[{"on": "begun"}], [{"url": "s3cret", "when": 1}], ["https://a.example/s3cret"]])
def test_a_hook_that_is_no_hook_is_refused_without_a_secret(hooks: list[Any]) -> None:
    faults = apps.faults({"logbook": {"hooks": hooks}})
    assert len(faults) == 1
    assert "hooks" in faults[0]
    assert "s3cret" not in faults[0]


@pytest.mark.parametrize(
    "url",
    [
        "https://hooks.slack.com/services/T0/B0/x",
        "https://a.example:8443/x?token=y&z=%20",
        "http://127.0.0.1:9000/x",
        "http://localhost",
        "http://[::1]:9000/",
    ],
)
def test_a_webhook_is_reached_over_tls_or_on_the_host_itself(url: str) -> None:
    assert refusals(hooks=[{"url": url}]) == []


def test_the_defaults_agree_with_one_another() -> None:
    assert refusals() == []
    found = app_settings.complete({})
    assert found["graceful_timeout"] >= found["request_timeout"]


def test_an_old_name_of_a_setting_is_taken_for_the_new_one_wherever_it_stands() -> None:
    found = settled({"warm_deadline": 20, "warm_answers": 5}, old={"warm_deadline": 30}, new={"start_deadline": 40})
    assert (found["old"]["start_deadline"], found["old"]["start_answers"]) == (30, 5)
    assert (found["new"]["start_deadline"], found["new"]["start_answers"]) == (40, 5)
    assert "warm_deadline" not in found["old"]


def test_the_old_and_the_new_name_of_a_setting_together_are_refused() -> None:
    declared = {"logbook": {"warm_deadline": 20, "start_deadline": 30}}
    sentence = "apps.logbook.warm_deadline and start_deadline are the same setting. Remove warm_deadline."
    assert apps.faults(declared) == [sentence]


def test_complete_settings_are_complete_again() -> None:
    declared = {"hooks": [{True: ["opened"], "command": ["/bin/true"]}], "warm_answers": 2, "domains": "a.example.com"}
    found = app_settings.complete(declared)
    assert app_settings.complete(found) == found
    assert found["hooks"][0]["on"] == ["opened"]


def test_the_page_of_settings_is_what_the_specifications_say() -> None:
    assert settings_page.PAGE.read_text() == settings_page.page(), "run `make docs`"


def test_connections_are_slots_times_workers_times_pool_and_a_few() -> None:
    declared = settled(auto={}, fixed={"workers": 3, "pool_size": 4})
    assert apps.databases(declared, processors=6) == [
        {"name": "auto", "connections": 63, "limit": 63, "owner": "migrate", "tcp": False},
        {"name": "fixed", "connections": 27, "limit": 27, "owner": "migrate", "tcp": False},
    ]


@pytest.mark.parametrize(("processors", "workers"), [(1, 2), (2, 2), (8, 8), (64, 8)])
def test_automatic_workers_fit_into_a_server_as_it_is_installed(processors: int, workers: int) -> None:
    connections = apps.databases(settled(auto={}), processors)[0]["connections"]
    assert connections == 2 * workers * 5 + 3
    server = yaml.safe_load((PROJECT / "roles/postgresql/defaults/main.yml").read_text())
    assert connections <= 200 - server["postgresql_reserved_connections"]


def test_an_app_with_a_database_of_its_own_gets_none() -> None:
    declared = settled(external={"env": {"DATABASE_URL": "postgresql+asyncpg://db.example.com/x"}})
    assert apps.databases(declared, processors=2) == []


def test_no_role_says_the_paths_that_it_shares_with_another_one() -> None:
    shared = re.compile(r"/etc/ssl/slipway|/srv/|/var/lib/slipway/acme|/var/log/nginx/(?!error)")
    files = [path for ending in ("*.yml", "*.j2") for path in (PROJECT / "roles").rglob(ending)]
    said = [
        f"{path.relative_to(PROJECT)}: {line}"
        for path in files
        for line in path.read_text().splitlines()
        if shared.search(line) and not line.startswith("#")
    ]
    assert said == []


def test_nginx_gets_no_secret() -> None:
    secrets = {
        "env": {"SECRET_KEY": "c4n4ry"},
        "logbook_token": "c4n4ry",
        "hooks": [{"url": "https://a/c4n4ry"}],
        "basic_auth": ["alice:$6$c4n4ry"],
    }
    sites = apps.sites(settled(logbook={**secrets, "repository": "https://bob:c4n4ry@git.example.com/x.git"}))
    assert "c4n4ry" not in str(sites)


def test_a_site_goes_through_the_live_link() -> None:
    site = apps.sites(settled(logbook={"domains": ["a.example.com"]}))[0]
    assert site["upstream_socket"] == "/srv/logbook/live/http.sock"
    assert site["domains"] == ["a.example.com"]


def test_an_absent_app_is_none_of_those_that_a_host_is_given() -> None:
    declared: dict[str, dict[str, Any]] = {"shop": {}, "old": {"state": "absent"}, "never": {"state": "absent"}}
    whole = apps.settings(declared)
    assert list(apps.present(whole)) == apps.names(declared) == ["shop"]
    assert apps.absent(declared, ["old", "shop", "other"]) == ["old"]


def test_one_app_alone_takes_no_site_from_another() -> None:
    whole = settled(shop={}, ready={}, never={})
    assert list(apps.served(whole, ["shop"], ["ready", "stranger"])) == ["shop", "ready"]


def test_apps_by_where_their_certificates_come_from() -> None:
    whole = settled(a={}, b={"tls": {"provider": "acme"}}, c={"tls": {"provider": "files"}})
    assert [apps.certified_by(whole, name) for name in ("self_signed", "acme", "files")] == [["a"], ["b"], ["c"]]


@pytest.mark.parametrize(
    ("passed", "command"),
    [
        ("command=python -m app.seed --x=1 'a b'", "python -m app.seed --x=1 'a b'"),
        ("command='python -m app.seed'", "python -m app.seed"),
        ("command=ls", "ls"),
        ("command=sh -c 'exit 3", "sh -c 'exit 3"),
    ],
)
def test_a_command_is_taken_as_it_was_typed(passed: str, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context, "CLIARGS", {"extra_vars": ("app=shop", passed)})
    assert given.command("python") == command
    assert given.faults({}, {"command": "python", "_raw_params": "-m app.seed"}) == []


def test_a_command_of_a_file_of_variables_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context, "CLIARGS", {"extra_vars": ("@run.yml",)})
    assert given.command("python -m x ") == "python -m x"
