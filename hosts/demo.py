"""The demo: one host, provisioned and deployed to like a VM, with this work tree as its first version."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from hosts import images, scratch
from hosts.container_runtime import HostError, ensure, need, say
from hosts.host import Host, make_key

STATE = scratch.PROJECT / ".demo"
REPOSITORY = STATE / "repository"
SSH_PORT, HTTP_PORT, HTTPS_PORT = 8022, 8080, 8443

HOST = Host("slipway-demo", "13", {SSH_PORT: 22, HTTP_PORT: 80, HTTPS_PORT: 443})

TOKEN = STATE / "logbook-token"
NONE_WAITS = "none is waiting."  # how the result of `slipway report` ends

NEXT = f"""
The Logbook shows its own deploys at https://127.0.0.1:{HTTPS_PORT}/ (its API at /docs). Try next:

  curl --cacert .demo/ca.crt https://127.0.0.1:{HTTPS_PORT}/health/ready
  . .venv/bin/activate                            # puts ansible-playbook into PATH
  make demo-release                               # after an edit: tags the work tree as the next version
  ansible-playbook deploy.yml -l local            # deploys the newest tag
  ansible-playbook rollback.yml -l local          # rolls back to the release before
  ansible-playbook status.yml -l local            # shows what is live, and its state
  make demo-down                                  # removes the demo
"""


def up() -> None:
    """Start the demo, unless it is running already; prints the seconds that each stage took."""
    stages: dict[str, float] = {}
    with _stage(stages, "container engine"):
        need({"git": "git", "ssh": "openssh-client", "ssh-keygen": "openssh-client"})
        ensure()
    with _stage(stages, "image"):
        images.ensure(HOST.debian)
    with _stage(stages, "host"):
        public_key = make_key(STATE / "id_ed25519")
        HOST.up()
        HOST.allow(public_key)
        (STATE / "known_hosts").write_text(HOST.known_host_line(SSH_PORT))
    with _stage(stages, "version"):
        version = _newest_version(changed=scratch.update(REPOSITORY))
        say(f"  {version}")
    with _stage(stages, "provision (site.yml)"):
        _play("site.yml")
    with _stage(stages, "deploy (deploy.yml)"):
        _play("deploy.yml", "-e", f"version={version}")
    with _stage(stages, "logbook (slipway report)"):
        _report()
    say("")
    for name, seconds in stages.items():
        say(f"{name:<24}{seconds:7.1f} s")
    say(f"{'all':<24}{sum(stages.values()):7.1f} s")
    print(NEXT)


def _report() -> None:
    """Report the deploys to the Logbook that they installed. A token can be created only now that it is running."""
    if _reported().endswith(NONE_WAITS):
        return
    create = "python -m app.tokens create --name slipway --scope write"
    token = HOST.exec("slipway", "run", "logbook", "--", *create.split()).splitlines()[-1]
    TOKEN.touch(mode=0o600)
    TOKEN.write_text(token)
    # The same file as site.yml would write, without the seconds that site.yml takes.
    HOST.exec("sh", "-c", "umask 077; cat > /etc/slipway/logbook.logbook-token", stdin=token)
    said = _reported()
    if not said.endswith(NONE_WAITS):
        raise HostError(f"The Logbook did not get the reports of the deploys: {said}")


def _reported() -> str:
    """The output of `slipway report` on the host."""
    return HOST.exec("slipway", "report", "logbook", check=False)


def release() -> None:
    """Tag the work tree as the next version, so that deploy.yml can deploy it."""
    if not REPOSITORY.is_dir():
        raise HostError("There is no demo. Start it with `make demo`.")
    if not scratch.update(REPOSITORY):
        print(f"The work tree is the same as {_tags()[-1]}. Change something first.")
        return
    print(f"{_newest_version(changed=True)} is tagged. Deploy it: ansible-playbook deploy.yml -l local")


def down() -> None:
    """Remove the demo's host and its state."""
    if shutil.which("docker"):
        HOST.down()
    shutil.rmtree(STATE, ignore_errors=True)
    print("The demo was removed.")


def _tags() -> list[str]:
    return scratch.git(REPOSITORY, "tag", "--sort=v:refname").splitlines()


def _newest_version(*, changed: bool) -> str:
    tags = _tags()
    if tags and not changed:
        return tags[-1]
    version = f"v1.{len(tags)}.0"
    scratch.git(REPOSITORY, "tag", "--annotate", version, "--message", version)
    return version


def _play(playbook: str, *arguments: str) -> None:
    command = [str(scratch.PROJECT / ".venv/bin/ansible-playbook"), playbook, "-l", "local", *arguments]
    done = subprocess.run(command, cwd=scratch.PROJECT, check=False)
    if done.returncode != 0:
        raise HostError(f"{playbook} failed (its output is above). Run it again: {' '.join(command[1:])}")


@contextmanager
def _stage(stages: dict[str, float], name: str) -> Iterator[None]:
    say(f"==> {name}")
    started = time.monotonic()
    yield
    sys.stdout.flush()
    stages[name] = time.monotonic() - started
