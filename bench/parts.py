"""The parts of the benchmark. Each measures its own pairs and returns the figures."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from bench import fleet, load
from bench.figures import Figure, percentile, slope
from bench.stand import BODY, NAMES, STATE, Stand, Timed
from hosts.container_runtime import HostError, run, say

REPEATS = 5
COPIES = 7  # of an app, beside it
CUTOVERS = 100
REQUESTS = 100_000
CONNECTIONS, WAIT_MS = 16, 40  # up to 400 requests per second: a load, but not a stress test
LOAD_SECONDS = 1500  # at most
RATE_REQUESTS = 10_000


def deploys(stand: Stand) -> list[Figure]:
    """(a) and (c): a deploy with a pending migration and one without, each of a version that was not built before."""
    figures = []
    for migration, target in ((True, 1.35), (False, 1.25)):
        kind = "with a migration" if migration else "without one"
        whole: dict[str, list[float]] = {app: [] for app in NAMES}
        answered: dict[str, list[float]] = {app: [] for app in NAMES}
        for turn in range(REPEATS):
            tag = stand.version(migration=migration)
            for app in in_turns(list(NAMES), turn):
                timed = stand.deploy(app, tag)
                whole[app].append(timed.seconds)
                answered[app].append(timed.answered or timed.seconds)
                say(f"  deploy {kind}, {app}: {timed.seconds:.2f} s, answers after {answered[app][-1]:.2f} s")
        figures += [
            Figure(f"deploy {kind}", "s", whole["logbook"], whole["baseline"], target),
            Figure("  until it answers", "s", answered["logbook"], answered["baseline"]),
            *_phases(stand, REPEATS),
        ]
    return figures


def _phases(stand: Stand, deployments: int) -> list[Figure]:
    """The engine's time for each phase of the last deployments, and for all phases together. The rest of the time is
    spent by Ansible, by SSH, and by the start of the engine for each command."""
    journal = stand.journal()
    measured = list(dict.fromkeys(line["deployment"] for line in journal))[-deployments:]
    seconds: dict[str, list[float]] = {}
    together = dict.fromkeys(measured, 0.0)
    for line in journal:
        if line["deployment"] in together and line["phase"] != "result":
            together[line["deployment"]] += line["seconds"]
            if line["outcome"] != "skipped":
                seconds.setdefault(line["phase"], []).append(line["seconds"])
    return [
        Figure("  in the engine's phases", "s", list(together.values())),
        *(Figure(f"    {name}", "s", values) for name, values in seconds.items()),
    ]


def rollbacks(stand: Stand) -> list[Figure]:
    """(b): to the version before and back to the newer one, in turns: by the engine over SSH, by the playbook, and by
    the script. The engine's releases come from standby, or there is no figure. Also (h): the memory of both slots.
    """
    tags = [stand.version(migration=False) for _ in range(2)]
    for tag in tags:
        for app in NAMES:
            stand.deploy(app, tag)
    ways: dict[str, Callable[[str], Timed]] = {
        "slipway rollback over SSH": lambda tag: stand.engine(f"rollback logbook {tag}", expected=tag),
        "rollback.yml": lambda tag: stand.roll_back("logbook", tag),
        "script": lambda tag: stand.roll_back("baseline", tag),
    }
    live = dict.fromkeys(NAMES, 1)  # which of the tags
    whole: dict[str, list[float]] = {way: [] for way in ways}
    answered: dict[str, list[float]] = {way: [] for way in ways}
    memory: dict[bool, list[float]] = {True: [], False: []}
    for turn in range(REPEATS + 1):
        for way in in_turns(list(ways), turn):
            app = "baseline" if way == "script" else "logbook"
            live[app] = 1 - live[app]
            timed = ways[way](tags[live[app]])
            if app == "logbook" and "woken from standby" not in (started := _last(stand, "start")):
                raise HostError(f"The release did not come from standby: {started}")
            whole[way].append(timed.seconds)
            answered[way].append(timed.answered or timed.seconds)
            say(f"  {way}: {timed.seconds:.2f} s, answers after {answered[way][-1]:.2f} s")
        for slot, serves in stand.slots().items():
            memory[serves].append(stand.memory(slot))
    figures = []
    for way, target in (("slipway rollback over SSH", 0.6), ("rollback.yml", 1.3)):
        figures += [
            Figure(f"{way}, from standby", "s", whole[way], whole["script"]),
            Figure("  until it answers", "s", answered[way], answered["script"], target),
        ]
    figures += _phases(stand, 2 * (REPEATS + 1))
    return [*figures, Figure("memory of a slot on standby, of the live one", "MB", memory[False], memory[True])]


def _last(stand: Stand, phase: str) -> str:
    """The journal's line of the last phase with this name."""
    return next((str(line["message"]) for line in reversed(stand.journal()) if line["phase"] == phase), "nothing")


