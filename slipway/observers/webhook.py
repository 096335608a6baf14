"""One POST to a webhook, whose address is a secret and is never shown."""

from __future__ import annotations

import http.client
import ssl
import threading
from collections.abc import Callable
from urllib.parse import urlsplit

from slipway.observers.text import reason

Left = Callable[[], float]  # how many seconds are left

_STEP = 0.1  # seconds between two looks at the time


def post(url: str, content: bytes, left: Left) -> tuple[bool, str] | None:
    """Whether the webhook took `content`, and its answer in words; None when no time is `left` (seconds).

    In a thread, which is abandoned then: no timeout of Python's covers a name that is being looked up, or a server
    that sends one byte at a time.
    """
    done: list[tuple[bool, str] | None] = []
    worker = threading.Thread(target=lambda: done.append(_post(url, content, left())), daemon=True)
    worker.start()
    while worker.is_alive() and left() > 0:
        worker.join(min(_STEP, max(0.0, left())))
    return done[0] if done else None


def _post(url: str, content: bytes, timeout: float) -> tuple[bool, str] | None:
    try:
        status = _request(url, content, timeout)
    except TimeoutError:  # the same end as that of an abandoned thread, whichever comes first
        return None
    except OSError as error:
        return False, f"did not answer: {reason(error)}"
    except UnicodeError:
        return False, "did not answer: it is no host name"
    except Exception as error:  # the text of these may have the address in it
        return False, f"did not answer: {type(error).__name__}"
    if 300 <= status < 400:
        return False, f"answered {status}, and a redirect is not followed"
    return 200 <= status < 300, f"answered {status}"


def _request(url: str, content: bytes, timeout: float) -> int:
    """The status of the answer. Its body is not read: nobody would see it, and it may never end."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme == "https":
        context = ssl.create_default_context()
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(
            host, parts.port, timeout=timeout, context=context
        )
    else:
        connection = http.client.HTTPConnection(host, parts.port, timeout=timeout)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    headers = {"Content-Type": "application/json", "User-Agent": "slipway", "Connection": "close"}
    try:
        connection.request("POST", target, content, headers)
        return connection.getresponse().status
    finally:
        connection.close()
