import json
import subprocess
from collections.abc import Sequence

import pytest

from slipway.base import process
from slipway.base.errors import FailedError
from slipway.slot import systemd
from slipway.slot.systemd import UnitState

from .fakes import Programs

SHOWN = "NRestarts=2\nActiveState=activating\nSubState=auto-restart\n"


def test_systemctl_show_is_parsed_and_an_unknown_unit_is_inactive(programs: Programs) -> None:
    programs.answers["logbook@blue.service"] = (0, SHOWN, "")
    assert systemd.state("logbook", "blue") == UnitState("activating", "auto-restart", 2)
    assert systemd.state("logbook", "green") == UnitState("inactive", "dead", 0)
    assert systemd.parse_show("NRestarts=\nActiveState=active") == UnitState("active", "dead", 0)


@pytest.mark.parametrize(
    ("state", "is_up", "crashed"),
    [
        (UnitState("active", "running", 0), True, False),
        (UnitState("activating", "start", 0), True, False),
        (UnitState("reloading", "reload", 0), True, False),
        (UnitState("inactive", "dead", 0), False, False),
        (UnitState("deactivating", "stop-sigterm", 0), False, False),
        (UnitState("failed", "failed", 0), False, True),
        (UnitState("activating", "auto-restart", 0), True, True),
        (UnitState("active", "running", 1), True, True),
    ],
)
def test_a_unit_may_be_up_and_still_have_crashed(state: UnitState, is_up: bool, crashed: bool) -> None:
    assert (state.is_up, state.crashed) == (is_up, crashed)


@pytest.mark.parametrize(("needed", "reloads"), [("yes", 1), ("no", 0)])
def test_a_slot_starts_from_the_unit_files_as_they_are_now(programs: Programs, needed: str, reloads: int) -> None:
    programs.answers["NeedDaemonReload"] = (0, f"NeedDaemonReload=no\n\nNeedDaemonReload={needed}\n", "")
    systemd.start("logbook", "blue")
    assert programs.ran[1:-2] == ["systemctl daemon-reload"] * reloads
    assert programs.ran[-1] == "systemctl start --no-block logbook@blue.socket logbook@blue.service"


def test_a_slot_stops_with_its_socket_first(programs: Programs) -> None:
    systemd.stop("logbook", "blue", 60)
    assert programs.ran[1] == "systemctl stop logbook@blue.socket logbook@blue.service"


@pytest.mark.parametrize(
    ("socket", "service", "stopped"),
    [
        ("ActiveState=inactive\n", "ActiveState=inactive\n", False),
        ("ActiveState=inactive\nJob=\n", "Job=0\nActiveState=inactive\n", False),
        ("ActiveState=active\n", "ActiveState=inactive\n", True),
        ("ActiveState=inactive\n", "ActiveState=failed\n", True),
        ("ActiveState=inactive\n", "Job=417\nActiveState=inactive\n", True),  # it waits to be started
        ("", "", True),
    ],
)
def test_a_slot_that_does_not_run_is_not_stopped(programs: Programs, socket: str, service: str, stopped: bool) -> None:
    programs.answers["systemctl show"] = (0, f"{socket}\n{service}", "")
    systemd.stop("logbook", "blue", 60)
    assert (len(programs.ran) > 1) is stopped


def test_a_systemd_error_is_a_failure_with_its_message(programs: Programs) -> None:
    programs.answers |= {
        "start --no-block": (1, "", "Unit is masked.\n"),
        "stop logbook@blue.socket": (1, "", "Busy."),
    }
    with pytest.raises(FailedError, match="systemd could not start logbook@blue") as caught:
        systemd.start("logbook", "blue")
    assert caught.value.detail == "Unit is masked."
    with pytest.raises(FailedError, match=r"systemd could not stop logbook@blue\."):
        systemd.stop("logbook", "blue", 60)


def logged(*messages: object, run: str = "new", starts: bool = False) -> list[dict[str, object]]:
    """Entries of the journal, as journalctl gives them; with systemd's own of the start of that run before them."""
    start = {"MESSAGE": "Starting logbook@blue.service...", "MESSAGE_ID": systemd._STARTING, "INVOCATION_ID": run}
    entries: list[dict[str, object]] = [{"MESSAGE": text, "_SYSTEMD_INVOCATION_ID": run} for text in messages]
    return [{**start}, *entries] if starts else entries


def journal(*entries: dict[str, object]) -> tuple[int, str, str]:
    return 0, "".join(f"{json.dumps(entry)}\n" for entry in entries), ""


