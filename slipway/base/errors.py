"""The ways in which a command ends without success; each carries one sentence and an exit code."""

from __future__ import annotations


class SlipwayError(Exception):
    """Base of all expected endings. `str(error)` is one sentence that says what is wrong and what to do.

    `detail` is evidence for a person to read (a traceback of the app, the output of a tool).
    """

    exit_code = 1
    outcome = "failed"

    def __init__(self, message: str, detail: str = "") -> None:
        super().__init__(message)
        self.detail = detail


class FailedError(SlipwayError):
    """A phase was tried and failed; the release that was live before it serves."""


class RefusedError(SlipwayError):
    """Bad input or a policy; nothing was changed."""

    exit_code = 3
    outcome = "refused"


class LockedError(SlipwayError):
    """Another deployment of this app is under way; nothing was changed. `holder` is its owner, where known."""

    exit_code = 4
    outcome = "locked"

    def __init__(self, message: str, holder: str = "") -> None:
        super().__init__(message)
        self.holder = holder
