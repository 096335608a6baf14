"""A release that starts, answers, and is never ready."""

from app.normal import Normal


class Behaviour(Normal):
    async def ready(self) -> bool:
        return False
