"""`python -m tests.runner [PART …]`: everything that must pass."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import time
from pathlib import Path

from hosts.host import Host
from tests.runner import parts, summary
from tests.runner.run import Run, write

LOGS = Path(".cache/test")


def main() -> int:
    """Run the parts, print what came of them; an exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.runner", description="Runs everything that must pass.")
    parser.add_argument("parts", nargs="*", metavar="PART", help="only these parts")
    parser.add_argument("--limit", type=float, default=7200, metavar="SECONDS", help="of the whole run (7200)")
    options = parser.parse_args()
    try:
        stages = parts.stages(tuple(options.parts))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: stop.set())
    started = time.monotonic()
    results = Run(LOGS, started + options.limit, stop, _remove_host, write).stages(stages)
    write("\n" + "\n".join(summary.lines(results, time.monotonic() - started)) + "\n")
    return summary.code(results)


def _remove_host(name: str) -> None:
    if os.environ.get("SLIPWAY_KEEP_HOST") != "1":
        Host(name).down()


if __name__ == "__main__":
    sys.exit(main())
