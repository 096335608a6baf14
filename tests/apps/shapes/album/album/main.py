"""Files in a directory, and their names in SQLite."""

import os
from pathlib import Path

from fastapi import FastAPI, HTTPException, Request, Response
from sqlalchemy import create_engine, text

app = FastAPI()
engine = create_engine(os.environ["DATABASE_URL"], connect_args={"timeout": 20})
UPLOADS = Path("uploads")


@app.get("/health")
def health() -> dict[str, bool]:
    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))
    return {"ok": True}


@app.get("/")
def listed(response: Response) -> dict[str, object]:
    response.headers["x-release"] = os.environ["RELEASE_TAG"]
    with engine.connect() as connection:
        count = connection.execute(text("SELECT count(*) FROM file")).scalar_one()
    return {"count": count, "files": sorted(path.name for path in UPLOADS.iterdir())}


@app.get("/files/{name}")
def read(name: str) -> Response:
    if not (UPLOADS / name).is_file():
        raise HTTPException(404)
    return Response((UPLOADS / name).read_bytes())


@app.put("/files/{name}", status_code=201)
async def write(name: str, request: Request, response: Response) -> dict[str, bool]:
    response.headers["x-release"] = os.environ["RELEASE_TAG"]
    (UPLOADS / name).write_bytes(await request.body())
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO file (name) VALUES (:name)"), {"name": name})
    return {"ok": True}
