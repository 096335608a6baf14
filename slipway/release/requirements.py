"""Files of requirements, as pip reads them, as a list of pins; and what of them is not pinned."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator, Mapping
from string import Template

from slipway.release.pins import ARCHIVES, COMMIT, Pin, Plan

_MOST_FILES, _MOST_LINES = 50, 20_000
_INCLUDE = re.compile(r"(-r|--requirement|-c|--constraint)(?:\s*=\s*|\s+|(?<=-r)|(?<=-c))(\S+)")
_OPTION = re.compile(r"(-i|--index-url|--extra-index-url|-f|--find-links|-e|--editable)(?:\s*=\s*|\s+)(\S.*)")
_HASH = re.compile(r"--hash(?:\s*=\s*|\s+)(\S+)")
_PINNED = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[[^\]]*\])?\s*(?:===?)\s*([^\s,;*]+)")
_AT = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[[^\]]*\])?\s*@\s*(\S+)")
_GIT = re.compile(r"git\+(?P<url>[^#]+?)(?:@(?P<ref>[^@/#]+))?(?:#(?P<rest>.*))?")


def files(path: str, text: Callable[[str], str]) -> dict[str, str]:
    """The texts of a file of requirements and of all that it includes, by their paths from the top of the release.

    `text` reads one of them. ValueError when there are more than anybody has.
    """
    found: dict[str, str] = {}
    waiting = [path]
    while waiting:
        place = waiting.pop()
        if place in found:
            continue
        if len(found) >= _MOST_FILES:
            raise ValueError(f"it includes more than {_MOST_FILES} files")
        try:
            found[place] = text(place)
        except FileNotFoundError as error:
            if place == path:
                raise
            said = "is at a URL: commit it" if ":/" in place else "is not there: commit it, or remove the line"
            raise ValueError(f"it includes {place}, which {said}") from error
        for line in _lines(found[place]):
            if match := _INCLUDE.fullmatch(line):
                waiting += [posixpath.normpath(posixpath.join(posixpath.dirname(place), match[2]))]
    return found


def read(path: str, text: Callable[[str], str], variables: Mapping[str, str] | None = None) -> Plan:
    """What a file of requirements pins; `variables` are those that addresses may name. ValueError as for `files`."""
    pins: dict[str, Pin] = {}
    indexes: list[tuple[str, str]] = []
    loose, instead = "", False
    texts = files(path, text)
    constraints = set(_constraints(texts))
    for place, content in texts.items():
        if place in constraints:
            continue
        for line in _lines(content):
            known = Template(line).safe_substitute(variables or {})
            if match := _OPTION.fullmatch(known):
                option, value = match[1], match[2].strip()
                if option in ("-e", "--editable"):
                    pin = _direct("", value, place)
                    loose = loose or (value if _follows_git(pin) else "")
                    pins[pin.path or pin.url] = pin
                elif option in ("-i", "--index-url", "--extra-index-url"):
                    first = option != "--extra-index-url"
                    instead = instead or first
                    indexes.insert(0 if first else len(indexes), ("", value))
                continue
            if line.startswith("-"):
                continue
            made = _pin(known, place)
            if made is None:
                loose = loose or line.partition(";")[0].strip()
            else:
                loose = loose or (known if _follows_git(made) else "")
                pins[f"{made.name or made.path}{made.marker}"] = made
    found = list(pins.values())
    loose = loose or next((f"{pin.name}=={pin.version} without a hash" for pin in found if _lacks_hash(pin)), "")
    return Plan(found, indexes, instead, loose=loose, files=sorted(texts))


def _follows_git(pin: Pin) -> bool:
    """Whether a package is what a branch or a tag of git is at the moment."""
    return pin.is_git and not COMMIT.fullmatch(pin.commit)


def _lacks_hash(pin: Pin) -> bool:
    return bool(pin.version) and not pin.hashes


def _constraints(texts: Mapping[str, str]) -> Iterator[str]:
    """The files that are only constraints for others."""
    for place, content in texts.items():
        for line in _lines(content):
            match = _INCLUDE.fullmatch(line)
            if match and match[1] in ("-c", "--constraint"):
                yield posixpath.normpath(posixpath.join(posixpath.dirname(place), match[2]))


def _lines(text: str) -> Iterator[str]:
    """Its lines, without comments, and those that are continued as one."""
    joined = re.sub(r"\\\r?\n", " ", text)
    for number, line in enumerate(joined.splitlines()):
        if number > _MOST_LINES:
            raise ValueError(f"it has more than {_MOST_LINES} lines")
        stripped = re.sub(r"(^|\s)#.*$", "", line).strip()
        if stripped:
            yield stripped


def _pin(line: str, place: str) -> Pin | None:
    """What a line pins; None when it leaves something open."""
    hashes = tuple(_HASH.findall(line))
    rest = _HASH.sub("", line).strip()
    before, _, marker = rest.partition(" ;") if "://" in rest else rest.partition(";")
    marker = marker.strip()
    if match := _AT.fullmatch(before.strip()):
        return _direct(match[1], match[2], place, hashes, marker)
    if match := _PINNED.fullmatch(before.strip()):
        return Pin(match[1], match[2], hashes, marker=marker)
    if re.match(r"\.{0,2}/|\.$|file:|git\+|https?://", before) or before.endswith(ARCHIVES):
        return _direct("", before.strip(), place, hashes, marker)
    return None


def _direct(name: str, where: str, place: str, hashes: tuple[str, ...] = (), marker: str = "") -> Pin:
    """What is named by where it is: in git, at a URL, or in the repository."""
    if match := _GIT.fullmatch(where):
        rest = dict(part.partition("=")[::2] for part in (match["rest"] or "").split("&"))
        return Pin(
            name or re.sub(r"\[.*", "", rest.get("egg", "")) or match["url"].rpartition("/")[2].removesuffix(".git"),
            url=match["url"] if match["ref"] else f"git+{match['url']}",
            commit=match["ref"] or "",
            subdirectory=rest.get("subdirectory", ""),
            marker=marker,
        )
    if "://" in where and not where.startswith("file:"):
        url, _, fragment = where.partition("#")
        own = tuple(part.replace("=", ":", 1) for part in fragment.split("&") if re.match(r"sha(256|384|512)=", part))
        file = url.rpartition("/")[2]
        return Pin(name or re.split(r"-\d", file)[0], url=url, hashes=hashes or own, marker=marker)
    path = re.sub(r"\[[^\]]*\]$", "", where.removeprefix("file:").removeprefix("//"))
    return Pin(
        name, path=posixpath.normpath(posixpath.join(posixpath.dirname(place), path)), hashes=hashes, marker=marker
    )
