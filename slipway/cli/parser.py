"""The command line: what can be typed, and where it runs. What each command does is in `commands`."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from slipway.base import settings as config
from slipway.base.errors import FailedError, LockedError, RefusedError, SlipwayError
from slipway.base.output import Reporter
from slipway.deployment import lock
from slipway.slot import systemd

EXIT_CODES = """
exit codes:
  0  done, or nothing to do
  1  failed: the release that was live before serves
  2  wrong usage
  3  refused before anything changed: bad input, a policy, no space
  4  another deployment of the app is under way
"""

# Phases that touch a running service outlive whoever asked for them: they run in a transient unit.
DETACHED = {"migrate", "warm", "switch", "cut-over", "watch", "settle", "revert", "deploy", "rollback"}


def parser() -> argparse.ArgumentParser:
    """The whole command line, with help for each command."""
    root = argparse.ArgumentParser(
        prog="slipway",
        description="Moves the releases of an app through their phases on this host.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--json", action="store_true", help="one JSON object a line, the last one the result")
    commands = root.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, function: str, text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text, parents=[shared])
        added.set_defaults(function=function)
        return added

    def app_command(name: str, function: str, text: str) -> argparse.ArgumentParser:
        added = command(name, function, text)
        added.add_argument("app", help="name of the app, as in /etc/slipway/<app>.toml")
        return added

    owner_help = "who is asking; a phase of somebody else's deployment is refused"
    for name, function, text in (
        ("plan", "plan", "say what a deploy would do, and do nothing"),
        ("stage", "stage", "open a deploy: build the release beside the live one"),
        ("deploy", "deploy", "all phases of a deploy, on this host alone"),
    ):
        added = app_command(name, function, text)
        added.add_argument("--sha", required=True, help="the commit, in full")
        added.add_argument("--tag", help="the tag that named it")
        added.add_argument("--force", action="store_true", help="also when the tag has moved, or the release is live")
        if name != "plan":
            added.add_argument("--bundle", type=Path, help="git bundle with the commit and its tag; - reads it")
            added.add_argument("--owner", default=_whoami(), help="who deploys (default: %(default)s)")
            added.add_argument(
                "--supersede",
                action="append",
                default=[],
                metavar="OWNER",
                help="a dead owner, to take over from",
            )
    for name, function, text in (
        ("migrate", "phase", "bring the database to the open deploy's head, or back to the open rollback's"),
        ("warm", "phase", "start the new release in the idle slot and wait until it is ready"),
        ("cut-over", "phase", "migrate, warm, switch and settle in a row, for one host alone"),
        ("switch", "phase", "send traffic to the new release"),
        ("watch", "phase", "watch the new release; a command of its own for several hosts, else part of settle"),
        ("settle", "phase", "watch the new release, drain and stop the old slot, prune"),
        ("revert", "phase", "undo the open deployment; the old release serves"),
    ):
        app_command(name, function, text).add_argument("--owner", help=owner_help)
    added = app_command("rollback", "rollback", "return to the release before the live one, or to one that is named")
    added.add_argument("version", nargs="?", default="", help="a tag or a commit (7 digits or more) that was live here")
    mode = added.add_mutually_exclusive_group()
    mode.add_argument("--open", action="store_true", help="only open it; what `cut-over` does follows")
    mode.add_argument("--plan", action="store_true", help="only say where it would go")
    added.add_argument("--owner", default=_whoami(), help="who rolls back (default: %(default)s)")
    added.add_argument("--supersede", action="append", default=[], metavar="OWNER", help="as for stage")
    added.add_argument(
        "--allow-data-loss",
        action="store_true",
        help="dump the database and downgrade its schema, where the release cannot run on it",
    )
    app_command("prune", "prune", "delete releases beyond keep_releases, and what interrupted runs left")
    app_command("recover", "recover", "finish or undo an interrupted deployment and start the live slot (runs at boot)")
    app_command("tell", "tell", "send the Logbook the reports of deployments that it has not got yet")
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
    options = parser().parse_args(arguments)
    report = Reporter(options.json)
    try:
        if _must_detach(options):
            return _detach(options, arguments)
        # Late: what only hands a phase to its unit, and waits for it, needs none of this.
        from slipway.cli import commands

        run: Callable[[argparse.Namespace, Reporter], dict[str, Any]] = getattr(commands, options.function)
        values = run(options, report)
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
    report.result("ok", values.pop("message"), **values)
    return 0


def program() -> NoReturn:
    """Run what was typed, and end with its exit code.

    At once where a report to the Logbook is still being sent: a thread that is inside of OpenSSL while the process
    is taken down crashes it, and a deployment that succeeded would count as one that was killed.
    """
    code = main(sys.argv[1:])
    if threading.active_count() > 1:
        with contextlib.suppress(OSError):  # nobody reads any more
            sys.stdout.flush()
        os._exit(code)
    sys.exit(code)


def _must_detach(options: argparse.Namespace) -> bool:
    only_opens = options.command == "rollback" and (options.open or options.plan)
    return options.command in DETACHED and not only_opens and not systemd.is_inside_unit() and os.geteuid() == 0


def _detach(options: argparse.Namespace, arguments: Sequence[str]) -> int:
    """Give the command to the app's transient unit; LockedError when another is at work there.

    One that was killed there had no say. It is a failure like any other, and not the exit code that systemd-run makes
    of it: ssh uses the same one for a connection that broke, after which nobody would undo anything.
    """
    settings = config.load(options.app)
    if options.command in ("deploy", "rollback"):
        arguments = [*arguments, "--owner", options.owner]  # in the unit everybody is root
    lease = lock.read(settings.lock)
    # A phase of a run that is dead goes on in its unit; whoever takes over waits for its end.
    superseded = lease is not None and lease.owner in getattr(options, "supersede", ())
    if not systemd.is_detached(options.app, lock.TAKEOVER_WAIT if superseded else 0):
        code = systemd.run_detached(options.app, sys.argv[0], arguments)
        if code == systemd.KILLED:
            unit = f"slipway-{options.app}.service"
            raise FailedError(f"{options.command} was killed. `journalctl --unit={unit}` may say by whom.")
        if code == 0 or not systemd.is_detached(options.app):  # else another came first: the unit is not ours
            return code
    raise lock.busy(options.app, lock.read(settings.lock))


def _whoami() -> str:
    return os.environ.get("SUDO_USER") or os.environ.get("USER") or "root"
