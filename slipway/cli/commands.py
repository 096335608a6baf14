"""What each command of the command line does."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from slipway.base import process, terminal
from slipway.base import settings as config
from slipway.base.errors import FailedError, RefusedError
from slipway.base.output import Reporter
from slipway.deployment.engine import Engine
from slipway.deployment.results import Result
from slipway.observers import hooks, logbook
from slipway.records.deployment import Request
from slipway.release import git, losses, revisions
from slipway.slot import slots, surroundings


@dataclass(frozen=True)
class Output:
    """The output of a command: a message, the fields of its result, and a text for people in place of the message."""

    message: str
    changed: bool = False
    text: str = ""
    values: dict[str, Any] = field(default_factory=dict)

    def fields(self) -> dict[str, Any]:
        return {"message": self.message, "changed": self.changed, "text": self.text, **self.values}


def _output(result: Result) -> Output:
    values = asdict(result)
    return Output(values.pop("message"), values.pop("changed"), values=values)


def _engine(options: argparse.Namespace, report: Reporter) -> Engine:
    settings = config.load(options.app)
    return Engine(settings, report, [logbook.Logbook(settings), hooks.Hooks(settings)])


def _request(options: argparse.Namespace) -> Request:
    return Request(
        sha=options.sha,
        tag=options.tag,
        owner=getattr(options, "owner", "root"),
        force=options.force,
        superseded=tuple(getattr(options, "supersede", ())),
        fleet=tuple(getattr(options, "fleet", ())),
    )


def plan(options: argparse.Namespace, report: Reporter) -> Output:
    found = _engine(options, report).plan(_request(options), brief=options.brief)
    output = _output(found)
    if options.protocol is None:  # a controller from before there was a protocol reads this in place of `needed`
        output.values["action"] = "deploy" if found.needed else "nothing"
    return output


def stage(options: argparse.Namespace, report: Reporter) -> Output:
    return _output(_engine(options, report).stage(_request(options), options.bundle))


def deploy(options: argparse.Namespace, report: Reporter) -> Output:
    return _output(_engine(options, report).deploy(_request(options), options.bundle))


def rollback(options: argparse.Namespace, report: Reporter) -> Output:
    engine = _engine(options, report)
    request = Request(owner=options.owner, superseded=tuple(options.supersede), fleet=tuple(options.fleet))
    run = engine.plan_rollback if options.plan else engine.open_rollback if options.open else engine.rollback
    return _output(run(request, options.version, allow_data_loss=options.allow_data_loss))


def phase(options: argparse.Namespace, report: Reporter) -> Output:
    later = getattr(options, "later", False)  # of `migrate` only
    engine = _engine(options, report)
    return _output(engine.phase(options.command, options.owner, tuple(options.supersede), later=later))


def finish(options: argparse.Namespace, report: Reporter) -> Output:
    return _output(_engine(options, report).finish(options.owner, tuple(options.supersede)))


def cut_over(options: argparse.Namespace, report: Reporter) -> Output:
    return _output(_engine(options, report).cut_over(options.owner, tuple(options.supersede)))


def revert(options: argparse.Namespace, report: Reporter) -> Output:
    return _output(_engine(options, report).revert(options.owner, tuple(options.supersede)))


def prune(options: argparse.Namespace, report: Reporter) -> Output:
    return _output(_engine(options, report).prune())


def recover(options: argparse.Namespace, report: Reporter) -> Output:
    return _output(_engine(options, report).recover())


def end_standby(options: argparse.Namespace, report: Reporter) -> Output:
    return _output(_engine(options, report).end_standby())


def generate(options: argparse.Namespace, report: Reporter) -> Output:
    return _output(_engine(options, report).generate())


def rotate(options: argparse.Namespace, report: Reporter) -> Output:
    return _output(_engine(options, report).rotate(options.variable))


def remove(options: argparse.Namespace, _: Reporter) -> Output:
    from slipway.deployment import removal

    app = options.app
    if options.purge:
        kept, gone = removal.purge(app)
        aside = (
            f" Kept in {removal.Places(app).backups}: {', '.join(Path(path).name for path in kept)}." if kept else ""
        )
        return Output(f"{app} is gone from this host, with its data.{aside}", True, values={"gone": gone, "kept": kept})
    gone = removal.remove(app)
    if not gone:
        return Output(f"{app} is not on this host.", values={"gone": []})
    return Output(
        f"{app} is gone from this host, and its data stays. To delete that, too, run site.yml with -e purge={app}.",
        True,
        values={"gone": gone},
    )


def report(options: argparse.Namespace, _: Reporter) -> Output:
    settings = config.load(options.app)
    if not settings.logbook_url:
        raise RefusedError(
            f"{settings.app} has no Logbook. Set apps.{settings.app}.logbook_url in the inventory and run site.yml."
        )
    delivery = logbook.flush(settings)
    message = f"{delivery.sent} report(s) sent"
    for refused in delivery.refused:
        message += f"; rejected by the Logbook: {refused}"
    if delivery.waiting:
        raise FailedError(f"{message}; {logbook.count(delivery.waiting)}: {delivery.problem}.")
    return Output(f"{message}, none is waiting.", delivery.sent > 0, values={"sent": delivery.sent})


def run(options: argparse.Namespace, _: Reporter) -> NoReturn:
    """Run the command in a session of its own, and end as it has ended."""
    settings = config.load(options.app)
    command = options.arguments[1:] if options.arguments[:1] == ["--"] else options.arguments
    slot = slots.live_slot(settings)
    if not command:
        raise RefusedError(
            f"The command to run is missing. Type for example: slipway run {settings.app} -- python -m app.tokens list"
        )
    if slot is None:
        raise RefusedError(f"No release of {settings.app} is live yet. Run deploy.yml.")
    release = (settings.slot(slot) / "release").resolve()
    given = {"HOME": str(settings.data_directory), **slots.given(settings, slot)}
    environment = surroundings.complete(settings, release, given)
    directory = settings.workdir(release)
    program = str(directory / command[0]) if "/" in command[0] else command[0]
    if shutil.which(program, path=environment["PATH"]) is None:
        raise RefusedError(f"Neither {release.name} nor this host has a program '{command[0]}'.")
    ended = terminal.run(lambda: process.become(command, settings.user, environment, directory))
    terminal.end_as(ended)


def shell(options: argparse.Namespace, report: Reporter) -> NoReturn:
    """An interactive shell with the release's programs in PATH; nobody's own files are read at its start."""
    options.arguments = ["/bin/bash", "--noprofile", "--norc"]
    run(options, report)


def logs(options: argparse.Namespace, _: Reporter) -> NoReturn:
    """Become journalctl, for the units of the web process, the other processes and the schedule."""
    app = config.load(options.app).app
    web, beside = f"{app}@*", f"{app}.*"
    units = {"": [web, beside], "web": [web]}.get(options.only, [f"{app}.{options.only}@*", f"{app}.{options.only}.*"])
    command = ["journalctl", "--output=short-iso", *(f"--unit={unit}" for unit in units)]
    command += [f"--since={options.since}"] if options.since else [f"--lines={options.lines}"]
    command += ["--follow"] if options.follow else []
    sys.stdout.flush()
    os.execvp(command[0], command)  # noqa: S606  # no shell is wanted


# What only one command needs is imported by it, so that the others start sooner.


def show_status(options: argparse.Namespace, _: Reporter) -> Output:
    from slipway.backup import report
    from slipway.cli import status

    found = [status.gather(settings) for settings in _selected(options.app)]
    backup, rows = report.host()
    parts = [status.render(item) for item in found] or ["no app on this host"]
    parts += [status.table(rows)] if rows else []
    return Output(f"{len(found)} app(s)", text="\n\n".join(parts), values={"apps": found, "backup": backup})


def backup(options: argparse.Namespace, report: Reporter) -> Output:
    from slipway.backup import make
    from slipway.backup import settings as backups

    settings = backups.load()
    if options.prepare:
        make.prepare(settings)
        return Output(f"The repository in {settings.databases} is ready.", True)
    if options.check:
        make.check(settings)
        return Output("PostgreSQL hands over its WAL, and the repository has it.", True)
    made = make.make(settings, full=options.full, patience=options.wait, note=report.note)
    return Output(f"Made a backup in {made.seconds:.1f} s: {made.message}.", True, values=make.as_json(made))


def drill(options: argparse.Namespace, report: Reporter) -> Output:
    from slipway.backup import drill as trial
    from slipway.backup import make
    from slipway.backup import settings as backups

    done = trial.drill(backups.load(), patience=options.wait, note=report.note)
    return Output(f"The drill has passed in {done.seconds:.1f} s: {done.message}", True, values=make.as_json(done))


def beat(_: argparse.Namespace, __: Reporter) -> Output:
    from slipway.backup import heartbeat
    from slipway.backup import settings as backups

    at = heartbeat.beat_when_it_answers(backups.load(), 40)
    return Output(f"The heartbeat is of {at.isoformat(timespec='seconds')}.", True)


def show_releases(options: argparse.Namespace, _: Reporter) -> Output:
    from slipway.cli import status

    found = {settings.app: status.list_releases(settings) for settings in _selected(options.app)}
    text = "\n\n".join(f"{app}:\n{status.render_releases(items)}" for app, items in found.items())
    return Output(f"{len(found)} app(s)", text=text or "no app on this host", values={"apps": found})


def _selected(app: str | None) -> list[config.Settings]:
    return [config.load(name) for name in ([app] if app else config.installed())]


def resolve(options: argparse.Namespace, _: Reporter) -> Output:
    source = git.open_source(options.repository, options.cache, options.accept)
    commit = git.resolve(source, options.version or None, options.accept)
    message = f"{commit.tag or 'commit'} is {commit.sha[:12]} ({commit.subject})"
    return Output(message, values={**asdict(commit), "repository": str(source.path)})


def bundle(options: argparse.Namespace, _: Reporter) -> Output:
    source = git.open_source(options.repository, options.cache)
    git.bundle(source, options.sha, options.tag, options.have, options.output)
    size = options.output.stat().st_size
    return Output(f"{options.output} ({size} bytes)", changed=True, values={"bytes": size})


def compare(options: argparse.Namespace, _: Reporter) -> Output:
    source = git.open_source(options.repository, options.cache)
    commits = git.compare(source, options.old, options.new)
    pending = [
        f"{item.name}, for code from {item.oldest_compatible} on" if item.oldest_compatible else item.name
        for item in revisions.pending(git.migrations(source, options.new), options.revision or None)
    ]
    lines = [f"{sha[:12]} {subject}" for sha, subject in commits]
    return Output(
        f"{len(commits)} commit(s), {len(pending)} pending migration(s)",
        text="\n".join([*lines, *(f"migration {name}" for name in pending)]),
        values={
            "commits": [{"sha": sha, "subject": subject} for sha, subject in commits],
            "migrations": pending,
            "goes_back": losses.goes_back(source, options.old, options.new) if options.old else False,
            "losses": losses.pending(source, options.new, options.revision),
        },
    )


def inspect(options: argparse.Namespace, _: Reporter) -> Output:
    try:
        from slipway.inspect import report
    except ImportError as error:  # on a host, or without the virtualenv of the controller
        raise RefusedError(
            "inspect is a command of the controller: `make tools`, then `make new-app REPO=…`."
        ) from error

    return Output("", text=report.inspect(options.repository, options.name).rstrip())


def build(options: argparse.Namespace, _: Reporter) -> Output:
    from slipway.controller import zipapp

    changed = zipapp.write(options.output)
    return Output(str(options.output), changed)


def run_job(options: argparse.Namespace, _: Reporter) -> Output:
    from slipway.slot import background

    settings = config.load(options.app)
    if options.job not in settings.schedule:
        known = ", ".join(settings.schedule) or "none"
        raise RefusedError(f"{settings.app} has no job '{options.job}' in its schedule (there are: {known}).")
    return Output(background.run_job(settings, options.job), changed=True)
