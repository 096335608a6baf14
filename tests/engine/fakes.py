"""Fakes: a host for the engine, and the programs that the engine runs."""

from __future__ import annotations

import io
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from slipway.base import confined
from slipway.base import settings as config
from slipway.base.errors import FailedError
from slipway.base.output import Reporter
from slipway.deployment.engine import Engine
from slipway.records import journal, manifest
from slipway.records.deployment import Request
from slipway.release import build, fit
from slipway.schema import database, migrate
from slipway.slot import background, connections, cutover, memory, processes, slots, standby, systemd, watch
from slipway.slot.connections import Connections

SESSIONS = frozenset({"process 100", "process 101"})
PIDS = {"blue": (10, 11, 12), "green": (20, 21, 22)}  # of each slot the main process and its workers
V1, V2, V3 = ("v1", "1" * 40), ("v2", "2" * 40), ("v3", "3" * 40)


class Host:
    """A fake host: the slots that run, the releases that can be built and pass the gate, the database's revision."""

    def __init__(self, settings: config.Settings) -> None:
        self.settings = settings
        self.running: set[str] = set()
        self.not_ready = ""  # why the release that takes traffic is not ready, once the database was migrated
        self.bad_gate: set[str] = set()
        self.no_answer = ""  # why the live release gives no ready answer
        self.watch_reason = ""
        self.left = Connections(0, 0)
        self.revision: str | None = "0001"
        self.heads = ["0001"]  # of the next release that is built, whose history is all of `history` up to it
        self.history = [manifest.Revision("0001", "")]
        self.has_commit = True
        self.misfit = ""  # why a release that was built earlier does not fit this host
        self.calls: list[str] = []
        # A slot on standby is in `running` too. By default no slot can be paused, and each is stopped after its drain.
        self.can_pause = False
        self.started = 0  # how often a slot was, which tells its processes from earlier ones
        self.stopped: set[int] = set()  # process numbers
        self.gone: set[int] = set()
        self.at_work = 0
        self.memory = ""  # why it is short
        self.server = standby.Server("09:00", SESSIONS, frozenset())
        self.sessions = SESSIONS  # of a slot's processes to PostgreSQL
        self.timers: list[str] = []
        self.units: set[str] = set()  # processes and timers beside the slots that run
        self.crashing: set[str] = set()  # parts of the names of such that end right after their start
        self.stream = io.StringIO()
        self.engine = Engine(settings, Reporter(as_json=True, stream=self.stream))

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("state", "start", "stop"):
            monkeypatch.setattr(systemd, name, getattr(self, name))
        for name in ("of_service", "stop", "resume", "is_stopped", "is_there"):
            monkeypatch.setattr(processes, name, getattr(self, "stop_processes" if name == "stop" else name))
        monkeypatch.setattr(processes, "heartbeat_ages", lambda _: [0.1, 0.1])
        monkeypatch.setattr(processes, "at_work", lambda *_: self.at_work)
        monkeypatch.setattr(processes, "set_oom_score", lambda *_: None)
        monkeypatch.setattr(connections, "sessions", lambda *_: self.sessions)
        monkeypatch.setattr(connections, "count", lambda _: self.left)
        monkeypatch.setattr(memory, "shortage", lambda: self.memory)
        monkeypatch.setattr(database, "server", lambda *_: self.server)
        monkeypatch.setattr(systemd, "run_later", lambda unit, *_: self.timers.append(unit))
        monkeypatch.setattr(systemd, "cancel", lambda unit: self.timers.append(f"no {unit}"))
        for name in ("states", "start_units", "stop_units", "stop_soon"):
            monkeypatch.setattr(systemd, name, getattr(self, name))
        monkeypatch.setattr(systemd, "log_of", lambda *_: ["ModuleNotFoundError: No module named 'jobs'"])
        monkeypatch.setattr(background, "_SETTLED", 0)
        monkeypatch.setattr(cutover, "pass_gate", self.pass_gate)
        monkeypatch.setattr(cutover, "drain", self.drain)
        monkeypatch.setattr(cutover, "why_not_ready", self.why_not_ready)
        monkeypatch.setattr(cutover, "why_no_answer", lambda *_: self.no_answer)
        monkeypatch.setattr(migrate, "upgrade", self.upgrade)
        monkeypatch.setattr(migrate, "downgrade", self.downgrade)
        monkeypatch.setattr(migrate, "restore", self.restore)
        monkeypatch.setattr(database, "size", lambda *_: 1)
        monkeypatch.setattr(build, "build", self.build)
        monkeypatch.setattr(build, "check_space", lambda _: None)
        monkeypatch.setattr(fit, "misfit", lambda *_: self.misfit)
        monkeypatch.setattr(watch, "watch", self.watch)
        monkeypatch.setattr(database, "current_revision", lambda *_: self.revision)
        monkeypatch.setattr(build, "has_commit", lambda *_: self.has_commit)

    def state(self, _: str, slot: str) -> systemd.UnitState:
        active = "active" if slot in self.running else "inactive"
        return systemd.UnitState(active, "", 0)

    def start(self, _: str, slot: str) -> None:
        self.calls.append(f"start {slot}")
        assert self.settings.overlap == "slots" or self.running <= {slot}, "two releases run at the same time"
        self.running.add(slot)
        self.started += 1
        self.gone -= set(PIDS[slot])

    def stop(self, _: str, slot: str, __: float = 0) -> None:
        if slot in self.running:
            self.calls.append(f"stop {slot}")
            self.running.discard(slot)
        self.stopped -= set(PIDS[slot])

    def states(self, _: str) -> dict[str, systemd.UnitState]:
        crashed = {name for name in self.units if any(part in name for part in self.crashing)}
        return {name: systemd.UnitState("active", "running", int(name in crashed)) for name in self.units}

    def start_units(self, units: Sequence[str]) -> None:
        for unit in units:
            self.calls.append(f"start {unit}")
            self.units.add(unit)
            self._check_single(unit)

    def stop_units(self, units: Sequence[str], _: float = 0) -> None:
        for unit in units:
            self.calls.append(f"stop {unit}")
            self.units.discard(unit)

    def stop_soon(self, units: Sequence[str]) -> None:
        self.calls += [f"ask {unit} to end" for unit in units]  # it goes on for a while

    def _check_single(self, started: str) -> None:
        """A process of which there is one never runs twice."""
        name = started.partition("@")[0].partition(".")[2]
        if self.settings.processes.get(name, {}).get("count") == 1:
            assert len([unit for unit in self.units if unit.partition("@")[0] == started.partition("@")[0]]) == 1

    def of_service(self, _: str, slot: str) -> processes.Slot | None:
        if slot not in self.running or not self.can_pause:
            return None
        main, *workers = [processes.Process(pid, self.started) for pid in PIDS[slot] if pid not in self.gone]
        return processes.Slot(main, tuple(workers))

    def stop_processes(self, found: Iterable[processes.Process]) -> bool:
        self.calls.append(f"SIGSTOP {_numbers(found)}")
        self.stopped |= {item.pid for item in found}
        return True

    def resume(self, found: Iterable[processes.Process]) -> None:
        self.calls.append(f"SIGCONT {_numbers(found)}")
        self.stopped -= {item.pid for item in found}

    def is_stopped(self, found: processes.Process) -> bool:
        return found.pid in self.stopped and self.is_there(found)

    def is_there(self, found: processes.Process) -> bool:
        return found.pid not in self.gone and any(found.pid in PIDS[slot] for slot in self.running)

    def pass_gate(self, _: config.Settings, slot: str, sha: str, *__: Any, **___: Any) -> float:
        if sha in self.bad_gate:
            raise FailedError(f"logbook@{slot} crashed.", "Traceback: boom")
        self.calls.append(f"gate {slot}")
        return 0.1

    def why_not_ready(self, _: config.Settings, slot: str, __: str) -> str:
        self.calls.append(f"ask {slot}")
        return self.not_ready if "upgrade" in self.calls else ""

    def upgrade(self, _: config.Settings, release: manifest.Manifest) -> str:
        self.calls.append("upgrade")
        self.revision = release.heads[0]
        return f"to {self.revision}"

    def restore(self, *_: object) -> str:
        self.calls.append("restore")
        return ""

    def downgrade(self, _: config.Settings, release: manifest.Manifest) -> str:
        self.calls.append("downgrade")
        self.revision = release.heads[0]
        return f"back to {self.revision}"

    def drain(self, _: config.Settings, slot: str) -> tuple[float, Connections]:
        self.calls.append(f"drain {slot}")
        return 0.1, self.left

    def build(self, settings: config.Settings, name: str, tag: str | None, sha: str, **_: bool) -> manifest.Manifest:
        names = [item.revision for item in self.history]
        known = self.history[: names.index(self.heads[0]) + 1] if self.heads[0] in names else []
        made = manifest.Manifest(name, tag, sha, "", "3.13", "", "", list(self.heads), known)
        write_release(settings, made)
        return made

    def watch(self, *_: Any) -> tuple[watch.Tally, str]:
        self.calls.append("watch")
        return watch.Tally(), self.watch_reason

    def results(self) -> list[tuple[str, str, str]]:
        entries = journal.read(self.settings.journal)
        return [(item.action, item.tag or "", item.outcome) for item in entries if item.phase == journal.RESULT]

    def live(self) -> str | None:
        return slots.live_release(self.settings)


