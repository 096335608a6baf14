"""A chat: what one client sends over its WebSocket, all others get, through Redis; and a stream of numbers."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator

import redis.asyncio as redis
from fastapi import FastAPI, Response, WebSocket, WebSocketDisconnect
from fastapi.responses import StreamingResponse

app = FastAPI()
store = redis.from_url(os.environ["REDIS_URL"], decode_responses=True)
RELEASE = os.environ["RELEASE_TAG"]


@app.get("/ping")
async def ping() -> str:
    return "pong"


@app.get("/")
async def said(response: Response) -> dict[str, object]:
    response.headers["x-release"] = RELEASE
    return {"said": int(await store.get("said") or 0), "keys": sorted(await store.keys())}


@app.post("/", status_code=201)
async def say(response: Response) -> dict[str, int]:
    response.headers["x-release"] = RELEASE
    return {"said": await store.incr("said")}


@app.get("/numbers")
async def numbers(count: int, pause: float = 0.1) -> StreamingResponse:
    async def lines() -> AsyncIterator[str]:
        for number in range(count):
            yield f"{number} {RELEASE}\n"
            await asyncio.sleep(pause)

    return StreamingResponse(lines(), media_type="text/plain")


@app.websocket("/room")
async def room(socket: WebSocket) -> None:
    await socket.accept(headers=[(b"x-release", RELEASE.encode())])
    async with store.pubsub() as heard:
        await heard.subscribe("room")
        await socket.send_text(f"hello from {RELEASE}")

        async def pass_on() -> None:
            async for message in heard.listen():
                if message["type"] == "message":
                    await socket.send_text(message["data"])

        passing = asyncio.create_task(pass_on())
        with contextlib.suppress(WebSocketDisconnect):
            while True:
                await store.publish("room", await socket.receive_text())
        passing.cancel()
