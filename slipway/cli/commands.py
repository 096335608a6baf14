"""What each command of the command line does; each returns the fields of its result."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable
from typing import Any

from slipway.base import process
from slipway.base import settings as config
from slipway.base.errors import FailedError, RefusedError
from slipway.base.output import Reporter
from slipway.cli import status
from slipway.controller import zipapp
from slipway.deployment.engine import Engine
from slipway.observers import logbook
from slipway.records.deployment import Request
from slipway.release import git, revisions
from slipway.slot import envfile, slots

Result = dict[str, Any]


def _engine(options: argparse.Namespace, report: Reporter) -> Engine:
    return Engine(config.load(options.app), report)


def _request(options: argparse.Namespace) -> Request:
    return Request(
        sha=options.sha,
        tag=options.tag,
        owner=getattr(options, "owner", "root"),
        force=options.force,
        superseded=tuple(getattr(options, "supersede", ())),
    )


def plan(options: argparse.Namespace, report: Reporter) -> Result:
    return _engine(options, report).plan(_request(options))


def stage(options: argparse.Namespace, report: Reporter) -> Result:
    return _engine(options, report).stage(_request(options), options.bundle)


def deploy(options: argparse.Namespace, report: Reporter) -> Result:
    return _engine(options, report).deploy(_request(options), options.bundle)


def rollback(options: argparse.Namespace, report: Reporter) -> Result:
    engine = _engine(options, report)
    request = Request(owner=options.owner, superseded=tuple(options.supersede))
    run = engine.plan_rollback if options.plan else engine.open_rollback if options.open else engine.rollback
    return run(request, options.version, allow_data_loss=options.allow_data_loss)


def phase(options: argparse.Namespace, report: Reporter) -> Result:
    run: Callable[[str | None], Result] = getattr(_engine(options, report), options.command.replace("-", "_"))
    return run(options.owner)


def prune(options: argparse.Namespace, report: Reporter) -> Result:
    return _engine(options, report).prune()


def recover(options: argparse.Namespace, report: Reporter) -> Result:
    return _engine(options, report).recover()


def tell(options: argparse.Namespace, _: Reporter) -> Result:
    settings = config.load(options.app)
    if not settings.logbook_url:
        raise RefusedError(
            f"{settings.app} has no Logbook. Set apps.{settings.app}.logbook_url in the inventory and run site.yml."
        )
    delivery = logbook.flush(settings)
    message = f"{delivery.sent} report(s) sent"
    for refused in delivery.refused:
        message += f"; refused for good: {refused}"
    if delivery.waiting:
        raise FailedError(f"{message}; {logbook.count(delivery.waiting)}: {delivery.problem}.")
    return {"message": f"{message}, none waits.", "changed": delivery.sent > 0, "sent": delivery.sent}


def run(options: argparse.Namespace, _: Reporter) -> Result:
    """Does not return: this process becomes the command."""
    settings = config.load(options.app)
    command = options.arguments[1:] if options.arguments[:1] == ["--"] else options.arguments
    slot = slots.live_slot(settings)
    if not command:
        raise RefusedError(f"Say what to run: slipway run {settings.app} -- python -m app.tokens list")
    if slot is None:
        raise RefusedError(f"Nothing of {settings.app} is live yet. Run deploy.yml.")
    release = (settings.slot(slot) / "release").resolve()
    environment = envfile.read(settings.slot(slot) / "env")
    environment["PATH"] = f"{release / '.venv/bin'}:{process.PATH}"
    program = str(release / command[0]) if "/" in command[0] else command[0]
    if shutil.which(program, path=environment["PATH"]) is None:
        raise RefusedError(f"Neither {release.name} nor this host has a program '{command[0]}'.")
    process.become(command, settings.user, environment, release)


def show_status(options: argparse.Namespace, _: Reporter) -> Result:
    found = [status.gather(settings) for settings in _selected(options.app)]
    text = "\n\n".join(status.render(item) for item in found) or "no app on this host"
    return {"message": f"{len(found)} app(s)", "text": text, "apps": found, "changed": False}


def show_releases(options: argparse.Namespace, _: Reporter) -> Result:
    found = {settings.app: status.list_releases(settings) for settings in _selected(options.app)}
    text = "\n\n".join(f"{app}:\n{status.render_releases(items)}" for app, items in found.items())
    return {
        "message": f"{len(found)} app(s)",
        "text": text or "no app on this host",
        "apps": found,
        "changed": False,
    }


def _selected(app: str | None) -> list[config.Settings]:
    return [config.load(name) for name in ([app] if app else config.installed())]


def resolve(options: argparse.Namespace, _: Reporter) -> Result:
    source = git.open_source(options.repository, options.cache)
    commit = git.resolve(source, options.version or None, options.accept)
    return {
        "message": f"{commit.tag or 'commit'} is {commit.sha[:12]} ({commit.subject})",
        "changed": False,
        "tag": commit.tag,
        "sha": commit.sha,
        "subject": commit.subject,
        "repository": str(source.path),
    }


def bundle(options: argparse.Namespace, _: Reporter) -> Result:
    source = git.open_source(options.repository, options.cache)
    git.bundle(source, options.sha, options.tag, options.have, options.output)
    size = options.output.stat().st_size
    return {"message": f"{options.output} ({size} bytes)", "changed": True, "bytes": size}


def compare(options: argparse.Namespace, _: Reporter) -> Result:
    source = git.open_source(options.repository, options.cache)
    commits = git.compare(source, options.old, options.new)
    pending = [
        f"{item.name}, for code from {item.oldest_compatible} on" if item.oldest_compatible else item.name
        for item in revisions.pending(git.migrations(source, options.new), options.revision or None)
    ]
    lines = [f"{sha[:12]} {subject}" for sha, subject in commits]
    return {
        "message": f"{len(commits)} commit(s), {len(pending)} pending migration(s)",
        "text": "\n".join([*lines, *(f"migration {name}" for name in pending)]),
        "changed": False,
        "commits": [{"sha": sha, "subject": subject} for sha, subject in commits],
        "migrations": pending,
    }


def build(options: argparse.Namespace, _: Reporter) -> Result:
    changed = zipapp.write(options.output)
    return {"message": f"{options.output}", "changed": changed}
