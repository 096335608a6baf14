"""The command line: commands, options, and where a command runs. What each command does is in `commands`."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from slipway import PROTOCOL, __version__
from slipway.base import process
from slipway.base import settings as config
from slipway.base.errors import FailedError, LockedError, RefusedError, SlipwayError
from slipway.base.output import Reporter
from slipway.deployment import lock
from slipway.records import phases
from slipway.slot import systemd

EXIT_CODES = """
exit codes:
  0  done, or nothing to do
  1  failed: the release that was live before is still live
  2  wrong usage
  3  refused before anything was changed: bad input, a policy, no disk space
  4  another deployment of the app is in progress
"""

_STARTS = 5  # attempts to start the transient unit, of which other runs may have won all but the last
INTERRUPTED = 130  # as a shell says it of a program that SIGINT has ended

# Commands that touch a running service. They run in a transient unit, and go on when their client disconnects.
DETACHED = {row.command for row in phases.TABLE if row.outlives_client} | {"cut-over", "revert", "deploy", "rollback"}


def parser() -> argparse.ArgumentParser:
    """The whole command line, with help for each command."""
    root = argparse.ArgumentParser(
        prog="slipway",
        description="Deploys and rolls back the releases of an app on this host.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    root.add_argument("--version", action="version", version=f"slipway {__version__} (protocol {PROTOCOL})")
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--json", action="store_true", help="print one JSON object per line; the last is the result")
    shared.add_argument(
        "--protocol", type=int, metavar="N", help="the protocol of the controller; refused if this engine has another"
    )
    commands = root.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, function: str, text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text, parents=[shared])
        added.set_defaults(function=function)
        return added

    def app_command(name: str, function: str, text: str) -> argparse.ArgumentParser:
        added = command(name, function, text)
        added.add_argument("app", help="name of the app, as in /etc/slipway/<app>.toml")
        if name in phases.OWNED:
            # A command that opens a deployment makes this its owner. A phase without it works on any open deployment.
            default = _whoami() if name in ("stage", "deploy", "rollback") else None
            added.add_argument(
                "--owner", default=default, help="who deploys; refused while a deployment of another owner is open"
            )
            added.add_argument(
                "--supersede",
                action="append",
                default=[],
                metavar="OWNER",
                help="take over from this owner, whose run has ended",
            )
        if name in ("stage", "rollback"):
            added.add_argument(
                "--fleet", action="append", default=[], metavar="HOST", help="repeat for each host of a run on several"
            )
        return added

    for name, text in (
        ("plan", "show what a deploy would do, and change nothing"),
        ("stage", "open a deploy: build the release beside the live one"),
        ("deploy", "run all phases of a deploy, when the run has one host"),
    ):
        added = app_command(name, name, text)
        added.add_argument("--sha", required=True, help="the full hash of the commit")
        added.add_argument("--tag", help="the tag of the commit")
        added.add_argument(
            "--force", action="store_true", help="deploy also when the tag was moved, or the release is live already"
        )
        if name == "plan":
            added.add_argument(
                "--brief", action="store_true", help="do not check the host; the deploy that follows checks it"
            )
        else:
            added.add_argument(
                "--bundle", type=Path, help="git bundle with the commit and its tag; - reads standard input"
            )
    for name in phases.ON_SEVERAL_HOSTS:
        text = " ".join(row.does for row in phases.of_command(name))
        added = app_command(name, "finish" if name == "finish" else "phase", text)
        if name == "migrate":
            added.add_argument(
                "--later",
                action="store_true",
                help="another host of this run has migrated: commands are left out where both have one database",
            )
    app_command("cut-over", "cut_over", "run all remaining phases of the open deployment, when the run has one host")
    app_command("revert", "revert", "undo the open deployment; the old release stays live")
    added = app_command("rollback", "rollback", "roll back to the release before the live one, or to a given one")
    added.add_argument("version", nargs="?", default="", help="a tag or a commit (7 digits or more) that was live here")
    mode = added.add_mutually_exclusive_group()
    mode.add_argument("--open", action="store_true", help="only open the rollback; `cut-over` runs the other phases")
    mode.add_argument("--plan", action="store_true", help="only show what it would do")
    added.add_argument(
        "--allow-data-loss",
        action="store_true",
        help="dump the database and downgrade its schema, if the release cannot run on it",
    )
    app_command("prune", "prune", "delete releases beyond keep_releases, and files that interrupted runs left")
    app_command("recover", "recover", "finish or undo an interrupted deployment and start the live slot (runs at boot)")
    app_command("end-standby", "end_standby", "stop the slot on standby when its time is over (a timer runs this)")
    app_command("generate", "generate", "make the values of variables that the host is to make and does not have yet")
    added = app_command("rotate", "rotate", "make such a value anew; the next deploy starts the app with it")
    added.add_argument("variable", help="its name, such as SECRET_KEY")
    added = app_command("remove", "remove", "stop the app and take it away from this host, but for its data")
    added.add_argument("--purge", action="store_true", help="with its data, after a dump of its database")
    added = app_command("run-job", "run_job", "run a job of the schedule in the live release (its timer runs this)")
    added.add_argument("job", help="its name, as under `schedule` in the inventory")
    app_command("report", "report", "send waiting reports of deployments to the Logbook")
    added = app_command("run", "run", "run a command as the app's user, with the live release and its environment")
    added.add_argument(
        "arguments", nargs=argparse.REMAINDER, metavar="-- COMMAND", help="`python` is the release's Python"
    )
    app_command("shell", "shell", "open a shell as the app's user, with the live release and its environment")
    added = app_command("logs", "logs", "show the log of the web process, the other processes and the schedule")
    added.add_argument("--follow", action="store_true", help="go on, and show what comes")
    added.add_argument("--since", default="", help="all from then on, such as '1 hour ago' or '2026-11-27 10:00'")
    added.add_argument("--lines", type=int, default=100, help="so many of the last lines, without --since (100)")
    added.add_argument("--only", default="", metavar="NAME", help="`web`, or the name of a process or a job")
    for added in (
        command("status", "show_status", "show what is live, database, certificate, disk and the last deployments"),
        command("releases", "show_releases", "show the releases on this host"),
    ):
        added.add_argument("app", nargs="?", help="default: all apps on this host")

    added = command(
        "backup", "backup", "make a backup of the host's databases and of the files of its apps (a timer does)"
    )
    mode = added.add_mutually_exclusive_group()
    mode.add_argument("--full", action="store_true", help="a full one, whatever is due")
    mode.add_argument("--prepare", action="store_true", help="only make the repository know the host's PostgreSQL")
    mode.add_argument("--check", action="store_true", help="only check that WAL reaches the repository")
    waits = [added]
    waits.append(command("drill", "drill", "restore the latest backup on trial, look at it, and take it away again"))
    for added in waits:
        added.add_argument(
            "--wait", type=float, default=0, metavar="SECONDS", help="for another backup or drill to end (0)"
        )
    command("heartbeat", "beat", "write the row that says up to when a backup is (a timer does)")

    added = command("resolve", "resolve", "on the controller: find the commit of a version")
    added.add_argument("repository", help="path or URL of a git repository")
    added.add_argument(
        "version", nargs="?", help="a tag, or a commit where the environment accepts one; default: newest stable"
    )
    added.add_argument("--accept", choices=config.ACCEPT, default="tags")
    added = command("bundle", "bundle", "on the controller: write a commit and its tag to a git bundle")
    added.add_argument("repository")
    added.add_argument("--sha", required=True)
    added.add_argument("--tag")
    added.add_argument("--have", action="append", default=[], metavar="SHA", help="a commit that the host has")
    added.add_argument("--output", type=Path, required=True)
    added = command("compare", "compare", "on the controller: list the commits between two, and pending migrations")
    added.add_argument("repository")
    added.add_argument("--from", dest="old", help="the live commit")
    added.add_argument("--to", dest="new", required=True)
    added.add_argument("--revision", help="the revision of the database (default: it was never migrated)")
    for name in ("resolve", "bundle", "compare"):
        commands.choices[name].add_argument(
            "--cache", type=Path, default=Path(".cache/repositories"), help="directory for mirrors of repositories"
        )
    added = command("inspect", "inspect", "on the controller: propose an entry for a repository, from its files")
    added.add_argument("repository", help="a directory, or the URL of a repository")
    added.add_argument("--name", default="", help="name of the app (default: that of the repository)")
    added = command("build", "build", "on the controller: write this program as one file")
    added.add_argument("--output", type=Path, required=True)
    return root


def main(arguments: Sequence[str]) -> int:
    """Run one command; its exit code (see EXIT_CODES)."""
    # An older controller, or an operator, may still use the old name of a command.
    arguments = [
        phases.RENAMED_COMMANDS.get(word, word) if place == 0 else word for place, word in enumerate(arguments)
    ]
    options = parser().parse_args(arguments)
    report = Reporter(options.json)
    try:
        _check_protocol(options.protocol)
        if _must_detach(options):
            return _detach(options, arguments, report)
        # Imported late, as a command that only starts the unit and waits for it does not need it.
        from slipway.cli import commands

        run: Callable[[argparse.Namespace, Reporter], commands.Output] = getattr(commands, options.function)
        output = run(options, report)
    except SlipwayError as error:
        holder = {"holder": error.holder} if isinstance(error, LockedError) else {}
        detail = _without_values(error.detail, options)
        report.result(error.outcome, str(error), detail=detail, changed=False, **holder)
        return error.exit_code
    except PermissionError as error:
        report.result("refused", f"{error.filename} needs root; run it with sudo.", changed=False)
        return RefusedError.exit_code
    except OSError as error:
        report.result("failed", f"{error.filename or 'The system'}: {error.strerror}.", changed=False)
        return FailedError.exit_code
    except Exception as error:
        from slipway.base import crash

        report.result("failed", crash.explain(error), changed=False)
        return FailedError.exit_code
    except KeyboardInterrupt:
        report.result("failed", "Interrupted.", changed=False)
        return INTERRUPTED
    report.result("ok", **output.fields())
    return 0


def program() -> NoReturn:
    """Run the command line, and exit with its exit code.

    It exits without cleaning up while an observer's thread is still sending: a thread inside of OpenSSL can crash the
    exiting process, and then a deployment that succeeded would look as if it had been killed.
    """
    process.forget_caller()
    code = main(sys.argv[1:])
    if code == FailedError.exit_code and systemd.is_inside_unit():
        code = systemd.FAILED_INSIDE
    if threading.active_count() > 1:
        with contextlib.suppress(OSError):  # the client has disconnected
            sys.stdout.flush()
        os._exit(code)
    sys.exit(code)


def _check_protocol(spoken: int | None) -> None:
    """RefusedError when the controller speaks another protocol than this engine."""
    if spoken is not None and spoken != PROTOCOL:
        raise RefusedError(
            f"The controller uses protocol {spoken}, but slipway {__version__} on this host uses protocol {PROTOCOL}. "
            "Run site.yml from the version of Slipway that you want to use, then try again."
        )


def _without_values(text: str, options: argparse.Namespace) -> str:
    """What a program has printed, without the values of the variables of the app that the command is for."""
    from slipway.base.redact import redact
    from slipway.slot import envfile

    known: dict[str, str] = {}
    if getattr(options, "app", None):
        with contextlib.suppress(SlipwayError, OSError):
            known = envfile.all_of(config.load(options.app))
    return redact(text, known)


def _must_detach(options: argparse.Namespace) -> bool:
    only_opens = options.command == "rollback" and (options.open or options.plan)
    return options.command in DETACHED and not only_opens and not systemd.is_inside_unit() and os.geteuid() == 0


def _detach(options: argparse.Namespace, arguments: Sequence[str], report: Reporter) -> int:
    """Run the command in the app's transient unit; LockedError when another command is running there.

    A command that was killed there could not print its result. That is reported as a failure. The exit code of
    systemd-run is not passed on, as ssh uses the same code for a lost connection, after which nothing is undone.
    """
    settings = config.load(options.app)
    if options.command in ("deploy", "rollback"):
        arguments = [*arguments, "--owner", options.owner]  # in the unit the user is always root
    unit = f"slipway-{options.app}.service"
    for attempt in range(_STARTS):
        waited = _wait_for_unit(options.app, settings.lock, getattr(options, "supersede", ()))
        if (waited or attempt) and not report.has_client_after("The other run has ended.", lock.CLIENT_SECONDS):
            raise FailedError(lock.DISCONNECTED)
        code = systemd.run_detached(options.app, sys.argv[0], arguments)
        if code == systemd.KILLED:
            raise FailedError(f"{options.command} was killed. `journalctl --unit={unit}` may show why.")
        if code is not None:
            return code
        # Another run was quicker, such as one whose controller was killed and whose command has only now begun.
    raise FailedError(f"systemd did not start {unit}. `journalctl --unit={unit}` may show why.")


def _wait_for_unit(app: str, path: Path, superseded: Sequence[str]) -> bool:
    """Wait until the app's transient unit is free; whether it was not. LockedError when another run is at work there.

    The phase of a killed run goes on in the unit: a run that takes over waits for its end. A run without a lease has
    closed its deployment, and only tells its observers: any run waits for that. Each of the two has a time of its own.
    """
    since, is_closed = time.monotonic(), False
    waited = False
    while systemd.is_detached(app):
        lease = lock.read(path)
        if is_closed != (lease is None):
            since, is_closed = time.monotonic(), lease is None
        patience = lock.OBSERVERS_WAIT if lease is None else lock.TAKEOVER_WAIT if lease.owner in superseded else 0
        if time.monotonic() - since >= patience:
            raise lock.busy(app, path, lease)
        waited = True
        time.sleep(0.1)
    return waited


def _whoami() -> str:
    return os.environ.get("SUDO_USER") or os.environ.get("USER") or "root"
