"""What a unit of `confined.run` starts: it runs the command, and ends with it, or when the engine has ended.

Its standard input is the request, its standard output the answer of the command, which has it as file descriptor 3.
This file is the whole program: it can import nothing of the engine.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import threading

ANSWER = 3


def main() -> int:
    request = json.load(sys.stdin)
    os.dup2(sys.stdout.fileno(), ANSWER)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    threading.Thread(target=_end_with_the_engine, daemon=True).start()
    done = subprocess.run(
        request["command"],
        env=request["environment"],
        cwd=request["directory"],
        input=request["given"].encode(),
        pass_fds=[ANSWER],
        check=False,
    )
    return done.returncode if done.returncode >= 0 else 128 - done.returncode


def _end_with_the_engine() -> None:
    """When nobody reads the answer any more, the engine has ended; with the main process systemd ends all others."""
    watched = select.poll()
    watched.register(ANSWER, 0)
    while not any(event & (select.POLLERR | select.POLLHUP) for _, event in watched.poll()):
        pass
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
