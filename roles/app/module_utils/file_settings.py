"""The settings `data` and `static` of an app: one whole form of each, and what is wrong with it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from slipway.base.errors import RefusedError

# A path in a repository, without what systemd, Nginx or a shell reads as more than a path, and without hidden names.
_PATH = re.compile(r"[A-Za-z0-9_@+-][A-Za-z0-9._@+-]*(?:/[A-Za-z0-9_@+-][A-Za-z0-9._@+-]*)*")
_URL = re.compile(r"/(?:[A-Za-z0-9_~@-][A-Za-z0-9._~@-]*(?:/[A-Za-z0-9_~@-][A-Za-z0-9._~@-]*)*/?)?")


def whole_data(value: Any) -> list[str]:
    """The paths that are kept; a single one given as text is a list of one. RefusedError says what it must be."""
    paths = [value] if isinstance(value, str) else value
    if paths in (None, [""]):
        return []
    if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
        raise RefusedError(
            f"data is {value!r}, but must be a list of paths in the repository, such as [uploads/, app.db]."
        )
    return list(paths)


def whole_static(value: Any) -> list[dict[str, str]]:
    """What Nginx serves, as [{url, path}]. A path alone is served below a URL like it. RefusedError for all else.

    The URL of a directory ends with '/'; one that does not, and has a '.' in its last part, is of a single file.
    """
    if value in (None, ""):
        return []
    if isinstance(value, Mapping) and not {"url", "path"} & set(value):
        value = [{"url": url, "path": path} for url, path in value.items()]
    return [_place(item) for item in (value if isinstance(value, list) else [value])]


def _place(item: Any) -> dict[str, str]:
    if isinstance(item, str):
        item = {"url": f"/{item}", "path": item}
    if not isinstance(item, Mapping) or set(item) != {"url", "path"} or not all(map(_is_text, item.values())):
        raise RefusedError(
            f"static has {item!r}, but must be a list of paths in the repository, such as [assets/], or a mapping of "
            "URLs to paths, such as {/static/: app/static/}."
        )
    url, path = item["url"], item["path"].rstrip("/")
    is_file = "." in url.rpartition("/")[2] and not item["path"].endswith("/")
    return {"url": url if is_file or url.endswith("/") else f"{url}/", "path": path}


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def data_faults(where: str, paths: list[str]) -> Iterator[str]:
    """What is wrong with paths that are kept; `where` is the setting of the app."""
    for path in paths:
        if not _PATH.fullmatch(path.rstrip("/")):
            yield (
                f"{where} has '{path}', but must have paths below `directory`, such as uploads/ or app.db, of letters, "
                "digits and _ . @ + -, and without hidden names."
            )
    for number, path in enumerate(paths):
        for other in paths[:number]:
            inner, outer = (path, other) if _is_at_or_below(path, other) else (other, path)
            if not _is_at_or_below(inner, outer):
                continue
            if _is_at_or_below(outer, inner):
                yield f"{where} has '{path}' twice. Remove one of the two."
            else:
                yield f"{where} has '{inner}', which is inside of '{outer}'. Remove one of the two."


def static_faults(where: str, places: list[dict[str, str]], kept: list[str]) -> Iterator[str]:
    """What is wrong with what Nginx serves; `kept` are the paths of `data`."""
    urls = [place["url"] for place in places]
    for place in places:
        url, path = place["url"], place["path"]
        if not _URL.fullmatch(url):
            yield f"{where} has the URL '{url}', but must have such as /static/ or /favicon.ico, and no hidden names."
        elif urls.count(url) > 1:
            yield f"{where} has the URL '{url}' twice. Remove one of the two."
        if not _PATH.fullmatch(path):
            yield (
                f"{where} has '{path or '.'}' for {url}, but must have paths below `directory`, such as app/static/: "
                "never all of the source, and nothing hidden."
            )
        for other in kept:
            if _is_at_or_below(path, other):
                yield (
                    f"{where} has '{path}' for {url}, but {other} of `data` is the app's own, and Nginx cannot read "
                    "it. Let the app serve it."
                )


def _is_at_or_below(path: str, other: str) -> bool:
    return PurePosixPath(path).is_relative_to(PurePosixPath(other))
