"""Takes one job after another; told to end, it ends the one that it is at."""

import os
import signal
import time

from sqlalchemy import text

from orders.database import engine

NAME = f"{os.environ['RELEASE_TAG']} {os.getpid()}"
TAKE = """
UPDATE job SET taken_by = :name, attempts = attempts + 1
 WHERE id = (SELECT id FROM job WHERE taken_by IS NULL ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING id, seconds
"""
ended = False


def end(*_: object) -> None:
    global ended
    ended = True


signal.signal(signal.SIGTERM, end)
while not ended:
    with engine.begin() as connection:
        job = connection.execute(text(TAKE), {"name": NAME}).one_or_none()
    if job is None:
        time.sleep(0.1)
        continue
    until = time.monotonic() + job.seconds
    while time.monotonic() < until:
        time.sleep(0.05)
    with engine.begin() as connection:
        connection.execute(text("UPDATE job SET done_by = :name WHERE id = :id"), {"name": NAME, "id": job.id})
