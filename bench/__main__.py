"""`make bench`: runs all parts, or the given ones, and prints a table of the results."""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.figures import Figure, table
from bench.parts import PARTS
from bench.stand import Stand
from hosts import scratch
from hosts.container_runtime import HostError, ensure, need, say

RESULTS = Path(__file__).with_name("results.json")


def main() -> int:
    """Run the parts on a new host; the exit code is 1, after a sentence, when a part could not be measured."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Compares Slipway with a plain script.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; default: all")
    parser.add_argument("--keep", action="store_true", help="do not remove the host at the end")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"there is no part {', '.join(sorted(unknown))}; use {', '.join(PARTS)}")
    # The hosts are also removed when the run is terminated early.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    stand = Stand()
    found: dict[str, list[Figure]] = {}
    seconds: dict[str, float] = {}
    try:
        need({"git": "git", "ssh": "openssh-client", "ssh-keygen": "openssh-client"})
        ensure()
        say("==> a new host")
        stand.set_up()
        for name in options.parts or PARTS:
            say(f"==> {name}")
            started = time.monotonic()
            found[name] = PARTS[name](stand)
            seconds[name] = time.monotonic() - started
            say(f"  {seconds[name]:.0f} s")
            print(f"\n{table(found[name])}\n", flush=True)
    except HostError as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        if found:
            RESULTS.write_text(json.dumps(_results(found, seconds), indent=2) + "\n")
        if not options.keep:
            stand.host.down()
    print(table(figure for figures in found.values() for figure in figures))
    say(f"\n{RESULTS.relative_to(scratch.PROJECT)} has every value.")
    return 0


def _results(found: dict[str, list[Figure]], seconds: dict[str, float]) -> dict[str, Any]:
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": scratch.git(scratch.PROJECT, "describe", "--always", "--dirty"),
        "machine": {"processors": os.cpu_count(), "system": platform.platform(), "load": os.getloadavg()},
        "seconds": {name: round(value) for name, value in seconds.items()},
        "parts": {name: [figure.as_json() for figure in figures] for name, figures in found.items()},
    }


sys.exit(main())
