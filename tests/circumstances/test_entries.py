"""Entries of `apps`: a wrong one is refused in one sentence before a host is touched, and a right one is taken.

A sentence has the key's path, the value where it is no secret, and the nearest name or form that is allowed.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader

from filter_plugins import apps
from hosts.scratch import PROJECT

LEAST = {"repository": "git@git.example.com:me/shop.git", "domains": ["shop.example.com"], "required_env": []}


def load(tmp_path: Path, text: str) -> Any:
    """What Ansible makes of a file of an inventory."""
    path = tmp_path / "main.yml"
    path.write_text(text)
    return DataLoader().load_from_file(str(path))


def refused(declared: Any, defaults: Any = None) -> list[str]:
    """What site.yml says of `apps` before it looks at a host."""
    if found := apps.faults(declared, defaults):
        return found[:1]  # the check shows the first one
    return apps.checks(apps.settings(declared, defaults), "prod")


# (lines of apps.shop, what the sentence has in it beside the path, which is that of the first key where it is not said)
WRONG: list[tuple[str, str]] = [
    # A key that nothing reads.
    ("wrokers: 2", "apps.shop.wrokers is no setting. The nearest is 'workers'"),
    ("domain: a.example.com", "apps.shop.domain is no setting. The nearest is 'domains'"),
    ("repo: git@a.example:x.git", "apps.shop.repo is no setting. The nearest is 'repository'"),
    ("environment: {A: b}", "apps.shop.environment is no setting. The nearest is 'env'"),
    ("port: 8443", "apps.shop.port is no setting. The nearest is 'https_port'"),
    ("ssl: true", "apps.shop.ssl is no setting. The nearest is 'tls'"),
    ("max_body_size: 10m", "apps.shop.max_body_size is no setting. The nearest is 'client_max_body_size'"),
    ("healthpath: /up", "apps.shop.healthpath is no setting. The nearest is 'health_path'"),
    ("keep-releases: 3", "apps.shop.keep-releases is no setting. The nearest is 'keep_releases'"),
    ("zzz: 1", "apps.shop.zzz is no setting. Remove it; docs/settings.md has all settings."),
    ("tls: {provider: acme, emial: a@example.com}", "apps.shop.tls.emial is no setting. The nearest is 'email'"),
    ("hooks: [{comand: [/bin/true]}]", "apps.shop.hooks[0].comand is no setting. The nearest is 'command'"),
    # Nothing behind a key.
    ("module:", "apps.shop.module is null: nothing stands behind its colon"),
    ("workers: null", "apps.shop.workers is null"),
    ("env:", "apps.shop.env is null"),
    ("hooks: ~", "apps.shop.hooks is null"),
    ("tls: {provider: }", "apps.shop.tls.provider is null"),
    ("needs: [jit, ]\nallow_from: [~]", "apps.shop.allow_from[0] must be a text, and YAML takes it for null"),
    # A value of another type.
    ("workers: two", "apps.shop.workers is 'two', but must be a whole number."),
    ("workers: true", "apps.shop.workers is true, but must be a whole number."),
    ("workers: [2]", "apps.shop.workers is [2], but must be a whole number."),
    ("workers: 2.5", "apps.shop.workers is 2.5, but must be a whole number."),
    ("watch_max_error_ratio: 5%", "apps.shop.watch_max_error_ratio is '5%', but must be a number."),
    ("watch_max_error_ratio: true", "apps.shop.watch_max_error_ratio is true, but must be a number."),
    ("env: [A=1]", "apps.shop.env is something else, but must be a mapping"),
    ("env: A=s3cret", "apps.shop.env is something else, but must be a mapping"),
    ("env: true", "apps.shop.env is something else, but must be a mapping"),
    ("domains: {a.example.com: true}", 'apps.shop.domains is {"a.example.com": true}, but must be a list.'),
    ("domains: true", "apps.shop.domains is true, but must be a list."),
    ("needs: {jit: true}", 'apps.shop.needs is {"jit": true}, but must be a list.'),
    ("hooks: [https://a.example/s3cret]", "apps.shop.hooks[0] is something else, but must be a mapping"),
    ("hooks: {url: https://a.example/s3cret}", "apps.shop.hooks is something else, but must be a list."),
    ("tls: acme", "apps.shop.tls is 'acme', but must be a mapping"),
    ("tls: true", "apps.shop.tls is true, but must be a mapping"),
    ("module: true", "apps.shop.module must be a text, and YAML takes it for true"),
    ("module: [app.main]", 'apps.shop.module must be a text, and not ["app.main"]'),
    ("health_path: 1.10", "apps.shop.health_path ("),
    ("repository: {url: git@a.example:s3cret.git}", "apps.shop.repository must be a text"),
    ("logbook_token: no", "apps.shop.logbook_token must be a text, and YAML takes it for something else"),
    # What is served, with the form to write where it can be told.
    ("module: app/main.py", "apps.shop.module is 'app/main.py', but must be a module and the app's name in it"),
    ("module: app/main.py ", "as 'server:create_app'. Write app.main:app."),
    ("module: ./src/shop/main.py:api", "as 'server:create_app'. Write shop.main:api."),
    ("module: app.main", "as 'server:create_app'. Write app.main:app."),
    ("module: 'app.main:'", "as 'server:create_app'. Write app.main:app."),
    ("module: app.main.app", "a function that makes the app, such as 'server:create_app'."),
    ("module: my-shop.main:app", "apps.shop.module is 'my-shop.main:app', but must be a module and the app's name"),
    ("module: uvicorn app.main:app", "apps.shop.module is 'uvicorn app.main:app', but must be a module and the"),
    # A value that is none of those that are allowed.
    ("accept: tag", "apps.shop.accept is 'tag', but must be one of tags, signed-tags, commits. The nearest is 'tags'"),
    ("accept: main", "apps.shop.accept is 'main', but must be one of tags, signed-tags, commits."),
    ("network: inbound", "apps.shop.network is 'inbound', but must be one of auto, none, outbound. The nearest"),
    ("on_incompatible: abort", "apps.shop.on_incompatible is 'abort', but must be one of stop, continue."),
    ("tls: {provider: letsencrypt}", "apps.shop.tls.provider is 'letsencrypt', but must be one of self_signed, acme"),
    ("hooks: [{command: [/bin/true], on: [close]}]", "apps.shop.hooks[0].on[0] is something else, but must be one of"),
    ("needs: [gpu]", "apps.shop.needs is '['gpu']', but every word must be one of"),
    # What a form alone cannot say.
    ("domains: []", "apps.shop.domains is empty"),
    ("domains: [a.example.com, A.example.com]", "apps.shop.domains has 'A.example.com' twice"),
    ('repository: ""', "apps.shop.repository is not set. Set it to the URL of the app's git repository"),
    ('repository: "git@a.example:x.git "', "apps.shop.repository has a blank in it"),
    ("repository: http://a.example/x.git", "apps.shop.repository: the repository is at a.example over http"),
    ("client_max_body_size: 10 MB", "apps.shop.client_max_body_size is '10 MB', but must be a number with k, m or g"),
    ("client_max_body_size: 10MB", "directly behind it. Write 10m."),
    ("client_max_body_size: 1.5g", "apps.shop.client_max_body_size is '1.5g'"),
    ("client_max_body_size: unlimited", "apps.shop.client_max_body_size is 'unlimited'"),
    ("https_port: 70000", "apps.shop.https_port is 70000, but must be a port"),
    ("https_port: 0", "apps.shop.https_port is 0, but must be a port"),
    ("workers: -1", "apps.shop.workers is -1, but must be 0 or more"),
    (
        "module: app/main.py",
        "apps.shop.module is 'app/main.py', but must be a module and the app's name in it, such as",
    ),
    ("health: health", "apps.shop.health_path is 'health', but must be a path of the app"),
    ("health: true", "apps.shop.health is true. Write the path, such as /health, or a mapping with path"),
    ("health: {pth: /up}", "apps.shop.health.pth is no setting. The nearest is 'path'"),
    ("health_path: health", "apps.shop.health_path is 'health', but must be a path of the app"),
    ("health_path: https://a.example/up", "apps.shop.health_path is 'https://a.example/up'"),
    ("health_host: b.example.com", "apps.shop.health_host is 'b.example.com', which is none of the app's domains"),
    ("env: {MY-VAR: s3cret}", "apps.shop.env.MY-VAR cannot be the name of a variable: use letters, digits and"),
    ("env: {1ST: s3cret}", "apps.shop.env.1ST cannot be the name of a variable"),
    ("env: {DEBUG: yes}", "apps.shop.env.DEBUG ("),
    ("env: {PIN: 0123}", "apps.shop.env.PIN ("),
    ("env: {KEY: {generate: yes please}}", "apps.shop.env.KEY: a value that the host makes is written"),
    ("required_env: [MY-VAR]", "apps.shop.required_env has 'MY-VAR', which cannot be the name of a variable"),
    ("required_env: [TOKEN]", "apps.shop.env has no TOKEN, which the app requires"),
    ("credentials: [TOKEN]", "apps.shop.credentials has TOKEN, which apps.shop.env does not have"),
    ("accept: signed-tags", "apps.shop.accept is signed-tags, but allowed_signers is empty"),
    ("writable_paths: [../uploads]", "apps.shop.writable_paths is '['../uploads']', but each must be the absolute"),
    ("writable_paths: [/srv/../etc]", "apps.shop.writable_paths is '['/srv/../etc']', but each must be the absolute"),
    ("writable_paths: [/etc/shop]", "and none of the system's"),
    ("auth_check: /api", "apps.shop.auth_check is '/api', but must be a method and a path"),
    ("graceful_timeout: 10", "apps.shop.graceful_timeout is 10, shorter than request_timeout (60)"),
    ("allow_from: [office]", "apps.shop.allow_from has 'office', which is no address and no network"),
    ("basic_auth: [alice:s3cret]", "apps.shop.basic_auth[0] is no name with a hashed password"),
    ("nginx_snippet: return 404", "apps.shop.nginx_snippet does not end with ';'"),
    ("logbook_url: http://a.example.com", "apps.shop.logbook_url is 'http://a.example.com', but must begin with https"),
    # A database, migrations, files and builds.
    ("database: mongodb", "apps.shop.database is 'mongodb', but must be one of"),
    ("database: true", "apps.shop.database is True."),
    ("database: [postgresql]", "apps.shop.database is ['postgresql']"),
    ("database: {urll: DATABASE_URL}", "apps.shop.database.urll is no setting. The nearest is 'url'"),
    ("database: {host: POSTGRES_SERVER, usr: POSTGRES_USER}", "apps.shop.database.usr is no setting. The nearest is"),
    ("database: {url: MY-URL}", "'MY-URL' cannot be the name of a variable"),
    ("database: {url: 'postgresql://a:s3cret@b/c'}", "apps.shop.database.url is the name of the variable"),
    ("database: {connections: many}", "apps.shop.database.connections is 'many', but must be a number"),
    ("migrate: true", "apps.shop.migrate is true. Leave it out for alembic"),
    ("migrate: {run: aerich upgrade}", "apps.shop.migrate is {'run': 'aerich upgrade'}, but must be"),
    ('migrate: "aerich \'upgrade"', 'apps.shop.migrate has "aerich \'upgrade", in which a quote is not closed'),
    ("after_migrate: {a: b}", "apps.shop.after_migrate is {'a': 'b'}, but must be a list of commands"),
    ("data: [/var/uploads]", "apps.shop.data has '/var/uploads', but must have paths below `directory`"),
    ("data: [../uploads]", "apps.shop.data has '../uploads', but must have paths below `directory`"),
    ("data: true", "apps.shop.data is True, but must be a list of paths"),
    ("static: {/static/: ../x}", "apps.shop.static has '../x' for /static/, but must have paths below `directory`"),
    ("static: 5", "apps.shop.static has 5, but must be a list of paths"),
    ("directory: /srv/app", "apps.shop.directory is '/srv/app', but must be the path of a directory in the repository"),
    ("directory: ../app", "apps.shop.directory is '../app', but must be the path of a directory in the repository"),
    ('python: "2.7"', 'apps.shop.python is "2.7", but must be a version in quotes'),
    ("python: python3.12", 'apps.shop.python is "python3.12", but must be a version in quotes'),
    ("lock: ../uv.lock", "apps.shop.lock is '../uv.lock', but must be the path of a file in the repository"),
    ("packages: [libldap2-dev build-essential]", "apps.shop.packages has 'libldap2-dev build-essential'"),
    ("build: {a: npm}", 'apps.shop.build is {"a": "npm"}, but must be a list.'),
    ("artefacts: [{url: x}]", "apps.shop.artefacts is"),
    ("allow_unpinned: maybe", "apps.shop.allow_unpinned is 'maybe', but must be true or false."),
    ("extras: {a: b}", 'apps.shop.extras is {"a": "b"}, but must be a list.'),
    # Processes and schedules.
    ("processes: {worker: }", "apps.shop.processes.worker is null, but must be a command"),
    ("processes: {worker: {rnu: x}}", "apps.shop.processes.worker.rnu is no setting. The nearest is 'run'"),
    ("processes: {worker: {run: x, count: -1}}", "apps.shop.processes.worker.count is -1, but must be a whole number"),
    ("processes: {Worker_1: x}", "apps.shop.processes.Worker_1 cannot be a name"),
    ("processes: [worker]", 'apps.shop.processes is ["worker"], but must be a mapping'),
    ("processes: true", "apps.shop.processes is true, but must be a mapping"),
    ("schedule: {nightly: {run: x}}", "apps.shop.schedule.nightly.at is missing"),
    ("schedule: {nightly: {run: x, at: 99 * * * *}}", "apps.shop.schedule.nightly.at is '99 * * * *'"),
    ("schedule: {nightly: {run: x, at: sometimes}}", "apps.shop.schedule.nightly.at is 'sometimes'"),
    ("schedule: {nightly: {run: x, at: daily, catchup: true}}", "apps.shop.schedule.nightly.catchup is no setting."),
    ("overlap: slot", "apps.shop.overlap is 'slot', but must be one of slots, none. The nearest is 'slots'"),
    ("warm_deadline: 5\nstart_deadline: 6", "apps.shop.warm_deadline and start_deadline are the same setting"),
]


@pytest.mark.parametrize(("lines", "said"), WRONG, ids=[lines.replace("\n", "; ") for lines, _ in WRONG])
def test_a_wrong_entry_is_refused_in_one_sentence(tmp_path: Path, lines: str, said: str) -> None:
    declared = load(tmp_path, lines)
    found = refused({"shop": {**LEAST, **declared}})
    assert len(found) == 1, found
    assert found[0].startswith("apps.shop"), found[0]
    assert said in found[0]
    assert "s3cret" not in found[0]
    assert found[0].rstrip().endswith((".", "}", "=")), found[0]


# `apps` itself, and several of them.
WRONG_APPS: list[tuple[str, str]] = [
    ("apps:", "'apps' must be a mapping of app names to their settings"),
    ("apps: {}", "'apps' must be a mapping of app names to their settings"),
    ("apps: [shop]", "'apps' must be a mapping of app names to their settings"),
    ("apps: shop", "'apps' must be a mapping of app names to their settings"),
    ("apps: {shop: }", "apps.shop is null, but must be a mapping of settings"),
    ("apps: {shop: git@a.example:s3cret.git}", "apps.shop is something else, but must be a mapping of settings"),
    ("apps: {shop: [1]}", "apps.shop is [1], but must be a mapping of settings"),
    ("apps: {no: {domains: [a.example]}}", "apps has an app whose name YAML takes for false. Write the name in quotes"),
    ("apps: {1: {domains: [a.example]}}", "apps has an app whose name YAML takes for 1."),
    ("apps: {Shop: *least}", "apps: 'Shop' cannot be an app's name: use 1 to 23 of a-z"),
    ("apps: {my_shop: *least}", "apps: 'my_shop' cannot be an app's name"),
    ("apps: {nginx: *least}", "apps: 'nginx' cannot be an app's name: the system uses it"),
    ("apps: {shop: {domains: [a.example], required_env: []}}", "apps.shop.repository is not set."),
    ("apps: {shop: *least, stop: *least}", "apps.stop.domains has 'shop.example.com', and so has apps.shop.domains."),
    ("apps: {shop: *least}\napp_defaults: [1]", "app_defaults is [1], but must be a mapping of settings for all apps"),
    ("apps: {shop: *least}\napp_defaults: {keep_release: 3}", "app_defaults.keep_release is no setting. The nearest"),
    ("apps: {shop: *least}\napp_defaults: {workers: many}", "app_defaults.workers is 'many', but must be a whole"),
    (
        "apps: {shop: {<<: *least, writable_paths: [/mnt/a]}, b: {repository: /x, domains: [b.example], "
        "writable_paths: [/mnt/a/b], required_env: []}}",
        "apps.b.writable_paths has /mnt/a/b, which is inside of /mnt/a of apps.shop.",
    ),
]


@pytest.mark.parametrize(("text", "said"), WRONG_APPS, ids=[text.replace("\n", "; ") for text, _ in WRONG_APPS])
def test_wrong_apps_are_refused_in_one_sentence(tmp_path: Path, text: str, said: str) -> None:
    found = load(tmp_path, f"least: &least {json.dumps(LEAST)}\n{text}\n")
    sentences = refused(found["apps"], found.get("app_defaults"))
    assert len(sentences) == 1, sentences
    assert sentences[0].startswith(said)
    assert "s3cret" not in sentences[0]


def test_there_are_enough_of_them() -> None:
    assert len(WRONG) + len(WRONG_APPS) >= 70


RIGHT = [
    "database: none",
    "database: sqlite",
    "database: {scheme: postgresql+psycopg, owner: app}",
    "database: {host: POSTGRES_SERVER, user: POSTGRES_USER, password: POSTGRES_PASSWORD, name: POSTGRES_DB}",
    "env: {DATABASE_URL: 'mysql+aiomysql://a:b@db.example.com/c'}",
    "migrate: false",
    "migrate: aerich upgrade",
    "after_migrate: [python app/initial_data.py]",
    "data: [logs/, uploads]",
    "static: [assets/]",
    "static: {/static/: app/static/}",
    "directory: backend",
    'python: "3.11"',
    "lock: requirements/prod.txt",
    "packages: [libldap2-dev]",
    "build: [npm ci, npm run build]",
    "allow_unpinned: true",
    "state: present",
    "processes: {worker: arq core.worker.Settings, beat: {run: celery -A core beat, count: 1}}",
    "schedule: {nightly: {run: python -m app.clean, at: 0 3 * * *}}",
    "overlap: none",
    "{}",
    "domains: shop.example.com",
    "domains: [shop.example.com, www.shop.example.com, 192.0.2.7]",
    "domains: shop.example.com, www.shop.example.com",
    "workers: 1",
    'workers: "3"',
    "watch_max_error_ratio: 0.1",
    "watch_max_error_ratio: 1",
    "client_max_body_size: 10m",
    "client_max_body_size: 1G",
    "client_max_body_size: 0",
    'client_max_body_size: "512k"',
    "env: {}",
    "env: {A: b, LIST: [1, 2], MAP: {a: b}, FLAG: true, NUMBER: 5, NOTHING: null}",
    "env: {KEY: {generate: true}}",
    "required_env: [KEY]\nenv: {KEY: x}",
    "required_env: DATABASE_URL",
    "repository: /srv/git/shop",
    "repository: ../shop",
    'repository: "."',
    "repository: https://git.example.com/me/shop.git",
    "repository: ssh://git@git.example.com/me/shop.git",
    "accept: commits",
    "tls: {provider: acme, email: a@example.com}",
    "tls: {}",
    "needs: jit",
    "needs: [jit, psutil]",
    "health_path: /",
    "health_path: /api/v1/utils/health-check/",
    "health_path: /up?full=1",
    "health_host: shop.example.com",
    "health_headers: {X-Token: abc}",
    "hooks: []",
    "hooks: [{command: [/bin/true]}]",
    "hooks: [{url: https://a.example, on: [opened, closed], format: slack}]",
    "allow_from: 192.0.2.0/24",
    "writable_paths: [/mnt/uploads]",
    "module: server.main:create_app",
    "module: server:create_app('prod')",
    "health: /up",
    "health: {path: /up, status: [200, 429], every: 2}",
    "https_port: 8443",
    "nginx_snippet: ''",
    "build_env: {UV_HTTP_TIMEOUT: 120}",
    "warm_deadline: 20",
    "logbook_token: ''",
]


@pytest.mark.parametrize("lines", RIGHT, ids=[lines.replace("\n", "; ") for lines in RIGHT])
def test_a_right_entry_is_taken(tmp_path: Path, lines: str) -> None:
    assert refused({"shop": {**LEAST, **load(tmp_path, lines)}}) == []


def test_the_bundled_app_needs_no_repository_and_every_other_does() -> None:
    entry = {"domains": ["a.example.com"], "required_env": []}
    assert refused({"logbook": entry}) == []
    assert apps.settings({"logbook": entry})["logbook"]["repository"] == "."
    assert apps.settings({"logbook": entry}, {"repository": "/x"})["logbook"]["repository"] == "/x"
    assert apps.settings({"logbook": {"domains": ["a.example.com"]}})["logbook"]["required_env"] == ["SECRET_KEY"]
    assert refused({"notebook": entry})[0].startswith("apps.notebook.repository is not set.")
    assert refused({"notebook": entry}, {"repository": "git@a.example:x.git"}) == []


@pytest.mark.parametrize("environment", ["prod", "staging"])
def test_the_examples_of_the_inventories_say_where_the_bundled_app_is(environment: str) -> None:
    path = PROJECT / f"inventories/{environment}/group_vars/{environment}/main.yml"
    assert yaml.safe_load(path.read_text())["apps"]["logbook"]["repository"] == "."


def play(tmp_path: Path, inventory: dict[str, Any], playbook: str, *arguments: str) -> str:
    """What a playbook prints that must not reach its host, which no network has."""
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump(inventory))
    done = subprocess.run(
        [Path(sys.executable).with_name("ansible-playbook"), "-i", str(tmp_path / "hosts.yml"), playbook, *arguments],
        cwd=PROJECT,
        env={
            **os.environ,
            "ANSIBLE_LOCALHOST_WARNING": "false",
            "ANSIBLE_DEPRECATION_WARNINGS": "false",
            "COLUMNS": "500",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0, done.stdout
    return re.sub(r"\s+", " ", done.stdout + done.stderr)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("wrokers: 2", "apps.shop.wrokers is no setting. The nearest is 'workers'"),
        ("client_max_body_size: 10 MB", "apps.shop.client_max_body_size is '10 MB'"),
        ('repository: ""', "apps.shop.repository is not set."),
    ],
)
def test_site_refuses_it_before_it_reaches_for_the_host(tmp_path: Path, lines: str, said: str) -> None:
    entry = {**LEAST, **yaml.safe_load(lines)}
    host = {"ansible_host": "192.0.2.1", "ansible_connection": "local", "ansible_python_interpreter": "/nowhere"}
    inventory = {"prod": {"hosts": {"web-1": host}, "vars": {"apps": {"shop": entry}}}}
    output = play(tmp_path, inventory, "site.yml", "-l", "prod")
    assert said in output
    assert "Look at the host" not in output
