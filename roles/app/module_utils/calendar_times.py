"""When a job is to run: the five fields of cron, or an expression of systemd; both become expressions of systemd."""

from __future__ import annotations

import re

_WORDS = ("minutely", "hourly", "daily", "weekly", "monthly", "quarterly", "semiannually", "yearly", "annually")
_CRON_WORDS = {"@midnight": "daily", **{f"@{word}": word for word in _WORDS if word != "minutely"}}
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
# Of each field of cron its name, the least and the most.
_FIELDS = (("minute", 0, 59), ("hour", 0, 23), ("day", 1, 31), ("month", 1, 12), ("weekday", 0, 7))
_CRON_PART = re.compile(r"(?:\*|(\w+)(?:-(\w+))?)(?:/([0-9]+))?")

_DAY = r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]*"
_NUMBERS = r"[0-9*][0-9*.,/]*"
_SYSTEMD = re.compile(
    rf"(?:{_DAY}(?:(?:,|\.\.|-){_DAY})*,?(?:\s+|$))?"
    rf"(?:(?:{_NUMBERS}-)?{_NUMBERS}[-~]{_NUMBERS}(?:\s+|$))?"
    rf"(?:{_NUMBERS}:{_NUMBERS}(?::{_NUMBERS})?(?:\s+|$))?"
    r"(?:UTC|[A-Z][A-Za-z_]+(?:/[A-Za-z_+-]+)*)?",
    re.IGNORECASE,
)


class WrongError(ValueError):
    """Part of a sentence: why it is no time."""


def read(text: str) -> tuple[list[str], str]:
    """The expressions of systemd for a text, and what is wrong with it: "which …"; "" where nothing is."""
    text = " ".join(text.split())
    try:
        return _read(text), ""
    except WrongError as error:
        return [], str(error)


def _read(text: str) -> list[str]:
    if text.startswith("@"):
        if text not in _CRON_WORDS:
            raise WrongError(f"is none of {', '.join(_CRON_WORDS)}")
        return [_CRON_WORDS[text]]
    if len(text.split()) == len(_FIELDS):
        return _of_cron(text.split())
    if text in _WORDS:
        return [text]
    if not text or not _SYSTEMD.fullmatch(text) or not re.search(r"[0-9*]|^[A-Z][a-z]{2}", text):
        raise WrongError("is neither five fields as in cron nor an expression of systemd")
    return [text]


def _of_cron(fields: list[str]) -> list[str]:
    found = [_values(text, *field) for text, field in zip(fields, _FIELDS, strict=True)]
    minute, hour, day, month = ("*" if values is None else ",".join(map(str, values)) for values in found[:4])
    days = found[4]
    if days is None:
        return [f"*-{month}-{day} {hour}:{minute}:00"]
    names = ",".join(_DAYS[number].capitalize() for number in sorted({number % 7 for number in days}))
    if found[2] is None:
        return [f"{names} *-{month}-* {hour}:{minute}:00"]
    # Where both are given cron takes either, systemd only a day that is both.
    return [f"*-{month}-{day} {hour}:{minute}:00", f"{names} *-{month}-* {hour}:{minute}:00"]


def _values(text: str, name: str, least: int, most: int) -> list[int] | None:
    """The numbers that a field means; None for all."""
    if text == "*":
        return None
    found: set[int] = set()
    for part in text.split(","):
        match = _CRON_PART.fullmatch(part)
        if match is None:
            raise WrongError(f"has '{part}' as its {name}")
        first, last, step = match.groups()
        start = _number(first, name, least, most) if first else least
        end = _number(last, name, least, most) if last else start if first and not step else most
        if name == "weekday" and not last and not (first and not step):
            end = 6  # 7 is Sunday as well
        if end < start or step == "0":
            raise WrongError(f"has '{part}' as its {name}")
        found |= set(range(start, end + 1, int(step or 1)))
    return sorted(found)


def _number(word: str, name: str, least: int, most: int) -> int:
    names = {"month": _MONTHS, "weekday": _DAYS}.get(name, ())
    if word.lower() in names:
        return names.index(word.lower()) + (1 if name == "month" else 0)
    if word.isascii() and word.isdigit() and least <= int(word) <= most:
        return int(word)
    raise WrongError(f"has '{word}' as its {name}")
