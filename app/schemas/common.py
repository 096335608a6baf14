"""Types that several schemas share. NUL characters are refused: JSON allows them in text, PostgreSQL does not."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated

from fastapi import Path
from pydantic import AfterValidator, AwareDatetime, BeforeValidator, StringConstraints

EARLIEST, LATEST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
MAX_ID = 2**63 - 1
CONTROL = r"\x00-\x1f\x7f"  # not allowed in a line of text

Id = Annotated[int, Path(ge=1, le=MAX_ID)]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]{0,98}[a-z0-9])?$")]
Environment = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9_-]{0,48}[a-z0-9])?$")]
Host = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9.:_-]{0,255}$")]
Version = Annotated[str, StringConstraints(pattern=rf"^[^\s{CONTROL}]{{1,100}}$")]
Commit = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{7,64}$")]
Line = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=rf"^[^{CONTROL}]*$")]
Text = Annotated[str, StringConstraints(max_length=4000, pattern=r"^[^\x00]*$")]


def _in_utc(value: datetime) -> datetime:
    try:
        return value.astimezone(UTC)
    except OverflowError:  # the earliest or latest possible day, in another time zone
        return EARLIEST if value.year == 1 else LATEST


def _is_date(value: object) -> object:
    if isinstance(value, str) and re.match(r"[0-9]{4}-", value):
        return value
    raise ValueError("write it as 2026-11-02T09:00:00Z")  # a number would be read as seconds since 1970


Time = Annotated[AwareDatetime, BeforeValidator(_is_date), AfterValidator(_in_utc)]
