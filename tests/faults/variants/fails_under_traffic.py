"""A release that is ready, and fails whoever asks it for anything else."""

from app.normal import Normal


class Behaviour(Normal):
    def status(self) -> int:
        return 500
