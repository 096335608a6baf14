"""The settings `services` and `secrets`: their whole forms, what they mean for the host, and what is refused."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from filter_plugins import apps
from hosts.products import redis_server
from hosts.scratch import PROJECT
from roles.app.filter_plugins import app_settings
from roles.app.module_utils import services
from roles.redis.filter_plugins import redis_files
from slipway.base.errors import RefusedError
from slipway.slot import envfile
from tests.templates import render

from .test_database import facts, settled

SECRETS = {services.PASSWORD: "p4ss"}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ([], {}),
        (["redis"], {"REDIS_URL": "redis://:p4ss@127.0.0.1:20001/0"}),
        ("redis", {"REDIS_URL": "redis://:p4ss@127.0.0.1:20001/0"}),
        ({"redis": "BROKER"}, {"BROKER": "redis://:p4ss@127.0.0.1:20001/0"}),
        (
            {"redis": {"url": ["BROKER", "RESULTS"], "scheme": "redis+socket"}},
            dict.fromkeys(("BROKER", "RESULTS"), "redis+socket://:p4ss@/run/logbook.redis/redis.sock"),
        ),
        ({"redis": {"scheme": "unix"}}, {"REDIS_URL": "unix://:p4ss@/run/logbook.redis/redis.sock?db=0"}),
        ({"redis": {"host": "R_HOST", "port": "R_PORT"}}, {"R_HOST": "127.0.0.1", "R_PORT": "20001"}),
        (
            {"redis": {"host": "R_HOST", "password": "R_PASSWORD", "url": "R_URL"}},
            {"R_HOST": "127.0.0.1", "R_PASSWORD": "p4ss", "R_URL": "redis://:p4ss@127.0.0.1:20001/0"},
        ),
    ],
)
def test_an_app_gets_its_redis_by_the_names_that_it_reads(
    value: Any, expected: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services, "port", lambda *_: 20001)
    whole = services.whole(value)
    assert services.whole(whole) == whole, "it stays as it is"
    assert envfile.filled(facts(services=value)["filled_env"], SECRETS) == expected


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (["rabbitmq"], "services has 'rabbitmq', but must be one of redis"),
        ({"redis": {"urls": "X"}}, "services.redis has 'urls', but it has only url"),
        ({"redis": {"url": "redis://x"}}, "'redis://x' cannot be the name of a variable"),
        ({"redis": {"memory_mb": "64m"}}, "services.redis.memory_mb is '64m'"),
        ({"redis": {"eviction": "lru"}}, "services.redis.eviction is 'lru', but must be one of noeviction"),
        ({"redis": {"memory_mb": True}}, "services.redis.memory_mb is true, but must be a whole number from 1 to"),
        (
            {"redis": {"tcp_port": 99999}},
            "services.redis.tcp_port is 99999, but must be a whole number from 1024",
        ),
        ({"redis": {"parts": "x"}}, "services.redis.parts is 'x'. Write [redis]"),
        ({"redis": {"url": 5}}, "services.redis: '5' cannot be the name of a variable"),
        ([{"redis": {"memory_mb": 64}}], "services has a list with a mapping in it. Write [redis], or {redis: {url"),
        (5, "services is 5"),
    ],
)
def test_what_services_cannot_be_is_one_sentence(value: Any, sentence: str) -> None:
    with pytest.raises(RefusedError) as refused:
        services.whole(value)
    assert sentence in str(refused.value)


def test_only_what_a_socket_cannot_do_opens_the_network() -> None:
    assert facts(services=["redis"])["network"] == "loopback"
    assert facts(services={"redis": {"scheme": "unix"}})["network"] == "none"
    found = render.render("access", "firewall.nft.j2", {"services": {"redis": {"tcp_port": 20007}}})
    assert 'oifname "lo" tcp dport { 20007 } accept' in found


def test_a_redis_without_a_password_is_for_the_app_alone() -> None:
    found = render.render("access", "firewall.nft.j2", {"services": {"redis": {"host": "R", "tcp_port": 20007}}})
    assert 'oifname "lo" tcp dport 20007 meta skuid != { 0, 990, 992 } reject with icmpx' in found
    found = render.render("access", "firewall.nft.j2", {"services": {"redis": {"tcp_port": 20007}}})
    assert "tcp dport 20007 meta skuid" not in found


def test_two_apps_on_one_port_are_told() -> None:
    both = {name: {**settled(), "services": services.whole({"redis": {"tcp_port": 20007}})} for name in ("a", "b")}
    assert [line for line in apps.checks(both, "prod") if "same port" in line] == list(services.twice(both))
    assert "Set apps.b.services.redis.tcp_port to another one." in next(services.twice(both))
    assert services.port({"tcp_port": 0}, "shop") == services.port({"tcp_port": 0}, "shop")


def test_a_variable_that_the_host_sets_is_not_set_in_env() -> None:
    settings = settled(services=["redis"], env={"SECRET_KEY": "x", "REDIS_URL": "redis://other"})
    (sentence,) = app_settings.faults(settings, "logbook", "prod", {"SECRET_KEY": "x"})
    assert sentence.startswith("apps.logbook.env.REDIS_URL is set, and so is apps.logbook.services")


def test_what_redis_is_started_with_is_what_redis_takes(tmp_path: Path) -> None:
    program = redis_server()
    if program is None and os.environ.get("SLIPWAY_QUICK") == "1":
        pytest.skip("needs redis-server")
    assert program, "run `make prepare`, or apt-get install redis-tools"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number = free.getsockname()[1]
    (server,) = services.instances({"shop": {"services": services.whole({"redis": {"tcp_port": number}})}})
    text = redis_files.configuration(server)
    text = text.replace("/var/lib/shop.redis", str(tmp_path)).replace("/run/shop.redis", str(tmp_path))
    (tmp_path / "password.conf").write_text("requirepass p4ss\n")
    (tmp_path / "redis.conf").write_text(text.replace("supervised systemd", "supervised no"))
    with subprocess.Popen(
        ["redis-server", str(tmp_path / "redis.conf")], executable=program, stdout=subprocess.PIPE, text=True
    ) as started:
        try:
            answers = {}
            for given in ("PING", "AUTH p4ss\r\nPING", "AUTH p4ss\r\nCONFIG GET maxmemory"):
                deadline = time.monotonic() + 10
                while True:
                    try:
                        with socket.create_connection(("127.0.0.1", number), timeout=2) as client:
                            client.sendall(f"{given}\r\n".encode())
                            time.sleep(0.2)
                            answers[given] = client.recv(4096).decode()
                        break
                    except ConnectionRefusedError:
                        assert time.monotonic() < deadline, started.poll()
                        time.sleep(0.1)
            assert "NOAUTH" in answers["PING"]
            assert answers["AUTH p4ss\r\nPING"] == "+OK\r\n+PONG\r\n"
            assert str(64 * 2**20) in answers["AUTH p4ss\r\nCONFIG GET maxmemory"]
            assert (tmp_path / "redis.sock").is_socket()
        finally:
            started.terminate()


def test_a_secret_is_the_inventorys_or_else_made_by_the_host() -> None:
    settings = settled(secrets=["SECRET_KEY", "FIRST_SUPERUSER_PASSWORD"], env={"SECRET_KEY": "given"})
    assert settings["env"] == {"SECRET_KEY": "given", "FIRST_SUPERUSER_PASSWORD": {"generate": True}}
    assert apps.generating({"logbook": settings}) == ["logbook"]
    assert app_settings.complete(settings) == settings
    assert facts(secrets=["SALT"])["generated_env"] == ["SALT"]


def test_an_empty_secret_is_not_taken_for_one() -> None:
    (sentence,) = apps.faults({"logbook": {"secrets": ["SECRET_KEY"], "env": {"SECRET_KEY": ""}}})
    assert "secrets has SECRET_KEY, and env.SECRET_KEY is empty. Set it from ansible-vault" in sentence


@pytest.mark.parametrize(
    "name",
    ["STRIPE_SECRET_KEY", "OPENAI_API_KEY", "SMTP_PASSWORD", "MAIL_PASSWORD", "AWS_SECRET_ACCESS_KEY", "SENTRY_DSN",
     "GOOGLE_CLIENT_SECRET", "DATABASE_URL", "FIRST_SUPERUSER_EMAIL"],
)  # fmt: skip
def test_what_somebody_else_gives_out_is_not_made_up(name: str) -> None:
    sentence = apps.faults({"logbook": {"secrets": [name]}})[0]
    assert f"secrets has {name}, which looks like something that somebody else gives out" in sentence
    assert f"Set env.{name} from ansible-vault" in sentence
    assert apps.faults({"logbook": {**render.APP, "secrets": [name], "env": {name: "postgresql://u@h/d"}}}) == []


@pytest.mark.parametrize("name", ["SECRET_KEY", "JWT_SECRET", "FIRST_SUPERUSER_PASSWORD", "SALT", "API_TOKEN"])
def test_what_is_the_apps_own_is_made(name: str) -> None:
    assert apps.faults({"logbook": {**render.APP, "secrets": [name]}}) == []


def test_another_name_of_a_variable_is_a_reason_to_deploy() -> None:
    """The unit is what a deploy compares; the passwords themselves are not in it."""
    first = render.render("app", "app@.service.j2", {"services": ["redis"]})
    other = render.render("app", "app@.service.j2", {"services": {"redis": "BROKER_URL"}})
    assert first != other
    assert "After=slipway-redis@logbook.service" in first
    assert "Filled in" not in render.render("app", "app@.service.j2")


def of_site(expression: str, hosts_lines: list[str], **known: Any) -> Any:
    """What a variable of site.yml is for a host that has said `hosts_lines`."""
    path = Path(__file__).parents[2] / "playbooks/vars/site.yml"
    given = {name: render.trusted(value) for name, value in yaml.safe_load(path.read_text()).items()}
    known = {"serves_apps": True, **known}
    return render.evaluate(expression, **given, site_found={"stdout_lines": hosts_lines}, **known)


def test_only_an_app_that_is_prepared_has_its_redis_started_or_stopped() -> None:
    apps_ = {name: {**settled(), "services": services.whole(given)} for name, given in
             (("shop", ["redis"]), ("blog", ["redis"]), ("wiki", []))}  # fmt: skip
    names = "{{ redis_instances | map(attribute='name') }}"
    assert of_site(names, [], declared_apps=apps_) == ["shop", "blog"]
    assert of_site(names, [], declared_apps=apps_, app="shop") == ["shop"], "blog has no password on the host yet"
    has = ["certificate blog", "redis wiki", "redis blog", "redis gone"]
    assert of_site(names, has, declared_apps=apps_, app="shop") == ["shop", "blog"]
    assert of_site("{{ redis_stopped }}", has, declared_apps=apps_) == ["wiki"]
    assert of_site("{{ redis_stopped }}", has, declared_apps=apps_, app="shop") == []


def test_a_redis_that_a_slot_reads_runs_on_and_that_is_said() -> None:
    apps_ = {name: {**settled(), "services": {}} for name in ("shop", "blog")}
    has = ["redis shop", "redis blog", "reads redis blog"]
    assert of_site("{{ redis_stopped }}", has, declared_apps=apps_) == ["shop"]
    assert of_site("{{ site_kept_redis }}", has, declared_apps=apps_) == ["blog"]
    said = of_site("{{ site_kept_redis_message }}", has, declared_apps=apps_)
    assert said.startswith("apps.blog.services has no redis any more, but a slot of blog")


@pytest.mark.parametrize(
    ("variables", "password", "read"),
    [
        ("", "include x", False),
        ("OTHER=redis://127.0.0.1:120017/0", "include x", False),
        ('REDIS_URL="redis://:x@127.0.0.1:20017/0"', "include x", True),
        ('R_PORT="20017"', "include x", True),
        ('R_PORT="20017"', "", False),
        ('REDIS_URL="unix://:x@/run/shop.redis/redis.sock?db=0"', "include x", True),
    ],
)
def test_whether_a_slot_reads_a_redis_is_told_by_its_variables(
    tmp_path: Path, variables: str, password: str, read: bool
) -> None:
    script = yaml.safe_load((PROJECT / "playbooks/vars/site.yml").read_text())["site_look"]
    for path in ("/etc/", "/srv/"):
        script = script.replace(path, f"{tmp_path}{path}")
    for name in ("etc/redis", "srv/shop/slots/green"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "etc/redis/slipway-shop.conf").write_text(f"bind 127.0.0.1\nport 20017\n{password}\n")
    (tmp_path / "srv/shop/slots/green/env").write_text(f'A="1"\n{variables}\n')
    said = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout
    assert said.splitlines() == ["redis shop", *(["reads redis shop"] if read else [])]
