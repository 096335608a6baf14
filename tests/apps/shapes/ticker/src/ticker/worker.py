"""Takes events from Redis."""

import os

import redis

store = redis.from_url(os.environ["CACHE_URL"], decode_responses=True)
while True:
    if store.brpop("events", timeout=1):
        store.incr("worked")
