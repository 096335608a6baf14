"""Questions that a program answers inside of a release: with its Python, its packages and the app's environment."""

from __future__ import annotations

import json
import pkgutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from slipway.base import confined, process
from slipway.base.errors import FailedError


def ask(
    module: str,
    release: Path,
    *,
    directory: Path,
    unit: confined.Unit,
    environment: Mapping[str, str],
    timeout: float | None,
    purpose: str,
) -> dict[str, Any]:
    """The answer of the program in `module`, a file beside this one, which the release's Python runs in the unit.

    It runs in `directory`, which is the release or in it.

    It answers with one JSON object on a file descriptor of its own, as what the project prints is the project's.
    `timeout` is in seconds. FailedError, which begins with `purpose` and has the last lines that were printed as its
    detail, when the program fails, takes too long, or its answer is not such an object or too long.
    """
    source = (pkgutil.get_data(__package__, f"{module}.py") or b"").decode()
    # As with `python -m`, that directory comes first on the path of its imports.
    command = [str(release / ".venv/bin/python"), "-c", source, str(confined.ANSWER)]
    result = confined.run(unit, command, environment=environment, directory=directory, timeout=timeout)
    return decoded(result, purpose)


def decoded(result: confined.Result, purpose: str) -> dict[str, Any]:
    """The JSON object that a program has answered with; FailedError as for `ask` when it has not."""
    said = process.tail(result.printed)
    if result.returncode != 0:
        raise FailedError(f"{purpose}.", said)
    if result.answer is None:
        raise FailedError(f"{purpose}: its answer is too long.", said)
    value = _decode(result.answer)
    if value is None:
        raise FailedError(f"{purpose}: it ended without an answer.", said)
    return value


def _decode(text: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
