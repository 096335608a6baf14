"""Runs parts: their processes, logs and time limits. Whatever happens, no process of a part is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.runner import outcomes, reasons
from tests.runner.outcomes import Failure, Outcomes
from tests.runner.parts import Part, Stage

# A part that is told to end has so long to remove what it made (pytest its hosts), then to end at all.
SECONDS_TO_TIDY = 30.0
SECONDS_TO_END = 5.0
HEARTBEAT = 120.0  # some CI systems end a job that prints nothing
POLL = 0.1


@dataclass(frozen=True)
class Result:
    """How a part ended: `passed`, `failed`, `too long`, `interrupted` or `not started`."""

    part: Part
    ended: str
    seconds: float = 0.0
    found: Outcomes = field(default_factory=Outcomes)


@dataclass
class Run:
    """One run of several stages.

    `stop` ends it early. `remove_host` removes a container that a part has left because it was ended. `say` prints.
    `deadline` is when the run has to have ended, by its `clock`.
    """

    directory: Path
    deadline: float
    stop: threading.Event
    remove_host: Callable[[str], None]
    say: Callable[[str], None]
    tidy: float = SECONDS_TO_TIDY
    clock: Callable[[], float] = time.monotonic
    _printing: threading.Lock = field(default_factory=threading.Lock)
    _running: dict[str, float] = field(default_factory=dict)
    _results: dict[str, Result] = field(default_factory=dict)

    def stages(self, stages: Sequence[Stage]) -> list[Result]:
        """Run all parts of all stages, also after one has failed; their results, in the order of the stages."""
        self.directory.mkdir(parents=True, exist_ok=True)
        for stage in stages:
            alone = min(stage.at_once, len(stage.parts)) == 1
            waiting = deque(stage.parts)
            threads = [threading.Thread(target=self._one_by_one, args=(waiting, alone)) for _ in range(stage.at_once)]
            for thread in threads:
                thread.start()
            heard = time.monotonic()
            while any(thread.is_alive() for thread in threads):
                time.sleep(POLL)
                if not alone and time.monotonic() - heard > HEARTBEAT:
                    heard = time.monotonic()
                    self._print(self._progress())
        return [self._results[part.name] for stage in stages for part in stage.parts]

    def _one_by_one(self, waiting: deque[Part], alone: bool) -> None:
        """Run the parts that wait, while another thread takes the next of them."""
        while True:
            try:
                part = waiting.popleft()
            except IndexError:
                return
            self._results[part.name] = self._part(part, alone)

    def _part(self, part: Part, alone: bool) -> Result:
        log, events = self.directory / f"{part.name}.log", self.directory / f"{part.name}.jsonl"
        events.unlink(missing_ok=True)
        if self.stop.is_set() or self.clock() > self.deadline:
            log.unlink(missing_ok=True)
            return Result(part, "not started", found=Outcomes(failures=[Failure(part.name, self._why_not())]))
        started = time.monotonic()
        self._running[part.name] = started
        self._print(f"\n==> {part.name}" if alone else f"\n==> {part.name} has started; its log is {log.name}\n")
        ended, at = self._process(part, log, events, alone)
        seconds = time.monotonic() - started
        del self._running[part.name]
        if at:
            self._remove_hosts(part)
        found, printed = outcomes.read(events), log.read_text(errors="replace")
        if ended == "too long":
            found.failures.append(Failure(part.name, f"was ended after {seconds:.0f} s; {at}"))
        elif ended == "interrupted":
            found.failures.append(Failure(part.name, f"was interrupted; {at}"))
        elif ended == "failed" and not found.failures:
            found.failures.extend(reasons.failures(part.name, printed))
        if not alone:
            self._print(f"\n==> {part.name}\n{printed.rstrip()}\n\n==> {part.name} {ended} after {seconds:.0f} s")
        return Result(part, ended, seconds, found)

    def _process(self, part: Part, log: Path, events: Path, alone: bool) -> tuple[str, str]:
        """Run the part's command to its end, or to the end of its time; how it ended, and where it was if it had to."""
        # Without colours, also of tools that only ask what kind of terminal there is: a log is to be read by programs.
        environment = {**os.environ, outcomes.VARIABLE: str(events.resolve()), "NO_COLOR": "1"}
        limit = min(self.clock() + part.seconds, self.deadline)
        with log.open("wb") as output, log.open(errors="replace") as printed:
            process = subprocess.Popen(
                part.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,  # a group of its own, to be ended as a whole
            )
            ended, at = "", ""
            while not ended and process.poll() is None:
                if self.stop.wait(POLL):
                    ended = "interrupted"
                elif self.clock() > limit:
                    ended = "too long"
                if alone:
                    self._copy(printed.read())
            if ended:
                at = _where(log, events)
            _end(process, self.tidy if ended else 0.0)
            if alone:
                self._copy(printed.read())
        return ended or ("passed" if process.returncode == 0 else "failed"), at

    def _remove_hosts(self, part: Part) -> None:
        """Remove the containers of a part that was ended, which may not have come to it."""
        for host in part.hosts:
            try:
                self.remove_host(host)
            except Exception as error:  # the results of all parts are worth more
                self._print(f"The container {host} was not removed: {error}")

    def _why_not(self) -> str:
        return "was not started, as the run was interrupted" if self.stop.is_set() else "was not started: no time left"

    def _progress(self) -> str:
        """One line that says where each running part is."""
        now, told = time.monotonic(), []
        for name, started in sorted(self._running.items()):
            running = outcomes.read(self.directory / f"{name}.jsonl").running
            told.append(f"{name} for {now - started:.0f} s" + (f" (at {running[-1]})" if running else ""))
        return f"still running: {'; '.join(told)}"

    def _print(self, text: str) -> None:
        with self._printing:
            self.say(f"{text}\n")

    def _copy(self, text: str) -> None:
        if text:
            with self._printing:
                self.say(text)


def _end(process: subprocess.Popen[bytes], tidy: float) -> None:
    """End the process and all of its group: asked first, where it may tidy up, and killed at last."""
    for number, seconds in ((signal.SIGINT, tidy), (signal.SIGTERM, SECONDS_TO_END if tidy else 0.0)):
        if seconds and process.poll() is None:
            _signal(process.pid, number)
            try:
                process.wait(seconds)
            except subprocess.TimeoutExpired:
                continue
    _signal(process.pid, signal.SIGKILL)  # also what its leader has left behind
    process.wait()


def _signal(group: int, number: signal.Signals) -> None:
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return


def _where(log: Path, events: Path) -> str:
    """What a part is at: its tests, or what it printed last."""
    if running := outcomes.read(events).running:
        return f"it was at {', '.join(running)}"
    return f"last line: {reasons.last_line(log.read_text(errors='replace').splitlines())}"


def write(text: str) -> None:
    """Print at once."""
    sys.stdout.write(text)
    sys.stdout.flush()
