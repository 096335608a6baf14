"""Tags as versions: which is the newest, and which are similar to one that does not exist."""

from __future__ import annotations

import re
from collections.abc import Iterable

_VERSION = re.compile(r"v?(\d+(?:\.\d+)*)(?:-?([0-9A-Za-z][0-9A-Za-z.-]*))?(?:\+[0-9A-Za-z.-]+)?")

# Allowed in a tag by git and safe in the name of a directory: no space, no shell or glob characters, no leading dash.
_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+/-]*")

Key = tuple[tuple[int, ...], tuple[int, tuple[tuple[int, int, str], ...]]]


def is_tag(name: str) -> bool:
    """Whether `name` may be used as a tag and as part of a directory's name."""
    return bool(_TAG.fullmatch(name)) and ".." not in name and not name.endswith("/")


def version_key(tag: str) -> Key | None:
    """A sort key by the precedence of semantic versioning (1.0.0-rc.1 < 1.0.0); None when `tag` is not a version."""
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
    """The tag with the highest version; tags that are not versions are ignored. None when there is no version."""
    keyed = [(key, tag) for tag in tags if (key := version_key(tag)) is not None]
    return max(keyed)[1] if keyed else None


def near(wanted: str, tags: Iterable[str], limit: int = 3) -> list[str]:
    """Up to `limit` existing tags that are similar to `wanted`, the most similar first."""
    import difflib  # here, as no successful command needs it

    return difflib.get_close_matches(wanted, list(tags), n=limit, cutoff=0.5)


def release_name(tag: str | None, sha: str) -> str:
    """The directory name of a release: `<tag>-<12 hex>`, or `commit-<12 hex>` for a commit without a tag.

    A slash becomes `~`, which no tag can contain, so that two tags never share a directory.
    """
    return f"{(tag or 'commit').replace('/', '~')}-{sha[:12]}"
