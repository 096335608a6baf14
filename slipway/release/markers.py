"""Environment markers of PEP 508, such as `python_version < "3.11" and sys_platform == "linux"`."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from slipway.release import specifiers

# What a Python says of itself, to be run by it; the names are those of PEP 508.
PROGRAM = (
    "import json, os, platform, sys; v = sys.implementation.version; print(json.dumps({"
    "'implementation_name': sys.implementation.name, 'implementation_version': '%d.%d.%d' % v[:3],"
    "'os_name': os.name, 'platform_machine': platform.machine(), 'platform_release': platform.release(),"
    "'platform_system': platform.system(), 'platform_version': platform.version(),"
    "'python_full_version': platform.python_version(),"
    "'platform_python_implementation': platform.python_implementation(),"
    "'python_version': '%d.%d' % sys.version_info[:2], 'sys_platform': sys.platform}))"
)

_TOKEN = re.compile(
    r"\s*(?:(?P<text>'[^']*'|\"[^\"]*\")|(?P<operator><=|>=|===|==|!=|~=|<|>)|(?P<bracket>[()])|(?P<word>[A-Za-z_.]+))"
)
_VERSIONS = ("python_version", "python_full_version", "implementation_version")


class MarkerError(ValueError):
    """A marker that is none."""


def holds(marker: str, environment: Mapping[str, str], extras: Collection[str] = ()) -> bool:
    """Whether a marker holds for a Python that says `environment`; MarkerError when it is none. "" holds."""
    if not marker.strip():
        return True
    reader = _Reader(_tokens(marker), environment, extras)
    found = reader.either()
    if reader.tokens:
        raise MarkerError(marker)
    return found


def of_version(environment: Mapping[str, str], minor: str) -> dict[str, str]:
    """What another version of the same Python would say, such as 3.12."""
    full = f"{minor}.0"
    return {**environment, "python_version": minor, "python_full_version": full, "implementation_version": full}


def _tokens(marker: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    place = 0
    text = marker.rstrip()
    while place < len(text):
        match = _TOKEN.match(text, place)
        if not match or len(found) > 10_000:
            raise MarkerError(marker)
        found.append((str(match.lastgroup), match[match.lastgroup or 0]))
        place = match.end()
    return found


class _Reader:
    """Reads the tokens from the left; `or` binds less than `and`."""

    def __init__(self, tokens: list[tuple[str, str]], environment: Mapping[str, str], extras: Collection[str]) -> None:
        self.tokens = tokens
        self._environment = environment
        self._extras = {normal(extra) for extra in extras}

    def either(self, depth: int = 0) -> bool:
        found = self._both(depth)
        while self._takes("or"):
            other = self._both(depth)
            found = found or other
        return found

    def _both(self, depth: int) -> bool:
        found = self._one(depth)
        while self._takes("and"):
            other = self._one(depth)
            found = found and other
        return found

    def _one(self, depth: int) -> bool:
        if depth > 50:  # deeper than any is
            raise MarkerError("too deep")
        if self._takes("("):
            found = self.either(depth + 1)
            if not self._takes(")"):
                raise MarkerError("a bracket is open")
            return found
        left, operator, right = self._next(), self._operator(), self._next()
        return self._compare(left, operator, right)

    def _takes(self, word: str) -> bool:
        if self.tokens and self.tokens[0][1] == word and self.tokens[0][0] != "text":
            self.tokens.pop(0)
            return True
        return False

    def _next(self) -> tuple[str, str]:
        if not self.tokens or self.tokens[0][0] not in ("text", "word"):
            raise MarkerError("a value is missing")
        return self.tokens.pop(0)

    def _operator(self) -> str:
        if self._takes("not"):
            if self._takes("in"):
                return "not in"
            raise MarkerError("not")
        if self._takes("in"):
            return "in"
        if not self.tokens or self.tokens[0][0] != "operator":
            raise MarkerError("an operator is missing")
        return self.tokens.pop(0)[1]

    def _compare(self, left: tuple[str, str], operator: str, right: tuple[str, str]) -> bool:
        names = {token[1] for token in (left, right) if token[0] == "word"}
        if names & {"extra", "extras", "dependency_groups"}:
            given = next((token[1].strip("'\"") for token in (left, right) if token[0] == "text"), None)
            if given is None:
                raise MarkerError("an extra is compared with no text")
            return (normal(given) in self._extras) != (operator in ("!=", "not in"))
        one, other = self._value(left), self._value(right)
        if operator in ("in", "not in"):
            return (one in other) != (operator == "not in")
        if names & set(_VERSIONS) and left[0] == "word":
            return specifiers.allows(f"{operator}{other}", one)
        if names & set(_VERSIONS) and operator in _TURNED:
            return specifiers.allows(f"{_TURNED[operator]}{one}", other)
        return {"==": one == other, "===": one == other, "!=": one != other, "<": one < other}.get(
            operator, {"<=": one <= other, ">": one > other, ">=": one >= other}.get(operator, one == other)
        )

    def _value(self, token: tuple[str, str]) -> str:
        if token[0] == "text":
            return token[1][1:-1]
        name = token[1].replace(".", "_").replace("python_implementation", "platform_python_implementation")
        name = name.replace("platform_platform", "platform")
        if name not in self._environment:
            raise MarkerError(token[1])
        return self._environment[name]


_TURNED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "==", "!=": "!="}


def normal(name: str) -> str:
    """A name of a package, an extra or a group as lock files have it."""
    return re.sub(r"[-_.]+", "-", name).lower()
