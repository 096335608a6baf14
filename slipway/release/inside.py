"""Questions that a program answers inside of a release: with its Python, its packages and the app's environment."""

from __future__ import annotations

import json
import os
import pkgutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from slipway.base import process
from slipway.base.errors import FailedError

_LIMIT = 8 * 2**20  # bytes of an answer: a history of 10,000 migrations has 2 MB


def ask(
    module: str, release: Path, *, user: str, environment: Mapping[str, str], timeout: float, purpose: str
) -> dict[str, Any]:
    """The answer of the program in `module`, a file beside this one, which the release's Python runs as `user`.

    It answers with one JSON object on a file descriptor of its own, as what the project prints is the project's.
    `timeout` is in seconds. FailedError, which begins with `purpose` and has the last lines that were printed as its
    detail, when the program fails, takes too long, or its answer is not such an object or too long.
    """
    source = (pkgutil.get_data(__package__, f"{module}.py") or b"").decode()
    answer = os.memfd_create(module)
    try:
        # As with `python -m`, the release's directory comes first on the path of its imports.
        command = [str(release / ".venv/bin/python"), "-c", source, str(answer)]
        result = process.run(
            command, user=user, environment=environment, directory=release, timeout=timeout, inherited=[answer]
        )
        said = process.tail(result.stdout + result.stderr)
        if result.returncode != 0:
            raise FailedError(f"{purpose}.", said)
        if os.fstat(answer).st_size > _LIMIT:
            raise FailedError(f"{purpose}: its answer is longer than {_LIMIT // 2**20} MB.", said)
        value = _decode(os.pread(answer, _LIMIT, 0))
    finally:
        os.close(answer)
    if value is None:
        raise FailedError(f"{purpose}: it ended without an answer.", said)
    return value


def _decode(text: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
