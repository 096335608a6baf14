"""The errors that end a command. Each has a message of one sentence and an exit code."""

from __future__ import annotations


class SlipwayError(Exception):
    """Base of all expected errors. `str(error)` is one sentence that says what is wrong and what to do.

    `detail` is more text for the operator (a traceback of the app, the output of a tool).
    """

    exit_code = 1
    outcome = "failed"

    def __init__(self, message: str, detail: str = "") -> None:
        super().__init__(message)
        self.detail = detail


class FailedError(SlipwayError):
    """Something was tried and failed. The release that was live before it is still live."""


class RefusedError(SlipwayError):
    """The input is wrong, or a policy forbids it. Nothing was changed."""

    exit_code = 3
    outcome = "refused"


class LockedError(SlipwayError):
    """Another deployment of this app is in progress. Nothing was changed. `holder` is its owner, if known."""

    exit_code = 4
    outcome = "locked"

    def __init__(self, message: str, holder: str = "") -> None:
        super().__init__(message)
        self.holder = holder
