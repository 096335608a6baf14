"""From a new host to a rollback, like an operator does it. Each test depends on those before it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from typing import Any

import httpx
import pytest

from hosts import scratch
from tests.controller import SECRET

from .conftest import HTTP_PORT, HTTPS_PORT, Controller, Load


def changed(output: str) -> int:
    """The number of changes in the recap, over all hosts."""
    return sum(int(count) for count in re.findall(r"changed=(\d+)", output))


# A bare host


def test_deploying_to_an_unprovisioned_host_shows_what_to_run(controller: Controller) -> None:
    output = controller.play("deploy.yml", check=False)
    assert "never provisioned: run `ansible-playbook site.yml -l local` first" in output


def test_check_mode_passes_on_a_new_host_and_changes_nothing(controller: Controller) -> None:
    before = controller.host.exec("sh", "-c", "find /etc /srv /usr/local -xdev | sort")
    output = controller.play("site.yml", "--check", "--diff")
    assert changed(output) > 5
    output = controller.play("deploy.yml", "--check", "--diff")
    assert "nothing is live yet" in output
    assert controller.sha("v2.0.0")[:12] in output
    for playbook in ("rollback.yml", "status.yml"):
        assert "never provisioned" in controller.play(playbook, "--check", "--diff")
    after = controller.host.exec("sh", "-c", "find /etc /srv /usr/local -xdev | sort")
    assert after == before


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"settings": {"nginx_hsts_seconds": "never"}}, "'nginx_hsts_seconds' is of type str"),
        ({"settings": {"postgresql_max_connections": 20}}, "Lower workers, pool_size or database.connections"),
        ({"settings": {"host_journal_max_mb": "much"}}, "'host_journal_max_mb' is of type str"),
        ({"others": {"backup": {"domains": ["b.example"]}}}, "'backup' is the name of an account, a unit or a dir"),
        ({"others": {"postgresql": {"domains": ["b.example"]}}}, "'postgresql' cannot be an app's name"),
        ({"others": {"ssh": {"domains": ["b.example"]}}}, "a directory that slipway-acceptance has already (/etc/ssh"),
    ],
)
def test_wrong_settings_are_refused_before_a_new_host_is_changed(
    controller: Controller, wrong: dict[str, Any], sentence: str
) -> None:
    before = controller.host.exec("sh", "-c", "find /etc /srv /usr/local -xdev | sort")
    controller.declare(**wrong)
    try:
        output = controller.play("site.yml", check=False)
    finally:
        controller.declare()
    assert sentence in " ".join(output.split()), output
    assert changed(output) == 0
    assert controller.host.exec("sh", "-c", "find /etc /srv /usr/local -xdev | sort") == before


def test_provisioning_twice_changes_nothing_the_second_time(controller: Controller) -> None:
    assert changed(controller.play("site.yml")) > 20
    output = controller.play("site.yml")
    assert changed(output) == 0, output


def test_files_written_by_a_killed_run_are_loaded_by_the_next(controller: Controller) -> None:
    loaded = ["systemctl", "show", "nginx.service", "--property=StateChangeTimestampMonotonic", "--value"]
    before = int(controller.host.exec(*loaded))
    time.sleep(3)  # the clock of that check counts whole seconds
    controller.host.exec("touch", "/etc/nginx/nginx.conf")
    output = controller.play("site.yml")
    assert changed(output) == 2, output  # that it is due, and the reload
    assert int(controller.host.exec(*loaded)) > before


def test_a_site_without_a_release_answers_503(controller: Controller) -> None:
    with controller.client() as client:
        answer = client.get("/")
    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/problem+json"


# The first release


def test_the_first_release_is_live(controller: Controller) -> None:
    controller.play("deploy.yml", "-e", "version=v1.0.0")
    assert controller.ready()["release"] == "v1.0.0"
    assert controller.ready()["sha"] == controller.sha("v1.0.0")
    live = controller.status()["live"]
    assert (live["tag"], live["sha"], live["unit"]) == ("v1.0.0", controller.sha("v1.0.0"), "active")


def test_deploying_it_again_changes_nothing(controller: Controller) -> None:
    output = controller.play("deploy.yml", "-e", "version=v1.0.0")
    assert changed(output) == 0
    assert "v1.0.0 is live already" in output


def test_a_changed_variable_is_applied_by_the_next_deploy_and_no_secret_is_printed(controller: Controller) -> None:
    seen_by_app = ["grep", "-c", 'LOG_LEVEL="debug"', "/srv/logbook/live/env"]
    controller.declare(env={"SECRET_KEY": SECRET, "LOG_LEVEL": "debug"})
    output = controller.play("site.yml", "-vvv", "--diff")
    assert changed(output) == 1
    assert controller.status()["live"]["settings_changed"]
    assert controller.host.exec(*seen_by_app, check=False) == "0"
    output += controller.play("deploy.yml", "-vvv", "--diff", "-e", "version=v1.0.0")
    assert controller.host.exec(*seen_by_app) == "1"
    assert SECRET not in output
    assert SECRET not in controller.host.exec("journalctl", "--no-pager", "--output=cat")
    controller.declare()
    controller.play("site.yml")
    controller.play("deploy.yml", "-e", "version=v1.0.0")


@pytest.mark.usefixtures("controller")
def test_http_is_redirected_to_the_public_port() -> None:
    answer = httpx.get(f"http://127.0.0.1:{HTTP_PORT}/health/ready?x=1")
    assert answer.status_code == 301
    assert answer.headers["location"] == f"https://127.0.0.1:{HTTPS_PORT}/health/ready?x=1"


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_unknown_host_names_are_refused(controller: Controller, scheme: str) -> None:
    port = HTTP_PORT if scheme == "http" else HTTPS_PORT
    with controller.client() as client, pytest.raises(httpx.RemoteProtocolError):
        client.get(f"{scheme}://127.0.0.1:{port}/health/ready", headers={"Host": "evil.example"})


def test_responses_have_security_headers_and_a_request_id(controller: Controller) -> None:
    with controller.client() as client:
        headers = client.get("/health/live", headers={"X-Request-ID": "forged"}).headers
    assert headers["strict-transport-security"].startswith("max-age=")
    assert headers["x-content-type-options"] == "nosniff"
    assert re.fullmatch(r"[0-9a-f]{32}", headers["x-request-id"])
    assert headers["server"] == "nginx"


def test_no_unit_has_failed_on_the_host(controller: Controller) -> None:
    assert controller.host.exec("systemctl", "--failed", "--no-legend") == ""


def test_no_process_of_the_app_runs_as_root(controller: Controller) -> None:
    processes = controller.host.exec("ps", "-eo", "user:32,args").splitlines()
    users = {line.split()[0] for line in processes if "gunicorn" in line}
    assert users == {"logbook"}


def test_postgresql_listens_on_no_tcp_port(controller: Controller) -> None:
    listening = controller.host.exec("ss", "--tcp", "--listening", "--numeric", "--processes")
    assert "postgres" not in listening
    assert "nginx" in listening, "or the question was wrong"


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE t (i int)",
        "CREATE SCHEMA s",
        "DROP TABLE services",
        "ALTER TABLE services ADD x int",
        "TRUNCATE services",
        "SET ROLE logbook_owner",
    ],
)
def test_the_runtime_role_can_change_rows_but_not_the_schema(controller: Controller, statement: str) -> None:
    query = ["runuser", "-u", "logbook", "--", "psql", "-d", "logbook", "-v", "ON_ERROR_STOP=1", "-tAc"]
    assert controller.host.exec(*query, "SELECT count(*) >= 0 FROM services") == "t"
    done = controller.host.exec(
        "sh", "-c", f"runuser -u logbook -- psql -d logbook -tAc '{statement}' 2>&1", check=False
    )
    assert re.search(r"permission denied|must be owner", done), done


def test_the_environment_file_is_readable_by_root_and_the_app_only(controller: Controller) -> None:
    files = ["/etc/logbook/env", "/srv/logbook/slots/blue/env", "/srv/logbook/slots/green/env"]
    for name in files:
        assert controller.host.exec("stat", "--format=%a %U %G", name) == "640 root logbook"
    readable = controller.host.exec("sh", "-c", f"grep -rlsI {SECRET} /etc /srv /var/log /run || true").splitlines()
    assert sorted(readable) == sorted(files)


def test_the_app_cannot_write_its_own_files(controller: Controller) -> None:
    writable = "runuser -u logbook -- find /srv/logbook /etc/logbook -writable -not -type l 2>/dev/null || true"
    assert controller.host.exec("sh", "-c", writable) == ""


def test_the_unit_is_sandboxed(controller: Controller) -> None:
    output = controller.host.exec("systemd-analyze", "security", "--no-pager", "logbook@blue.service")
    level = re.search(r"exposure level for logbook@blue\.service: ([\d.]+)", output)
    assert level
    assert float(level[1]) <= 2.0


# The second release, under load


def test_a_deploy_with_a_migration_and_its_rollback_fail_no_request(controller: Controller) -> None:
    with Load(controller) as outcome:
        plan = controller.play("deploy.yml", "--check")
        assert "0005_notes.py" in plan
        controller.play("deploy.yml")
        assert controller.ready()["sha"] == controller.sha("v2.0.0")
        assert controller.status()["database"] == {"revision": "0005", "pending": [], "ahead": False}
        controller.play("rollback.yml")
        assert controller.ready()["sha"] == controller.sha("v1.0.0")
    assert outcome.failures == []
    assert outcome.sent > 500
    assert outcome.releases == ["v1.0.0", "v2.0.0", "v1.0.0"]
    status = controller.status()
    assert status["live"]["sha"] == controller.sha("v1.0.0")
    assert status["database"]["ahead"], "a rollback leaves the schema as it is"
    assert {item["outcome"] for item in status["last"]} == {"succeeded"}


def test_the_old_release_was_live_until_the_switch(controller: Controller) -> None:
    lines = [line for line in controller.journal() if line["tag"] == "v2.0.0"]
    live = {line["phase"]: line["live"].rpartition("-")[0] for line in lines}
    assert [live[phase] for phase in ("stage", "migrate", "start", "switch")] == ["v1.0.0"] * 3 + ["v2.0.0"]


def test_status_is_a_readable_table(controller: Controller) -> None:
    output = controller.play("status.yml")
    for text in ("v1.0.0", "database", "days left", "rollback v1.0.0: succeeded"):
        assert text in output


def test_after_a_reboot_the_same_release_is_live(controller: Controller) -> None:
    controller.host.reboot()
    started = time.monotonic()
    while time.monotonic() - started < 30:
        try:
            assert controller.ready()["sha"] == controller.sha("v1.0.0")
            break
        except (httpx.HTTPError, AssertionError):
            time.sleep(0.5)
    else:
        pytest.fail("nothing served within 30 s of the reboot")
    controller.host.wait_until_booted()
    assert changed(controller.play("site.yml")) == 0, "what a reboot undoes was set in the wrong place"


# What fails, and leaves everything as it was


def test_a_crashing_release_shows_its_traceback_and_changes_nothing(controller: Controller) -> None:
    broken = "from fastapi import FastAPI\n\napp = FastAPI()\nraise RuntimeError('the tests broke it')\n"
    controller.variant("v3.0.0", {"app/main.py": broken})
    with Load(controller) as outcome:
        output = controller.play("deploy.yml", check=False)
    assert "crashed after" in output, output
    assert "the tests broke it" in output, output
    assert "v1.0.0" in controller.ready()["release"]
    assert outcome.failures == []
    assert controller.status()["deployment"] is None
    assert controller.host.exec("systemctl", "is-active", "logbook@green.service", check=False) == "inactive"


@pytest.mark.parametrize(
    ("command", "killed_when", "expected"),
    [
        (["deploy.yml", "-e", "version=v2.0.0"], ["opened", "staged", "migrated", "started"], "v2.0.0"),
        (["rollback.yml"], ["switched"], "v1.0.0"),
        (["deploy.yml", "-e", "version=v2.0.0"], ["switched"], "v2.0.0"),
    ],
)
def test_repeating_the_command_of_a_killed_controller_converges(
    controller: Controller, command: list[str], killed_when: list[str], expected: str
) -> None:
    with Load(controller) as outcome:
        run = controller.start(*command)
        deadline = time.monotonic() + 60
        while (controller.status()["deployment"] or {}).get("state") not in killed_when:
            assert time.monotonic() < deadline
        os.killpg(run.pid, signal.SIGKILL)
        run.communicate()
        controller.play(*command)
    assert outcome.failures == []
    assert controller.ready()["sha"] == controller.sha(expected)
    status = controller.status()
    assert (status["deployment"], status["last"][0]["outcome"]) == (None, "succeeded")
    idle = "green" if status["live"]["slot"] == "blue" else "blue"
    kept = status["standby"]
    state = controller.host.exec("systemctl", "is-active", f"logbook@{idle}.service", check=False)
    assert state == ("active" if kept else "inactive"), "it runs and is not on standby"
    assert kept is None or (kept["slot"], kept["problem"]) == (idle, "")


def test_a_second_app_is_added_beside_the_first(controller: Controller) -> None:
    controller.declare(others={"second-app": {"domains": ["second.example"]}})
    try:
        assert changed(controller.play("site.yml", "--check", "--diff")) > 5
        controller.play("site.yml")
        assert "local has 2 apps: pass -e app= with one of logbook, second-app" in " ".join(
            controller.play("deploy.yml", check=False).split()
        )
        controller.play("deploy.yml", "-e", "app=second-app", "-e", "version=v1.0.0")
        assert controller.ready("second.example")["release"] == "v1.0.0"
        assert controller.ready()["release"] == "v2.0.0"
        assert controller.status("second-app")["database"]["revision"] == "0004"
        assert changed(controller.play("site.yml")) == 0
    finally:
        controller.declare()


def test_only_signed_tags_are_accepted_with_signed_tags(controller: Controller) -> None:
    key = controller.state / "signer"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    signing = ["-c", "gpg.format=ssh", "-c", f"user.signingkey={key}"]
    scratch.git(controller.repository, *signing, "tag", "-s", "v4.0.0", "-m", "signed", "v1.0.0^{commit}")
    scratch.git(controller.repository, "tag", "-a", "v4.0.1", "-m", "unsigned", "v2.0.0^{commit}")
    public = key.with_suffix(".pub").read_text().strip()
    controller.declare(accept="signed-tags", allowed_signers=[f"signer@example.com {public}"])
    try:
        controller.play("site.yml")
        assert "'v4.0.1' is not signed by anyone" in controller.play("deploy.yml", "-e", "version=v4.0.1", check=False)
        scratch.git(controller.repository, *signing, "tag", "-f", "-s", "v4.0.1", "-m", "signed now", "v2.0.0^{commit}")
        controller.play("deploy.yml", "-e", "version=v4.0.1")
        assert controller.ready()["release"] == "v4.0.1"
        controller.play("deploy.yml", "-e", "version=v4.0.0")
        assert controller.ready()["release"] == "v4.0.0"
        assert "is not signed by anyone" in controller.play("rollback.yml", "-e", "version=v2.0.0", check=False)
        assert controller.ready()["release"] == "v4.0.0"
    finally:
        controller.declare()
        controller.play("site.yml")
