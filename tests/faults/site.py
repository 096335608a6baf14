"""The host of the fault tests, the versions that are deployed to it, and the ways in which things are made to fail."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from hosts import scratch
from hosts.container_runtime import HostError
from hosts.container_runtime import run as run_here
from tests.controller import Controller
from tests.load import Call

HERE = Path(__file__).parent
APP = HERE / "app"
VARIANTS = HERE / "variants"
SETTINGS = "/etc/slipway/logbook.toml"
BUILD_ENV = "/etc/slipway/logbook.build.env"
JOURNAL = "/srv/logbook/journal.jsonl"
UNIT = "slipway-logbook.service"
LOCK = "/run/slipway/logbook.lock"
HOLDER = f"""$(grep -o '"pid": [0-9]*' {LOCK} | cut -d' ' -f2)"""  # in a shell: the process that holds the lock
STANDBY = "/run/slipway/logbook.standby.json"
NEVER_SUCCEED = {"raises_half_way", "shows_its_environment"}
WORKERS = 2


def _release(answer: httpx.Response) -> str:
    return answer.headers["x-release"]


CALLS = [
    Call("GET", "/", 200, names=_release),
    Call("POST", "/", 201, body=lambda number: {"number": number}, names=_release),
]


# A process that looks again and again; a new one for each look would keep a processor busy.
IN_PHASE = """
import pathlib, sys, time
lock, phase = pathlib.Path(sys.argv[1]), sys.argv[2]
while not (lock.exists() and phase in lock.read_text()):
    time.sleep(0.002)
