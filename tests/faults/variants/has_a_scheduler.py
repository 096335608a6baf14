"""A release with a scheduler in its lifespan: two jobs that each say five times a second when they have run.

One is a task of the event loop and writes to the database, the other one is a thread, as most schedulers have.
"""

import asyncio
import sys
import threading
import time

from app.normal import Normal


def say(which: str) -> None:
    """A line for the journal, with the clock that counts from the boot."""
    sys.stderr.write(f"job {which} {time.clock_gettime(time.CLOCK_BOOTTIME):.3f}\n")


class Behaviour(Normal):
    async def start(self) -> None:
        self._task = asyncio.create_task(self._in_the_loop())
        threading.Thread(target=self._in_a_thread, daemon=True).start()

    async def _in_the_loop(self) -> None:
        while True:
            await asyncio.sleep(0.2)
            say("task")

    def _in_a_thread(self) -> None:
        while True:
            time.sleep(0.2)
            say("thread")
