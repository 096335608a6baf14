"""A release of whose two workers one always dies soon after it has started."""

import asyncio
import os
from pathlib import Path

from app.normal import Normal

FIRST = Path(os.environ["RUNTIME_DIRECTORY"]) / "first"


class Behaviour(Normal):
    async def start(self) -> None:
        try:
            FIRST.touch(exist_ok=False)
        except FileExistsError:
            asyncio.get_running_loop().call_later(0.3, os._exit, 1)

    async def ready(self) -> bool:
        await asyncio.sleep(0.1)  # so that the other one is asked as well
        return True
