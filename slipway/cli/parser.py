"""The command line: what can be typed, and where it runs. What each command does is in `commands`."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from slipway import PROTOCOL, __version__
from slipway.base import settings as config
from slipway.base.errors import FailedError, LockedError, RefusedError, SlipwayError
from slipway.base.output import Reporter
from slipway.deployment import lock
from slipway.records import phases
from slipway.slot import systemd

EXIT_CODES = """
exit codes:
  0  done, or nothing to do
  1  failed: the release that was live before serves
  2  wrong usage
  3  refused before anything changed: bad input, a policy, no space
  4  another deployment of the app is under way
"""

# Commands that touch a running service: they run in a transient unit, and outlive their client.
DETACHED = {row.command for row in phases.TABLE if row.outlives_client} | {"cut-over", "revert", "deploy", "rollback"}


def parser() -> argparse.ArgumentParser:
    """The whole command line, with help for each command."""
    root = argparse.ArgumentParser(
        prog="slipway",
        description="Moves the releases of an app through their phases on this host.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    root.add_argument("--version", action="version", version=f"slipway {__version__} (protocol {PROTOCOL})")
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--json", action="store_true", help="one JSON object a line, the last one the result")
    shared.add_argument("--protocol", type=int, metavar="N", help="what the controller speaks; another one is refused")
    commands = root.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, function: str, text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text, parents=[shared])
        added.set_defaults(function=function)
        return added

    def app_command(name: str, function: str, text: str) -> argparse.ArgumentParser:
        added = command(name, function, text)
        added.add_argument("app", help="name of the app, as in /etc/slipway/<app>.toml")
        if name in phases.OWNED:
            # Who opens a deployment is its owner; a phase without an owner is that of whoever opened it.
            default = _whoami() if name in ("stage", "deploy", "rollback") else None
            added.add_argument("--owner", default=default, help="who deploys; the deployment of another is refused")
            added.add_argument(
                "--supersede",
                action="append",
                default=[],
                metavar="OWNER",
                help="an owner that has ended, to take over from",
            )
        if name in ("stage", "rollback"):
            added.add_argument(
                "--fleet", action="append", default=[], metavar="HOST", help="a host of the run, for each of several"
            )
        return added

    for name, text in (
        ("plan", "say what a deploy would do, and do nothing"),
        ("stage", "open a deploy: build the release beside the live one"),
        ("deploy", "all phases of a deploy, on this host alone"),
    ):
        added = app_command(name, name, text)
        added.add_argument("--sha", required=True, help="the commit, in full")
        added.add_argument("--tag", help="the tag that named it")
        added.add_argument("--force", action="store_true", help="also when the tag has moved, or the release is live")
        if name != "plan":
            added.add_argument("--bundle", type=Path, help="git bundle with the commit and its tag; - reads it")
    for name in phases.ON_SEVERAL_HOSTS:
        text = " ".join(row.does for row in phases.of_command(name))
        app_command(name, "finish" if name == "finish" else "phase", text)
    app_command("cut-over", "cut_over", "all phases of the open deployment that follow, on this host alone")
    app_command("revert", "revert", "undo the open deployment; the old release serves")
    added = app_command("rollback", "rollback", "return to the release before the live one, or to one that is named")
    added.add_argument("version", nargs="?", default="", help="a tag or a commit (7 digits or more) that was live here")
    mode = added.add_mutually_exclusive_group()
    mode.add_argument("--open", action="store_true", help="only open it; `cut-over` does the rest")
    mode.add_argument("--plan", action="store_true", help="only say where it would go")
    added.add_argument(
        "--allow-data-loss",
        action="store_true",
        help="dump the database and downgrade its schema, where the release cannot run on it",
    )
    app_command("prune", "prune", "delete releases beyond keep_releases, and what interrupted runs left")
    app_command("recover", "recover", "finish or undo an interrupted deployment and start the live slot (runs at boot)")
    app_command("report", "report", "send the Logbook the reports of deployments that it does not have yet")
    added = app_command("run", "run", "run a command as the app: its user, the live release, that one's environment")
    added.add_argument(
        "arguments", nargs=argparse.REMAINDER, metavar="-- COMMAND", help="`python` is the one of the release"
    )
    for added in (
        command("status", "show_status", "what is live, database, certificate, disk, last deployments"),
        command("releases", "show_releases", "releases on this host"),
    ):
        added.add_argument("app", nargs="?", help="default: every app of this host")

    added = command("resolve", "resolve", "on the controller: which commit a version is")
    added.add_argument("repository", help="path or URL of a git repository")
    added.add_argument(
        "version", nargs="?", help="a tag, or a commit where the environment accepts one; default: newest"
    )
    added.add_argument("--accept", choices=config.ACCEPT, default="tags")
    added = command("bundle", "bundle", "on the controller: write a commit and its tag to a git bundle")
    added.add_argument("repository")
    added.add_argument("--sha", required=True)
    added.add_argument("--tag")
    added.add_argument("--have", action="append", default=[], metavar="SHA", help="a commit that the host has")
    added.add_argument("--output", type=Path, required=True)
    added = command("compare", "compare", "on the controller: commits between two, and migrations that are pending")
    added.add_argument("repository")
    added.add_argument("--from", dest="old", help="the live commit")
    added.add_argument("--to", dest="new", required=True)
    added.add_argument("--revision", help="where the database is (default: it was never migrated)")
    for name in ("resolve", "bundle", "compare"):
        commands.choices[name].add_argument(
            "--cache", type=Path, default=Path(".cache/repositories"), help="where URLs are mirrored"
        )
    added = command("build", "build", "on the controller: write this program as one file")
    added.add_argument("--output", type=Path, required=True)
    return root


def main(arguments: Sequence[str]) -> int:
    """Run one command; its exit code (see EXIT_CODES)."""
    # An older controller, or a person, may still use the old name of a command.
    arguments = [
        phases.RENAMED_COMMANDS.get(word, word) if place == 0 else word for place, word in enumerate(arguments)
    ]
    options = parser().parse_args(arguments)
    report = Reporter(options.json)
    try:
        _check_protocol(options.protocol)
        if _must_detach(options):
            return _detach(options, arguments, report)
        # Imported late: a command that only hands a phase to its unit, and waits for it, does not need it.
        from slipway.cli import commands

        run: Callable[[argparse.Namespace, Reporter], commands.Output] = getattr(commands, options.function)
        output = run(options, report)
    except SlipwayError as error:
        holder = {"holder": error.holder} if isinstance(error, LockedError) else {}
        report.result(error.outcome, str(error), detail=error.detail, changed=False, **holder)
        return error.exit_code
    except PermissionError as error:
        report.result("refused", f"{error.filename} needs root; run it with sudo.", changed=False)
        return RefusedError.exit_code
    except OSError as error:
        report.result("failed", f"{error.filename or 'The system'}: {error.strerror}.", changed=False)
        return FailedError.exit_code
    report.result("ok", **output.fields())
    return 0


def program() -> NoReturn:
    """Run what was typed, and end with its exit code.

    It ends at once when an observer's thread is still sending: a thread inside of OpenSSL crashes a process that is
    being taken down, and a deployment that succeeded would count as one that was killed.
    """
    code = main(sys.argv[1:])
    if threading.active_count() > 1:
        with contextlib.suppress(OSError):  # the client has disconnected
            sys.stdout.flush()
        os._exit(code)
    sys.exit(code)


def _check_protocol(spoken: int | None) -> None:
    """RefusedError when the controller speaks another protocol than this engine."""
    if spoken is not None and spoken != PROTOCOL:
        raise RefusedError(
            f"The controller speaks protocol {spoken}, and slipway {__version__} on this host speaks {PROTOCOL}. "
            "Run site.yml with the version of Slipway that is to be used, then try again."
        )


def _must_detach(options: argparse.Namespace) -> bool:
    only_opens = options.command == "rollback" and (options.open or options.plan)
    return options.command in DETACHED and not only_opens and not systemd.is_inside_unit() and os.geteuid() == 0


def _detach(options: argparse.Namespace, arguments: Sequence[str], report: Reporter) -> int:
    """Run the command in the app's transient unit; LockedError when another run is at work there.

    A command that was killed there could not print its result. That is a failure like any other, and does not get the
    exit code of systemd-run: ssh uses the same code for a connection that broke, after which nothing would be undone.
    """
    settings = config.load(options.app)
    if options.command in ("deploy", "rollback"):
        arguments = [*arguments, "--owner", options.owner]  # in the unit everybody is root
    lease = lock.read(settings.lock)
    # A phase of a run that was killed goes on in its unit; a run that takes over waits for its end.
    superseded = lease is not None and lease.owner in getattr(options, "supersede", ())
    waits = superseded and systemd.is_detached(options.app)
    if not systemd.is_detached(options.app, lock.TAKEOVER_WAIT if superseded else 0):
        if waits and not report.has_client_after("The other run has ended.", lock.CLIENT_SECONDS):
            raise FailedError(lock.DISCONNECTED)
        code = systemd.run_detached(options.app, sys.argv[0], arguments)
        if code == systemd.KILLED:
            unit = f"slipway-{options.app}.service"
            raise FailedError(f"{options.command} was killed. `journalctl --unit={unit}` may say by whom.")
        if code == 0 or not systemd.is_detached(options.app):  # else another run has taken the unit
            return code
    raise lock.busy(options.app, lock.read(settings.lock))


def _whoami() -> str:
    return os.environ.get("SUDO_USER") or os.environ.get("USER") or "root"
