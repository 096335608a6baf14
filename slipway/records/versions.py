"""Tags as versions: which is the newest, and which are near to one that does not exist."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

_VERSION = re.compile(r"v?(\d+(?:\.\d+)*)(?:-?([0-9A-Za-z][0-9A-Za-z.-]*))?(?:\+[0-9A-Za-z.-]+)?")

# What git allows in a tag and a directory name carries: no space, no shell or glob characters, no leading dash.
_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+/-]*")

Key = tuple[tuple[int, ...], tuple[int, tuple[tuple[int, int, str], ...]]]


def is_tag(name: str) -> bool:
    """Whether `name` may be used as a tag and as part of a directory's name."""
    return bool(_TAG.fullmatch(name)) and ".." not in name and not name.endswith("/")


def version_key(tag: str) -> Key | None:
    """A sort key by semantic-versioning precedence (1.0.0-rc.1 < 1.0.0); None when `tag` is no version."""
    match = _VERSION.fullmatch(tag)
    if not match:
        return None
    numbers = tuple(int(part) for part in match[1].split("."))
    while len(numbers) > 1 and numbers[-1] == 0:  # 1.0 and 1.0.0 are the same version
        numbers = numbers[:-1]
    if match[2] is None:
        return numbers, (1, ())
    identifiers = tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"[.-]", match[2]))
    return numbers, (0, identifiers)


def newest(tags: Iterable[str]) -> str | None:
    """The tag with the highest version; tags that are no versions are passed over. None when none is left."""
    keyed = [(key, tag) for tag in tags if (key := version_key(tag)) is not None]
    return max(keyed)[1] if keyed else None


def near(wanted: str, tags: Iterable[str], limit: int = 3) -> list[str]:
    """Up to `limit` existing tags that look like `wanted`, the most alike first."""
    return difflib.get_close_matches(wanted, list(tags), n=limit, cutoff=0.5)


def release_name(tag: str | None, sha: str) -> str:
    """Directory name of a release: `<tag>-<12 hex>`, or `commit-<12 hex>` where a bare commit is deployed.

    A slash becomes `~`, which no tag may have: two tags never share a directory.
    """
    return f"{(tag or 'commit').replace('/', '~')}-{sha[:12]}"
