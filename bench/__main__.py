"""`make bench`: the parts, or those that are named, and a table of what they found."""

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
    """Run the parts on a fresh host; 1 with a sentence when one of them could not be measured."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="What Slipway costs beside a script.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all without one")
    parser.add_argument("--keep", action="store_true", help="leave the host as it is at the end")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"there is no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    # Whoever ends the run early gets its hosts removed, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    stand = Stand()
    found: dict[str, list[Figure]] = {}
    seconds: dict[str, float] = {}
    try:
        need({"git": "git", "ssh": "openssh-client", "ssh-keygen": "openssh-client"})
        ensure()
        say("==> a fresh host")
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
