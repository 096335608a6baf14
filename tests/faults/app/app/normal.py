"""How a release behaves that has nothing wrong with it."""

from app.settings import get_settings


class Normal:
    sha = get_settings().release_sha

    async def start(self) -> None:
        """Before a worker takes its first request."""

    async def ready(self) -> bool:
        """What the gate is told, apart from the database."""
        return True

    def status(self) -> int:
        """What clients are answered with."""
        return 200
