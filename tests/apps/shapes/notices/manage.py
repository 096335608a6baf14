"""migrate: all of sql/ that was not run yet. seed: what every environment has. tick: what is done again and again."""

import os
import sys
import time
from pathlib import Path

import psycopg


def migrate(connection: psycopg.Connection) -> None:
    connection.execute("CREATE TABLE IF NOT EXISTS applied (name text PRIMARY KEY)")
    for file in sorted(Path("sql").glob("*.sql")):
        if not connection.execute("SELECT 1 FROM applied WHERE name = %s", [file.name]).fetchone():
            connection.execute(file.read_bytes())
            connection.execute("INSERT INTO applied VALUES (%s)", [file.name])


def seed(connection: psycopg.Connection) -> None:
    connection.execute("INSERT INTO notice VALUES ('welcome', 'Welcome') ON CONFLICT DO NOTHING")
    connection.execute("INSERT INTO seeded (release) VALUES (%s)", [os.environ["RELEASE_TAG"]])


def tick(connection: psycopg.Connection) -> None:
    release = os.environ["RELEASE_TAG"]
    row = connection.execute("INSERT INTO tick (release) VALUES (%s) RETURNING id", [release]).fetchone()
    connection.commit()
    time.sleep(7)
    connection.execute("UPDATE tick SET ended = clock_timestamp() WHERE id = %s", row)
    sys.stdout.write("ticked\n")


with psycopg.connect(os.environ["DATABASE_URL"]) as opened:
    {"migrate": migrate, "seed": seed, "tick": tick}[sys.argv[1]](opened)