def _numbers(found: Iterable[processes.Process]) -> str:
    return " ".join(str(item.pid) for item in found)


def write_release(settings: config.Settings, made: manifest.Manifest) -> Path:
    """The directory of a complete release that only has a manifest."""
    path = settings.release(made.release)
    path.mkdir(exist_ok=True)
    (path / manifest.NAME).write_text(manifest.dump(made))
    (path / manifest.COMPLETE).touch()
    return path


def gone() -> Reporter:
    """A reporter whose client has disconnected."""

    class Gone(io.StringIO):
        def write(self, _: str) -> int:
            raise BrokenPipeError

    report = Reporter(as_json=True, stream=Gone())
    report.note("a first word")
    return report


def request(version: tuple[str, str], **values: Any) -> Request:
    return Request(tag=version[0], sha=version[1], **{"owner": "alice", **values})


def deployed(host: Host, *versions: tuple[str, str]) -> None:
    for version in versions:
        host.engine.deploy(request(version), None)


def switched(host: Host) -> None:
    """v2 is live after v1; its deployment is still open."""
    deployed(host, V1)
    host.engine.stage(request(V2), None)
    host.engine.phase("start", "alice")
    host.engine.phase("switch", "alice")


class Programs:
    """The command lines that were run, and their results: (exit code, output, errors) by a part of the line."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.answers: dict[str, tuple[int, str, str]] = {}

    def run(self, command: Sequence[str | Path], **_: Any) -> subprocess.CompletedProcess[str]:
        line = " ".join(str(part) for part in command)
        self.ran.append(line)
        code, output, errors = next((answer for part, answer in self.answers.items() if part in line), (0, "", ""))
        return subprocess.CompletedProcess([], code, output, errors)

    def run_in_unit(self, _: confined.Unit, command: Sequence[str | Path], **options: Any) -> confined.Result:
        done = self.run(command, **options)
        code = done.returncode if done.returncode >= 0 else 128 - done.returncode
        return confined.Result(code, b"", done.stdout + done.stderr)