"""


class Version(NamedTuple):
    """A tag of the app, and its commit."""

    tag: str
    sha: str

    @property
    def release(self) -> str:
        return f"{self.tag}-{self.sha[:12]}"

    @property
    def migration(self) -> str:
        """The revision that came with it, if one did."""
        return f"r{int(self.tag[1:].partition('.')[0]):03}"

    @property
    def chosen(self) -> tuple[str, str]:
        """The arguments of a playbook that ask for it."""
        return "-e", f"version={self.tag}"


@dataclass
class Site(Controller):
    """One host with one app on it. Every version has the migrations of all good ones before it."""

    runs: list[Run] = field(default_factory=list)
    forgiven: set[str] = field(default_factory=set)

    def version(
        self,
        variant: str = "",
        *,
        migration: str = "",
        packages: str = "",
        files: Mapping[str, str | None] | None = None,
    ) -> Version:
        """Tag the next version: with a behaviour from variants/, with one more migration from variants/migrations/.

        Later versions have that migration as well, unless it is one that never succeeds. `packages` are a word in the
        lock file: one that no other version has makes its packages be installed anew, and not taken over. `files` are
        written, or removed where None is given, after all else.
        """
        series = self.state / "migrations"
        series.mkdir(parents=True, exist_ok=True)
        tree = self.repository
        if not (tree / ".git").is_dir():
            tree.mkdir(parents=True, exist_ok=True)
            scratch.git(tree, "init", "--quiet", "--initial-branch=main")
        for entry in tree.iterdir():
            if entry.name != ".git":
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        shutil.copytree(APP, tree, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__", ".venv"))
        # How migrations are run is the project's own.
        shutil.copy2(scratch.PROJECT / "alembic.ini", tree)
        for name in ("env.py", "script.py.mako"):
            shutil.copy2(scratch.PROJECT / "app/migrations" / name, tree / "app/migrations")
        shutil.copytree(series, tree / "app/migrations/versions", dirs_exist_ok=True)
        if variant:
            shutil.copy2(VARIANTS / f"{variant}.py", tree / "app/behaviour.py")
        number = len(scratch.git(tree, "tag").split()) + 1
        if migration:
            script = tree / f"app/migrations/versions/r{number:03}.py"
            head = max([path.stem for path in series.iterdir()], default="0001")
            text = (VARIANTS / f"migrations/{migration}.py").read_text()
            script.write_text(text.replace("REVISION", script.stem).replace("HEAD", head))
            if migration not in NEVER_SUCCEED:
                shutil.copy2(script, series)
        for name, content in (files or {}).items():
            file = tree / name
            if content is None:
                file.unlink()
            else:
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(content)
        if packages:
            with (tree / "uv.lock").open("a") as lock:
                lock.write(f"\n# {packages} {number}\n")
        tag = f"v{number}.0.0"
        scratch.git(tree, "add", "--all", "--force")
        scratch.git(tree, "commit", "--quiet", "--allow-empty", "--message", f"{tag} {variant} {migration}".strip())
        scratch.git(tree, "tag", "--annotate", tag, "--message", tag)
        return Version(tag, scratch.git(tree, "rev-parse", "HEAD"))

    def forget(self, *versions: Version) -> None:
        """Let later versions be without the migrations of these: the schema went back from them."""
        for version in versions:
            (self.state / f"migrations/{version.migration}.py").unlink()

    # What is there

    def live(self) -> Version:
        """What answers from outside, which has to be what the host says is live."""
        found = self.ready()
        live = self.status()["live"]
        assert (live["tag"], live["sha"]) == (found["release"], found["sha"]), f"{live} is live, {found} answered"
        return Version(found["release"], found["sha"])

    def wait_until_ready(self, seconds: float) -> float:
        """Ask until the site answers; how long that took, in seconds."""
        return wait_for(self._is_ready, seconds)

    def _is_ready(self) -> bool:
        try:
            return bool(self.ready())
        except (httpx.HTTPError, AssertionError):
            return False

    def is_settled(self) -> bool:
        """Whether a version serves, and nothing is left of anything else."""
        try:
            return self.left_behind() == [] and bool(self.live())
        except (AssertionError, httpx.HTTPError):
            return False

    def left_behind(self) -> list[str]:
        """What no finished run leaves on the host: half releases, bundles, what is open or runs, or never ended."""
        found = self.sh(
            """cd /srv/logbook
            ls -d releases/*.partial incoming-* .*.new slots/*/.*.new backups/.*.new deployment.json 2>/dev/null
            for release in releases/*/; do test -e "$release/.complete" || echo "$release"; done
            idle=$(test "$(readlink live)" = slots/blue && echo green || echo blue)
            units="logbook@$idle.* slipway-logbook.service"
            if systemctl -q is-active "logbook@$idle.service" && grep -q '"state": "paused"' """
            + STANDBY
            + """; then units=slipway-logbook.service; fi
            systemctl list-units --all --plain --no-legend $units | grep -v ' inactive '
            pgrep -a -u logbook_migrate; pgrep -a -u logbook_build; true"""
        )
        return [*found.splitlines(), *self.half_paused(), *self.unended()]

    def processes(self, slot: str) -> dict[int, str]:
        """The processes of a slot's service, the main one first, each with the letter of its state: T is stopped."""
        found = self.sh(
            f"""group=$(systemctl show --property=ControlGroup --value logbook@{slot}.service)
            test -n "$group" && cd "/sys/fs/cgroup$group" || exit 0
            for pid in $(cat cgroup.procs); do sed -E 's/^([0-9]+) .*\\) (.) .*/\\1 \\2/' /proc/$pid/stat; done"""
        )
        return {int(pid): state for pid, state in map(str.split, found.splitlines()) if state not in "ZX"}

    def half_paused(self) -> list[str]:
        """A process of the live slot that is stopped, or one of a slot on standby that is not."""
        live = self.sh("readlink /srv/logbook/live || true").removeprefix("slots/")
        if not live:
            return []
        idle = "green" if live == "blue" else "blue"
        wrong = [f"live slot: process {pid} is stopped" for pid, state in self.processes(live).items() if state == "T"]
        others = self.processes(idle).items()
        return wrong + [f"slot on standby: process {pid} is not stopped" for pid, state in others if state != "T"]

    def unended(self) -> list[str]:
        """Deployments of the journal, but for those of `forgiven`, that no line says the end of."""
        journal = self.journal()
        ended = {line["deployment"] for line in journal if line["phase"] == "result"}
        return sorted({line["deployment"] for line in journal} - ended - self.forgiven)

    def phase(self, version: Version, name: str) -> dict[str, Any]:
        """The newest line of the journal about a phase of a version."""
        return [line for line in self.journal() if line["tag"] == version.tag and line["phase"] == name][-1]

    def sh(self, script: str) -> str:
        return self.host.exec("sh", "-c", script)

    def sql(self, statement: str) -> str:
        """What PostgreSQL's superuser is answered."""
        psql = ["psql", "--no-psqlrc", "-v", "ON_ERROR_STOP=1", "-tA", "-d", "logbook", "-c", statement]
        return self.host.exec("runuser", "-u", "postgres", "--", *psql)

    def revision(self) -> str:
        return self.sql("SELECT version_num FROM alembic_version")

    def has_table(self, name: str) -> bool:
        return self.sql(f"SELECT to_regclass('{name}') IS NOT NULL") == "t"

    # What runs

    def deploy(self, version: Version, *arguments: str) -> str:
        return self.play("deploy.yml", *version.chosen, *arguments)

    def fails(self, version: Version, *arguments: str) -> str:
        """The output of a deploy that has to fail."""
        return self.play("deploy.yml", *version.chosen, *arguments, check=False)

    def next_run(self) -> None:
        """The next deploy, of the other good version, goes through without a manual step and leaves nothing behind."""
        version = self.good[0] if self.live() != self.good[0] else self.good[1]
        self.deploy(version)
        assert self.live() == version
        assert self.left_behind() == []

    @property
    def good(self) -> tuple[Version, Version]:
        """Two versions with nothing wrong with them, always there to be deployed."""
        return Version("v1.0.0", self.sha("v1.0.0")), Version("v2.0.0", self.sha("v2.0.0"))

    @contextlib.contextmanager
    def settings(self, **values: Any) -> Iterator[None]:
        """The engine's settings with such values, for a while: they are read anew at each command."""
        before = self.host.exec("cat", SETTINGS)
        text = before
        for name, value in values.items():
            text, count = re.subn(rf"(?m)^{name} = .*$", f"{name} = {json.dumps(value)}", text)
            assert count == 1, f"{SETTINGS} has no {name}"
        self.write(SETTINGS, text + "\n")
        try:
            yield
        finally:
            self.write(SETTINGS, before + "\n")

    @contextlib.contextmanager
    def build_env(self, **variables: str) -> Iterator[None]:
        """More variables for builds, for a while: they are read anew at each command."""
        before = self.host.exec("cat", BUILD_ENV)
        self.write(BUILD_ENV, f"{before}\n" + "".join(f"{name}={value}\n" for name, value in variables.items()))
        try:
            yield
        finally:
            self.write(BUILD_ENV, before + "\n")

    @contextlib.contextmanager
    def graceful_timeout(self, seconds: int) -> Iterator[None]:
        """Slots that are started meanwhile cut the requests under way so long after they are told to stop.

        An inventory cannot have less than Nginx waits: then Nginx would be the first to give up on a request.
        """
        path = "/etc/logbook/gunicorn.conf.py"
        before = self.host.exec("cat", path)
        text, count = re.subn(r"(?m)^graceful_timeout = .*$", f"graceful_timeout = {seconds}", before)
        assert count == 1, f"{path} has no graceful_timeout"
        self.write(path, text + "\n")
        try:
            yield
        finally:
            self.write(path, before + "\n")

    @contextlib.contextmanager
    def naps(self, seconds: int) -> Iterator[None]:
        """Migrations that nap take so long, for a while; at its end those that still nap wake up."""
        self.sql(f"UPDATE nap SET seconds = {seconds:d}")  # noqa: S608  # a number
        try:
            yield
        finally:
            wait_for(lambda: self.host.is_running() and not self._fails(self.sql, "UPDATE nap SET seconds = 0"), 30)

    @staticmethod
    def _fails(work: Callable[[str], object], argument: str) -> bool:
        try:
            work(argument)
        except HostError:
            return True
        return False

    def write(self, path: str, text: str) -> None:
        self.host.exec("sh", "-c", f"cat > {path}", stdin=text)

    def run(self, playbook: str, *arguments: str, inside: Sequence[str] = (), **variables: str) -> Run:
        """A playbook that runs on, and whose output is read as it comes."""
        # Every task says that it begins, also those that turn out to have nothing to do.
        shown = {"ANSIBLE_DISPLAY_SKIPPED_HOSTS": "true", "PYTHONUNBUFFERED": "1", **variables}
        self.runs.append(Run(self.start(playbook, *arguments, inside=inside, **shown)))
        return self.runs[-1]

    def kill_runs(self) -> None:
        """End what a test that failed has left under way."""
        while self.runs:
            self.runs.pop().kill()

    @contextlib.contextmanager
    def following(self) -> Iterator[Iterator[dict[str, Any]]]:
        """The lines of the host's journal, as they are written from now on."""
        command = ["docker", "exec", self.host.name, "tail", "-n", "0", "-F", JOURNAL]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as tail:
            assert tail.stdout is not None
            time.sleep(0.3)  # tail has to be there before what it is to see
            try:
                yield (json.loads(line) for line in tail.stdout)
            finally:
                tail.terminate()

    def wait_there(self, condition: str, seconds: int = 120, then: str = "true") -> None:
        """Until the shell on the host finds `condition`, and do what is to be done `then`.

        For what may be over before it could be asked for from here: a look takes milliseconds there.
        """
        look = f"until {condition}; do sleep 0.002; done"
        self.sh(f"timeout {seconds} sh -c {shlex.quote(look)} && {then}")

    def wait_for_phase(self, name: str, then: str = "true") -> None:
        """Until the host says that a deployment is in that phase, and do what is to be done `then`."""
        look = shlex.join(["timeout", "120", "python3", "-c", IN_PHASE, LOCK, f'"phase": "{name}"'])
        self.sh(f"{look} && {then}")

    def lease(self) -> dict[str, Any] | None:
        text = self.host.exec("cat", LOCK, check=False)
        found: dict[str, Any] | None = json.loads(text) if text else None
        return found

    def wait_until_at_work(self) -> None:
        """Until a phase runs in the transient unit."""
        self.wait_there(f"systemctl -q is-active {UNIT}", 10)

    def pull_the_plug(self) -> None:
        """Every process of the host is gone at once. What the kernel had not written is still there: it is this
        machine's."""
        run_here("docker", "kill", "--signal", "KILL", self.host.name)

    def plug_in(self) -> None:
        """Start the host again."""
        run_here("docker", "start", self.host.name)

    def kill_engine(self) -> None:
        """SIGKILL all of the transient unit in which a phase is at work."""
        self.host.exec("systemctl", "kill", "--signal=KILL", UNIT)

    def kill_holder(self) -> None:
        """SIGKILL the engine alone, and nothing that it has started."""
        self.sh(f"kill -KILL {HOLDER}")


