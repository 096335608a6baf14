"""Versions of packages and of Python, and which of them a constraint allows: as PEP 440 has it, and as Poetry does."""

from __future__ import annotations

import re

_VERSION = re.compile(
    r"v?(?:(?P<epoch>\d+)!)?(?P<release>\d+(?:\.\d+)*)"
    r"(?:[._-]?(?P<pre>alpha|a|beta|b|preview|pre|c|rc)[._-]?(?P<pre_number>\d*))?"
    r"(?P<post>-(?P<post_dash>\d+)|[._-]?(?:post|rev|r)[._-]?(?P<post_number>\d*))?"
    r"(?P<dev>[._-]?dev[._-]?(?P<dev_number>\d*))?(?:\+[a-z0-9._-]+)?",
    re.IGNORECASE,
)
_PRE = {"a": 0, "alpha": 0, "b": 1, "beta": 1, "c": 2, "rc": 2, "pre": 2, "preview": 2}
_ITEM = re.compile(r"(\^|~=|~|===|==|!=|<=|>=|<|>|=)?\s*([^\s,|<>=!~^]+)")

Key = tuple[int, tuple[int, ...], tuple[int, int], int, int]


def key(version: str) -> Key | None:
    """What versions are compared by; None of a text that is no version."""
    found = _VERSION.fullmatch(version.strip())
    if not found:
        return None
    numbers = tuple(map(int, found["release"].split(".")))
    while len(numbers) > 1 and numbers[-1] == 0:
        numbers = numbers[:-1]
    pre = (_PRE[found["pre"].lower()], int(found["pre_number"] or 0)) if found["pre"] else (3, 0)
    if found["dev"] and not found["pre"] and not found["post"]:
        pre = (-1, 0)
    post = int(found["post_dash"] or found["post_number"] or 0) if found["post"] else -1
    dev = int(found["dev_number"] or 0) if found["dev"] else 10**9
    return int(found["epoch"] or 0), numbers, pre, post, dev


def allows(constraint: str, version: str) -> bool:
    """Whether a constraint allows a version. What is no constraint that is known here allows everything."""
    return any(_all(part, version) for part in re.split(r"\|\|?", constraint))


def standard(constraint: str) -> str:
    """A constraint of Poetry as PEP 440 has it; of several alternatives the last one, which is the newest."""
    found = []
    for operator, wanted in _ITEM.findall(re.split(r"\|\|?", constraint)[-1]):
        if wanted == "*":
            continue
        if operator in ("^", "~"):
            found += [f">={wanted}", f"<{'.'.join(map(str, _above(operator, wanted)))}"]
        else:
            found.append(f"{operator if operator not in ('', '=') else '=='}{wanted}")
    return ",".join(found)


def _all(constraint: str, version: str) -> bool:
    return all(_one(operator, wanted, version) for operator, wanted in _ITEM.findall(constraint))


def _one(operator: str, wanted: str, version: str) -> bool:
    found = key(version)
    if wanted == "*" or found is None:
        return True
    if wanted.endswith(".*"):
        numbers = tuple(map(int, re.findall(r"\d+", wanted)))
        is_in = (found[1] + (0,) * len(numbers))[: len(numbers)] == numbers
        return is_in != (operator == "!=")
    limit = key(wanted)
    if limit is None:
        return True
    if operator in ("^", "~", "~="):
        return found >= limit and found[1] < _above(operator, wanted)
    return {
        "<": found < limit,
        "<=": found <= limit,
        ">": found > limit,
        ">=": found >= limit,
        "!=": found != limit,
    }.get(operator, found == limit)


def _above(operator: str, wanted: str) -> tuple[int, ...]:
    """The first numbers that such a constraint does not allow any more."""
    match = _VERSION.fullmatch(wanted)
    numbers = [int(part) for part in match["release"].split(".")] if match else [0]
    if operator == "^":
        place = next((n for n, number in enumerate(numbers) if number), len(numbers) - 1)
    elif operator == "~=":
        place = max(0, len(numbers) - 2)
    else:
        place = min(1, len(numbers) - 1)
    return (*numbers[:place], numbers[place] + 1)