def site(stand: Stand) -> list[Figure]:
    """(d): site.yml with nothing to do, on a host with one app."""
    stand.declare(["logbook"])
    stand.play("site.yml")
    seconds = []
    for _ in range(REPEATS):
        timed = stand.play("site.yml")
        if "changed=0" not in timed.output:
            raise HostError(f"site.yml had something to do:\n{timed.output[-2000:]}")
        seconds.append(timed.seconds)
        say(f"  site.yml: {timed.seconds:.2f} s")
    stand.declare()
    stand.play("site.yml")
    return [Figure("site.yml with nothing to do", "s", seconds, target=15)]


def apps(stand: Stand) -> list[Figure]:
    """(i): what one app more costs site.yml with nothing to do, beside the run with one app."""
    more = [f"copy{number}" for number in range(1, COPIES + 1)]
    sizes = {1: ["logbook"], 1 + COPIES: ["logbook", *more]}
    stand.declare(sizes[1 + COPIES])
    stand.play("site.yml")
    seconds: dict[int, list[float]] = {size: [] for size in sizes}
    for turn in range(REPEATS):
        for size in sorted(sizes, reverse=bool(turn % 2)):
            stand.declare(sizes[size])
            stand.play("site.yml")  # what the other size has changed
            timed = stand.play("site.yml")
            if "changed=0" not in timed.output:
                raise HostError(f"site.yml had something to do:\n{timed.output[-2000:]}")
            seconds[size].append(timed.seconds)
            say(f"  site.yml, {size} app(s): {timed.seconds:.2f} s")
    stand.declare()
    stand.play("site.yml")
    each = [(many - one) / COPIES for many, one in zip(seconds[1 + COPIES], seconds[1], strict=True)]
    return [
        Figure(f"site.yml with nothing to do, {1 + COPIES} apps", "s", seconds[1 + COPIES]),
        Figure("  one app more", "s", each, target=2),
        Figure("  one app more, and the run with one app", "s", each, seconds[1], target=0.25),
    ]


def cutovers(stand: Stand) -> list[Figure]:
    """(e): deploys and rollbacks of releases that are built already, under a steady load of POST requests.

    wrk counts failed requests. The end and the duration of each request come from Nginx's access log, the times of the
    cutovers from the engine's journal.
    """
    tags = [stand.version(migration=False) for _ in range(2)]
    for tag in tags:
        stand.deploy("logbook", tag)
    newest = f"--sha {stand.sha(tags[1])} --tag {tags[1]}"
    stand.engine("rollback logbook")
    known = len(stand.journal())
    log = "/var/log/nginx/logbook.access.log"
    stand.host.exec("truncate", "--size=0", log)
    run("docker", "cp", "--quiet", Path(__file__).with_name("post.lua"), f"{stand.host.name}:/srv/post.lua")
    url = f"https://{NAMES['logbook']}/"
    wrk = (f"echo $$ > /run/wrk.pid; exec wrk --threads 1 --connections {CONNECTIONS} --duration {LOAD_SECONDS}s "
           f"--timeout 20s --script /srv/post.lua {url} -- {stand.token} {BODY} {WAIT_MS}")  # fmt: skip
    command = ["docker", "exec", stand.host.name, "sh", "-c", wrk]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as running:
        try:
            time.sleep(2)
            for done in range(1, CUTOVERS + 1):
                stand.engine(f"deploy logbook {newest}" if done % 2 else "rollback logbook")
                # Each cutover gets its share of the requests, and there is time that no cutover is in.
                time.sleep(1)
                while (sent := _requests(stand, log)) < REQUESTS * done / CUTOVERS and running.poll() is None:
                    time.sleep(0.5)
                if done % 10 == 0:
                    say(f"  {done} cutovers, {sent:,} requests")
                if running.poll() is not None:
                    break
        finally:
            stand.host.exec("sh", "-c", "kill -INT $(cat /run/wrk.pid)", check=False)
            report = running.communicate()[0]
    (STATE / "wrk.log").write_text(report)
    counted = load.read_wrk(report)
    requests = load.read_access_log(stand.host.exec("cat", log).splitlines())
    journal = stand.journal()[known:]
    during, otherwise = load.split(requests, load.windows(journal, "switch", "drain"))
    _, without_deploys = load.split(requests, load.windows(journal, "start", "drain"))
    return [
        Figure(
            "cutovers under load", "", [len(load.windows(journal, "switch", "drain"))], target=CUTOVERS, at_least=True
        ),
        Figure("  requests (POST)", "", [counted.requests], target=REQUESTS, at_least=True),
        Figure("  failed", "", [counted.failed], target=0),
        Figure("  p50 in a cutover, outside", "ms", [percentile(during, 50)], [percentile(otherwise, 50)]),
        Figure("  p99 in a cutover, outside", "ms", [percentile(during, 99)], [percentile(otherwise, 99)], 3),
        Figure(
            "  p99 in a cutover, with no deploy at all",
            "ms",
            [percentile(during, 99)],
            [percentile(without_deploys, 99)],
        ),
    ]


