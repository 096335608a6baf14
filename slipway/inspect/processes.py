"""What runs beside the web process, and what keeps it from running twice."""

from __future__ import annotations

import re
from collections.abc import Iterator

from slipway.inspect.commands import Command
from slipway.inspect.facts import Facts
from slipway.inspect.proposal import Proposal

_SERVICES = {
    **dict.fromkeys(("celeryworker", "celery_worker", "celery-worker", "celery"), "worker"),
    **dict.fromkeys(("celerybeat", "celery_beat", "celery-beat"), "beat"),
}


def propose(facts: Facts, proposal: Proposal) -> None:
    seen: set[str] = set()
    for command in facts.commands:
        if command.role == "cron":
            at, _, name = command.name.partition("|")
            proposal.say("schedule", {_name(name): {"run": command.text, "at": at}}, command.origin)
            continue
        text = _clean(command, proposal.name)
        if (
            command.kind != "worker"
            or text in seen
            or (command.role in ("web", "release") and command.kind != "worker")
        ):
            continue
        seen.add(text)
        once = bool({"beat", "-B", "--beat", "scheduler"} & set(command.words)) or bool(
            re.search(r"\b(beat|scheduler)$", text)
        )
        value: object = {"run": text, "count": 1} if once else text
        hosts = {one.name for one in facts.platforms.services}
        if (named := re.search(r"://(?:[^/@\s]*@)?([\w.-]+)", text)) and named[1] in hosts:
            proposal.warn(
                f"{command.origin}: the command has the address of {named[1]}, a host that is not here: change it."
            )
        proposal.say("processes", {_name(command.name): value}, command.origin)
        if once and {"-B", "--beat"} & set(command.words):
            proposal.warn(f"{command.origin}: a worker with -B is beat, too; with count: 1 it never runs twice.")
    for command in facts.commands:
        if command.kind == "monitor":
            proposal.warn(f"{command.origin} is a monitor ({command.program}) with a port of its own: left out.")
    _in_process(facts, proposal)


def _name(name: str) -> str:
    name = _SERVICES.get(name, name)
    name = re.sub(r"[^a-z0-9-]", "-", name.lower()).strip("-")
    return re.sub(r"^[^a-z]+|(-\d+)+$", "", name)[:31].strip("-") or "worker"


def _clean(command: Command, app: str) -> str:
    """The command as it is run here: without reloading, and with beat's file of what is due where it can be written."""
    words = [word for word in command.words if word not in ("--reload", "--watch", "--autoreload")]
    if words[0] == "celery" and {"beat", "-B", "--beat"} & set(words):
        words = list(_without(words, "-s", "--schedule", "--schedule-filename", "--pidfile"))
        if not command.option("-S", "--scheduler"):
            words += ["--schedule", f"/var/lib/{app}/celerybeat-schedule"]
    return Command("", tuple(words), "").text


def _without(words: list[str], *options: str) -> Iterator[str]:
    """The words of a command, without these options and their values."""
    is_value = False
    for word in words:
        is_option = word in options
        if not is_value and not is_option and not word.startswith(tuple(f"{one}=" for one in options if "--" in one)):
            yield word
        is_value = is_option


def _in_process(facts: Facts, proposal: Proposal) -> None:
    """Schedulers inside of the web process."""
    for module in facts.web_modules:
        for _, name in module.calls():
            last = name.rpartition(".")[2]
            if last in ("AsyncIOScheduler", "BackgroundScheduler", "repeat_every", "AsyncScheduler"):
                proposal.say("workers", 1, f"{last} in {module.name} would run once a worker")
                proposal.say("overlap", "none", "and twice while two releases are up")
                return
    for command in facts.commands:
        if command.kind == "web" and command.option("--workers", "-w") == "1" and "--reload" not in command.words:
            proposal.say("workers", 1, f"{command.origin}: one worker")
            return