class Run:
    """A playbook under way."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.output = ""

    def tasks(self) -> Iterator[str]:
        """The name of each task as it begins."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.output += line
            if match := re.match(r"TASK \[(.+?)\] \**$", line):
                yield match[1]

    def until(self, task: str) -> None:
        """Read on until a task begins whose name begins like that."""
        found = any(name.startswith(task) or f": {task}" in name for name in self.tasks())
        assert found, self.output[-3000:]

    def end(self) -> int:
        """Read to the end; the exit code."""
        rest, _ = self._process.communicate()
        self.output += rest
        return self._process.returncode

    def freeze(self) -> None:
        """Let it neither do nor notice anything from now on."""
        self._signal(signal.SIGSTOP)

    def kill(self) -> None:
        """SIGKILL ansible-playbook and every process that it has started, at once; nothing when it has ended."""
        if self._process.returncode is None:
            self._signal(signal.SIGKILL)
            self.end()

    def _signal(self, number: signal.Signals) -> None:
        started = [self._process.pid]
        for pid in started:  # grows while it is gone through
            command = ["ps", "-o", "pid=", "--ppid", str(pid)]
            listed = subprocess.run(command, capture_output=True, text=True, check=False)
            started += [int(child) for child in listed.stdout.split()]
        for pid in started:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)


def wait_for(condition: Callable[[], Any], seconds: float, interval: float = 0.05) -> float:
    """Ask until `condition` holds; how long that took. An AssertionError when it does not within `seconds`."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < seconds, f"waited {seconds:g} s in vain"
        time.sleep(interval)
    return time.monotonic() - started
