"""What an app sends bit by bit arrives bit by bit, and what clients send it whole arrives whole."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx

from tests.circumstances.host.workshop import made, workshop
from tests.faults.conftest import Steady
from tests.faults.site import Site

__all__ = ["made", "workshop"]

PAUSE, NUMBER = 0.5, 4  # a stream that is collected comes when its last part is sent, 1.5 s after the first


def arrivals(
    site: Site, path: str, http2: bool = False, pause: float = PAUSE, number: int = NUMBER, **headers: str
) -> list[float]:
    """How long after it was sent each line of a stream arrived, in seconds. Host and tests have the same clock."""
    found = []
    with (
        site.client(http2=http2) as client,
        client.stream("GET", path, params={"number": number, "pause": pause}, headers=headers) as answer,
    ):
        assert answer.status_code == 200
        for line in filter(None, answer.iter_lines()):
            _, sent = json.loads(line.removeprefix("data: "))
            found.append(time.time() - sent)
    assert len(found) == number
    return found


def late(site: Site, kinds: list[str], **how: Any) -> dict[str, float]:
    """The streams of which some part arrived late, each with how late; all are read at the same time."""
    with ThreadPoolExecutor(len(kinds)) as pool:
        slowest = pool.map(lambda kind: max(arrivals(site, f"/stream/{kind}", **how)), kinds)
        return {kind: seconds for kind, seconds in zip(kinds, slowest, strict=True) if seconds >= PAUSE}


def test_each_part_of_a_stream_arrives_as_it_is_sent(workshop: Site) -> None:
    for http2 in (False, True):
        assert late(workshop, ["sse", "ndjson", "text", "json", "untyped"], http2=http2) == {}


def test_compression_does_not_hold_a_stream_back(workshop: Site) -> None:
    assert late(workshop, ["sse", "ndjson", "text", "json"], **{"Accept-Encoding": "gzip"}) == {}


def test_a_download_and_a_stream_that_asks_for_it_are_collected_for_a_slow_client(workshop: Site) -> None:
    for path in ("/stream/download", "/stream/ndjson?buffering=yes"):
        with workshop.client() as client:
            answer = client.get(path, params={**httpx.URL(path).params, "number": 3, "pause": 0.1})
        assert answer.status_code == 200
        assert "x-accel-buffering" not in answer.headers
        first, *_ = [json.loads(line)[1] for line in answer.text.splitlines()]
        assert answer.elapsed.total_seconds() >= 0.2  # the first byte came with the last one
        assert first


def test_a_slow_client_does_not_hold_the_old_release_with_a_download(workshop: Site) -> None:
    """Nginx has taken 20 MB off the release long before the client has read them: a deploy cuts nothing."""
    with (
        workshop.client(timeout=30) as client,
        client.stream("GET", "/stream/download", params={"number": 20, "pause": 0, "size": 1_000_000}) as answer,
    ):
        parts = answer.iter_bytes(65536)
        received = len(next(parts))
        workshop.deploy(workshop.good[0])
        received += sum(map(len, parts))
    assert received > 20_000_000
    assert workshop.journal()[-1]["tag"] == workshop.good[0].tag


def test_a_deploy_under_streams_loses_no_request(workshop: Site, steady: Steady) -> None:
    with steady() as load, workshop.client(timeout=30) as client:
        with client.stream("GET", "/stream/sse", params={"number": 10, "pause": 0.3}) as answer:
            lines = answer.iter_lines()
            next(lines)
            workshop.deploy(workshop.good[1])
            rest = [line for line in lines if line]
        assert len(rest) == 9  # the stream went on in the old release, and was let end
    assert load.failures == []


def test_a_large_body_arrives_whole(workshop: Site) -> None:
    size = 9_000_000
    with workshop.client(timeout=30) as client:
        chunks = (b"x" * 100_000 for _ in range(size // 100_000))  # of unknown length: sent in chunks
        assert client.put("/upload", content=chunks).json() == {"bytes": size}
        assert client.put("/upload", content=b"x" * size, headers={"Expect": "100-continue"}).json() == {"bytes": size}
        assert client.put("/upload", content=b"x" * 11_000_000).status_code == 413
