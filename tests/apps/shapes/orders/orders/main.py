"""Orders; each is a job for the worker."""

import os

from fastapi import FastAPI, Response
from sqlalchemy import text

from orders.database import engine

app = FastAPI()


@app.get("/health")
def health() -> dict[str, bool]:
    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))
    return {"ok": True}


@app.get("/")
def listed(response: Response) -> list[dict[str, object]]:
    response.headers["x-release"] = os.environ["RELEASE_TAG"]
    statement = "SELECT id, seconds, attempts, taken_by, done_by FROM job WHERE seconds > 0 ORDER BY id"
    with engine.connect() as connection:
        return [dict(row) for row in connection.execute(text(statement)).mappings()]


@app.post("/", status_code=201)
def order(response: Response, seconds: float = 0) -> dict[str, int]:
    response.headers["x-release"] = os.environ["RELEASE_TAG"]
    with engine.begin() as connection:
        statement = text("INSERT INTO job (seconds) VALUES (:seconds) RETURNING id")
        return {"id": connection.execute(statement, {"seconds": seconds}).scalar_one()}
