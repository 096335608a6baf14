"""Tags as versions: which is the newest, and which are similar to one that does not exist."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from slipway.base.errors import RefusedError

# A word before the number (`release-1.2`, `logbook/v1.2.0`), the number, and what follows it. A date may have dashes.
_VERSION = re.compile(
    r"(?P<prefix>(?:.*?[a-z])??[/_-]?)[vV]?"
    r"(?P<numbers>\d{4}-\d\d-\d\d|\d+(?:\.\d+)*)"
    r"(?:[._-]?(?P<suffix>[0-9A-Za-z][0-9A-Za-z._-]*))?(?:\+(?P<build>[0-9A-Za-z.-]+))?"
)
_PART = re.compile(r"\d+|[A-Za-z]+")
# What follows the number of a release that is as stable as the number alone, or of a correction of one.
_FINAL = ("final", "ga", "stable", "lts", "release")
_CORRECTION = ("post", "patch", "p", "rev", "r", "hotfix", "fix")
# Other words for one thing, so that they have one order: dev, a, b, rc.
_SAME = {"dev": "0", "alpha": "a", "beta": "b", "c": "rc", "pre": "rc", "preview": "rc"}

# Allowed in a tag by git and safe in the name of a directory: no space, no shell or glob characters, no leading dash.
_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+/-]*")

Parts = tuple[tuple[int, int, str], ...]


@dataclass(frozen=True, order=True)
class Version:
    """A tag as a version, in an order that semantic versioning and PEP 440 agree on."""

    numbers: tuple[int, ...]
    stage: int  # before, at or after the release of the number: BEFORE, AT, AFTER
    suffix: Parts
    build: Parts
    tag: str
    prefix: str = field(compare=False)
    number: str = field(compare=False)  # as it is written, 1.0.0 as well as 1.0

    @property
    def is_stable(self) -> bool:
        """Whether it is meant for everybody, and not a pre-release (1.0.0-rc.1, 1.0b2, 1.0.dev3)."""
        return self.stage != BEFORE


BEFORE, AT, AFTER = range(3)


def is_tag(name: str) -> bool:
    """Whether `name` may be used as a tag and as part of a directory's name."""
    return bool(_TAG.fullmatch(name)) and ".." not in name and not name.endswith("/")


def parse(tag: str) -> Version | None:
    """A tag as a version; None when it is none."""
    match = _VERSION.fullmatch(tag) if is_tag(tag) else None
    if not match:
        return None
    numbers = tuple(int(part) for part in re.split(r"[.-]", match["numbers"]))
    while len(numbers) > 1 and numbers[-1] == 0:  # 1.0 and 1.0.0 are the same version
        numbers = numbers[:-1]
    suffix, build = _parts(match["suffix"] or ""), _parts(match["build"] or "")
    return Version(numbers, _stage(suffix), suffix, build, tag, match["prefix"], match["numbers"])


def _parts(text: str) -> Parts:
    """Numbers and words, which have their order among themselves; a number comes before a word."""
    found = (part.lower() for part in _PART.findall(text))
    return tuple((0, int(part), "") if part.isdigit() else (1, 0, _SAME.get(part, part)) for part in found)


def _stage(suffix: Parts) -> int:
    word = suffix[0][2] if suffix else "final"
    if word in _FINAL:
        return AT
    return AFTER if not word or word in _CORRECTION else BEFORE  # 1.0-1 is the first correction of 1.0


def newest(tags: Iterable[str]) -> str | None:
    """The tag with the highest version that is no pre-release; None when there is none.

    Tags that are not versions are ignored. RefusedError when every version has a word before its number, and not all
    have the same one: those of several things cannot be compared.
    """
    stable = [version for version in _versions(tags) if version.is_stable]
    return max(stable).tag if stable else None


def newest_prerelease(tags: Iterable[str]) -> str | None:
    """The pre-release with the highest version; None when there is none."""
    found = [version for version in _versions(tags) if not version.is_stable]
    return max(found).tag if found else None


def _versions(tags: Iterable[str]) -> list[Version]:
    """The versions of one thing: those that are numbers alone, or else those with the one word that all have."""
    found = [version for tag in tags if (version := parse(tag)) is not None]
    prefixes = {version.prefix for version in found}
    if "" in prefixes:
        return [version for version in found if not version.prefix]
    if len(prefixes) > 1:
        shown = ", ".join(sorted(max(item for item in found if item.prefix == prefix).tag for prefix in prefixes)[:5])
        raise RefusedError(f"The tags are versions of several things ({shown}). Pass -e version=<tag>.")
    return found


def near(wanted: str, tags: Iterable[str], limit: int = 3) -> list[str]:
    """Up to `limit` existing tags that are similar to `wanted`, the most similar first."""
    import difflib  # here, as no successful command needs it

    return difflib.get_close_matches(wanted, list(tags), n=limit, cutoff=0.5)


def release_name(tag: str | None, sha: str) -> str:
    """The directory name of a release: `<tag>-<12 hex>`, or `commit-<12 hex>` for a commit without a tag.

    A slash becomes `~`, which no tag can contain, so that two tags never share a directory.
    """
    return f"{(tag or 'commit').replace('/', '~')}-{sha[:12]}"
