"""What there must never be two of: says again and again that it is there, and ends late when it is told to."""

import os
import signal
import time

import redis

store = redis.from_url(os.environ["CACHE_URL"], decode_responses=True)
name = f"{os.environ['RELEASE_TAG']} {os.getpid()}"
until = float("inf")


def end(*_: object) -> None:
    global until
    until = time.monotonic() + 1


signal.signal(signal.SIGTERM, end)
store.hset("first", name, time.time())
while time.monotonic() < until:
    store.hset("last", name, time.time())
    time.sleep(0.02)