def _requests(stand: Stand, log: str) -> int:
    """The number of wrk's requests in an access log. wrk sends no user agent, unlike the engine's probes."""
    return int(stand.host.exec("grep", "--count", "--fixed-strings", '"user_agent":""', log, check=False))


RATES = (  # name, path, target per second, and more options for h2load
    ("a small answer", "/health/live", None, ""),
    ("read: a page of one deployment", "/api/v1/deployments?limit=1", 1500, ""),
    ("read: what is live", "/api/v1/deployments/live", None, ""),
    (
        "write: record a deployment",
        "/api/v1/deployments",
        700,
        f"--data {BODY} --header 'Content-Type: application/json'",
    ),
)


def rates(stand: Stand) -> list[Figure]:
    """(f): requests per second through Nginx with TLS, and to Gunicorn's socket directly; h2load, with HTTP/1.1."""
    figures = []
    for name, path, wanted, options in RATES:
        through: list[float] = []
        bare: list[float] = []
        ask = (f"h2load --h1 --requests {RATE_REQUESTS} --clients {CONNECTIONS} "
               f"--header 'Authorization: Bearer {stand.token}' {options}")  # fmt: skip
        for turn in range(REPEATS):
            for where in (through, bare) if turn % 2 else (bare, through):
                to = f"'https://127.0.0.1{path}'" if where is through else (
                    f"--base-uri unix:/srv/logbook/live/http.sock 'http://127.0.0.1{path}'")  # fmt: skip
                where.append(load.read_h2load(stand.host.exec("sh", "-c", f"{ask} {to}")))
            say(f"  {name}: {through[-1]:,.0f}/s through Nginx with TLS, {bare[-1]:,.0f}/s to the socket directly")
        figures += [
            Figure(f"requests per second, {name}", "/s", through, target=wanted, at_least=True),
            Figure("  ratio to the socket directly", "/s", through, bare),
        ]
    return figures


def hosts(stand: Stand) -> list[Figure]:
    """(g): a deploy of a version that was not built before, to 1, 2, 4 and 8 hosts: containers on this machine."""
    figures, points = [], []
    with fleet.copies(stand, max(fleet.SIZES) - 1):
        names = [stand.host.name, *stand.others]
        for turn in range(REPEATS):
            for size in fleet.SIZES:
                tag = stand.version(migration=False)
                limit = ",".join(names[:size])
                timed = stand.play("deploy.yml", "-e", "app=logbook", "-e", f"version={tag}", limit=limit)
                points.append((size, timed))
                say(f"  turn {turn + 1}, {size} hosts: {timed.seconds:.1f} s, {timed.cpu:.2f} s of the controller")
    for size in fleet.SIZES:
        own = [timed for number, timed in points if number == size]
        figures += [
            Figure(f"deploy to {size} {'host' if size == 1 else 'hosts'}", "s", [timed.seconds for timed in own]),
            Figure("  processor time of the controller", "s", [timed.cpu for timed in own]),
        ]
    more = slope([(size, timed.cpu) for size, timed in points])
    return [*figures, Figure("processor time of the controller for one more host", "s", [more], target=0.8)]


def in_turns(ways: Sequence[str], turn: int) -> list[str]:
    """All of them, in each turn another one first."""
    first = turn % len(ways)
    return [*ways[first:], *ways[:first]]


PARTS = {
    "deploy": deploys,
    "rollback": rollbacks,
    "site": site,
    "apps": apps,
    "cutovers": cutovers,
    "rates": rates,
    "hosts": hosts,
}
