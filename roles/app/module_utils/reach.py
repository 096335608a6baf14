"""What the app's declaration says of other machines: which of its variables looks like the address of one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

# scheme://user:password@host:port/; a file or a unix socket has no host.
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://(?:[^/@\s]*@)?(?P<host>\[[^\]\s]*\]|[^/:?#\s,\"']*)")
# A host in the query of a database's URL; one that begins with / is a directory with a unix socket.
_QUERY = re.compile(r"[?&]host(?:addr)?=(?P<host>[^&/%][^&]*)")
# Names of variables whose value is a host, or a key for somebody else's service.
_PLACE = re.compile(
    r"(?:^|_)(?:HOST|HOSTNAME|SERVER|SERVERS|ENDPOINT|BROKER|BROKERS|PROXY|URL|URI|DSN)$", re.IGNORECASE
)
_KEY = re.compile(r"(?:API_?KEY|ACCESS_?KEY|(?:^|_)TOKEN$|CLIENT_SECRET$|WEBHOOK)", re.IGNORECASE)
_HERE = ("", "0.0.0.0", "::", "*")  # noqa: S104  # no address of anybody


def elsewhere(variables: Mapping[str, Any], domains: Iterable[str]) -> str:
    """The name of the first variable that names another service; "" if none does. `domains` are the app's own."""
    own = {*domains, *_HERE}
    return next((name for name, value in variables.items() if _names_one(name, str(value).strip(), own)), "")


def _names_one(name: str, value: str, own: set[str]) -> bool:
    if not value:
        return False
    urls = [match["host"].strip("[]") for pattern in (_URL, _QUERY) for match in pattern.finditer(value)]
    if urls:
        return any(host not in own for host in urls)
    if "://" in value or value.startswith("/"):
        return False
    return bool(_KEY.search(name) or (_PLACE.search(name) and value.partition(":")[0] not in own))
