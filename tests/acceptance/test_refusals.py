"""Bad input gets one clear sentence, before anything is changed."""

from __future__ import annotations

from typing import Any

import pytest

from hosts import scratch
from tests.controller import flat

from .conftest import Controller

SITE: list[tuple[dict[str, Any], str]] = [
    ({"env": {}}, "apps.logbook.env has no SECRET_KEY, which the app requires"),
    ({"env": {"SECRET_KEY": "a\0b"}}, "apps.logbook.env.SECRET_KEY has a NUL character"),
    ({"domains": ["https://logbook.example.com"]}, "apps.logbook.domains has 'https://logbook.example.com', neither"),
    ({"domains": ["10.0.0.256"]}, "apps.logbook.domains has '10.0.0.256', neither a host name nor an address"),
    ({"domains": []}, "apps.logbook.domains is empty"),
    ({"others": {"other": {}}}, "apps.other.domains has '127.0.0.1', and so has apps.logbook.domains"),
    ({"workers": "many"}, "apps.logbook.workers is 'many', but must be a whole number"),
    ({"wrokers": 2}, "apps.logbook.wrokers is no setting. The nearest is 'workers'"),
    ({"accept": "anything"}, "apps.logbook.accept is 'anything', but must be one of tags, signed-tags, commits"),
    ({"pool_size": 50, "settings": {"postgresql_max_connections": 100}}, "Lower workers, pool_size or database"),
]


@pytest.mark.parametrize(("change", "sentence"), SITE, ids=[sentence for _, sentence in SITE])
def test_site(controller: Controller, change: dict[str, Any], sentence: str) -> None:
    controller.declare(**change)
    try:
        output = controller.play("site.yml", check=False)
    finally:
        controller.declare()
    assert sentence in flat(output), output
    assert "changed=0" in output


def test_a_configuration_refused_by_nginx_is_not_installed(controller: Controller) -> None:
    before = controller.host.exec("cat", "/etc/nginx/nginx.conf")
    controller.declare(nginx_snippet="no_such_directive 1;")
    try:
        output = controller.play("site.yml", check=False)
    finally:
        controller.declare()
    assert 'unknown directive "no_such_directive"' in flat(output), output
    assert controller.host.exec("cat", "/etc/nginx/nginx.conf") == before
    assert controller.ready()["status"] == "ready"


DEPLOY: list[tuple[list[str], str]] = [
    (["-e", "version=v1.0.9"], "No tag 'v1.0.9'"),
    (["-e", "version=v1.0.9"], "Similar tags: v1.0.0"),
    (["-e", "version=main"], "No tag 'main'"),
    (["-e", "app=other"], "There is no app 'other' in local: pass -e app= with one of logbook"),
    (["-e", '{"version": 1.2}'], "version is 1.2, which is no text"),
    (["-e", "force=maybe"], "force is 'maybe'"),
]


@pytest.mark.parametrize(("arguments", "sentence"), DEPLOY, ids=[sentence for _, sentence in DEPLOY])
def test_deploy(controller: Controller, arguments: list[str], sentence: str) -> None:
    output = controller.play("deploy.yml", *arguments, check=False)
    assert sentence in flat(output), output
    assert "changed=0" in output


def test_a_commit_is_refused_where_tags_are_required(controller: Controller) -> None:
    output = controller.play("deploy.yml", "-e", f"version={controller.sha('v1.0.0')}", check=False)
    assert "is a commit without a tag, and this environment deploys tags only" in flat(output), output


@pytest.mark.parametrize("playbook", ["site.yml", "deploy.yml", "rollback.yml", "status.yml"])
@pytest.mark.parametrize("limit", [None, "unsorted"])
def test_a_run_is_for_one_environment(controller: Controller, playbook: str, limit: str | None) -> None:
    output = flat(controller.play(playbook, limit=limit, check=False))
    assert "A run is for one: pass, for example, -l staging." in output
    assert "changed=0" in output


def test_an_invalid_app_name_is_refused(controller: Controller) -> None:
    path = controller.state / "inventory.yml"
    path.write_text(path.read_text().replace("logbook:", "log_book:"))
    try:
        output = controller.play("site.yml", check=False)
    finally:
        controller.declare()
    assert "'log_book' cannot be an app's name" in flat(output), output


def test_no_disk_space_is_refused_before_the_build(controller: Controller) -> None:
    toml = "/etc/slipway/logbook.toml"
    controller.host.exec("sed", "-i", "s/^min_free_mb = .*/min_free_mb = 100000000/", toml)
    try:
        output = controller.play("deploy.yml", "-e", "version=v1.0.0", "-e", "force=true", check=False)
    finally:
        controller.host.exec("sed", "-i", "s/^min_free_mb = .*/min_free_mb = 500/", toml)
    assert "MB free, but a release needs 100000000 MB" in flat(output), output


def test_a_moved_tag_is_refused_without_force(controller: Controller) -> None:
    live = controller.ready()["release"]
    scratch.git(controller.repository, "tag", "--force", "-a", "v1.0.0", "-m", "moved", "v2.0.0^{commit}")
    output = controller.play("deploy.yml", "-e", "version=v1.0.0", check=False)
    assert "The tag v1.0.0 was commit" in flat(output), output
    assert controller.ready()["release"] == live
    controller.play("deploy.yml", "-e", "version=v1.0.0", "-e", "force=true")
    assert controller.ready()["sha"] == controller.sha("v2.0.0")
