"""Notices, with a page that names a file of this release."""

import os
from pathlib import Path

import psycopg
from fastapi import FastAPI, Response

api = FastAPI(title="notices")
STYLE = next((Path(__file__).parent / "assets").glob("site.*.css")).name


@api.get("/up", status_code=204)
def up() -> None:
    with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
        connection.execute("SELECT 1")


@api.get("/")
def page(response: Response) -> dict[str, object]:
    response.headers["x-release"] = os.environ["RELEASE_TAG"]
    with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
        found = connection.execute("SELECT body FROM notice WHERE name = 'welcome'").fetchone()
        seeded = [row[0] for row in connection.execute("SELECT release FROM seeded ORDER BY at")]
    return {"welcome": found and found[0], "style": f"/assets/{STYLE}", "seeded": seeded}


@api.get("/ticks")
def ticks() -> list[dict[str, object]]:
    statement = "SELECT release, extract(epoch FROM began), extract(epoch FROM ended) FROM tick ORDER BY id"
    with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
        rows = connection.execute(statement).fetchall()
    return [{"release": row[0], "began": float(row[1]), "ended": row[2] and float(row[2])} for row in rows]
