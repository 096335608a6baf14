"""A release that takes its time."""

import time

from app.normal import Normal

STARTED = time.monotonic()


class Behaviour(Normal):
    async def ready(self) -> bool:
        return time.monotonic() - STARTED > 20