def test_failure_reads_only_this_slots_log_since_its_start(programs: Programs) -> None:
    programs.answers["--output=json"] = journal(*logged("started", "[ERROR] no"))
    assert systemd.failure("logbook", "blue", since=1000.9) == "started\n[ERROR] no"
    assert programs.ran[-1].endswith("--unit=logbook@blue.service --since=@1000.900000")


def test_failure_leaves_out_how_the_run_before_has_ended(programs: Programs) -> None:
    """The end of a standby is written down late, and has errors of its own: its workers are killed."""
    ending = logged("[ERROR] Worker (pid:7) was sent SIGKILL! Perhaps out of memory?", run="old")
    crash = [*logged("[ERROR] no such module", starts=True), *logged(run="again", starts=True)]
    programs.answers["--output=json"] = journal(*ending, *crash, *ending)
    assert systemd.failure("logbook", "blue", since=0).splitlines() == [
        "Starting logbook@blue.service...",
        "[ERROR] no such module",
        "Starting logbook@blue.service...",
    ]


def test_failure_reads_text_that_journalctl_gives_as_bytes_or_not_at_all(programs: Programs) -> None:
    coloured = list(b"\x1b[31mERROR\x1b[0m \xff")
    programs.answers["--output=json"] = journal(*logged(coloured, None, "two\nlines"))
    assert systemd.failure("logbook", "blue", since=0) == "\x1b[31mERROR\x1b[0m \ufffd\ntwo\nlines"


def test_failure_reads_whatever_a_program_has_sent_as_its_message(programs: Programs) -> None:
    """Several messages in one entry, in text and in bytes; and an entry that was cut off, as it was too long."""
    code, entries, errors = journal(*logged(["one", "two"], [[1, 2], [3]], [300, -1], 7, {"a": 1}))
    programs.answers["--output=json"] = code, entries + '{"MESSAGE": "cut o', errors
    assert systemd.failure("logbook", "blue", since=0).splitlines()[:2] == ["one", "two"]


def test_a_log_of_any_size_is_read_in_part(programs: Programs) -> None:
    systemd.log("logbook", "blue", 0, 1000)
    assert f"head --bytes={32 * 2**20}" in programs.ran[-1]


def test_failure_shows_json_log_lines_as_text(programs: Programs) -> None:
    traceback = 'Traceback (most recent call last):\n  File "app/main.py", line 3\nValueError: boom'
    lines = [
        {"time": "t", "level": "INFO", "message": "Starting gunicorn"},
        {"time": "t", "level": "ERROR", "message": "Exception in worker process", "exc_info": traceback},
        {"time": "t", "level": "ERROR", "message": "Worker (pid:7) exited with code 3."},
    ]
    programs.answers["--output=json"] = journal(*logged(*map(json.dumps, lines)))
    assert systemd.failure("logbook", "blue", since=0) == (
        f"[INFO] Starting gunicorn\n[ERROR] Exception in worker process\n{traceback}"
    )


@pytest.mark.parametrize("line", ["started", "{torn", '{"a":' * 100_000, '{"no": "log line"}', '["message"]', "{}"])
def test_a_log_line_without_json_is_unchanged(line: str) -> None:
    assert systemd.readable(line) == line


@pytest.mark.parametrize(
    ("shown", "detached"),
    [
        (["LoadState=loaded\nActiveState=active"], True),
        (["LoadState=not-found\nActiveState=inactive"], False),
        (["LoadState=loaded\nActiveState=deactivating", "LoadState=loaded\nActiveState=failed", "LoadState=not-found"],
         False),
        (["LoadState=loaded\nActiveState=deactivating", "LoadState=loaded\nActiveState=active"], True),
    ],
)  # fmt: skip
def test_the_unit_of_a_killed_phase_is_waited_for(
    programs: Programs, monkeypatch: pytest.MonkeyPatch, shown: list[str], detached: bool
) -> None:
    answers = iter(shown)
    run = programs.run

    def show(command: Sequence[str], **values: object) -> subprocess.CompletedProcess[str]:
        if "show" in command:
            programs.answers["show"] = (0, next(answers), "")
        return run(command, **values)

    monkeypatch.setattr(process, "run", show)
    assert systemd.is_detached("logbook") is detached
    failed = "failed" in "".join(shown)
    assert ("systemctl reset-failed slipway-logbook.service" in programs.ran) is failed


def test_a_killed_phase_that_does_not_end_counts_as_running(
    programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(systemd, "_RELEASE_SECONDS", 0.05)
    programs.answers["show"] = (0, "LoadState=loaded\nActiveState=deactivating", "")
    assert systemd.is_detached("logbook")
