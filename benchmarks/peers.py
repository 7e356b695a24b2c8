"""What the peers serve: ``GET /?ms=N`` is answered ok after N milliseconds.

The ASGI application answers ``GET /?ms=N&parts=M`` in M parts over that time.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qs


async def asgi(
    scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
) -> None:
    """For uvicorn, hypercorn, granian and gunicorn."""
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    query = parse_qs(scope["query_string"].decode())
    seconds = float(query.get("ms", ["0"])[0]) / 1000
    if parts := int(query.get("parts", ["0"])[0]):
        await _stream(send, seconds, parts)
        return
    if seconds:
        await asyncio.sleep(seconds)
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"ok"})


async def _stream(send: Callable[[Any], Awaitable[None]], seconds: float, parts: int) -> None:
    began = asyncio.get_running_loop().time()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    for number in range(1, parts + 1):
        # Whatever the parts before it took.
        await asyncio.sleep(began + seconds * number / parts - asyncio.get_running_loop().time())
        await send({"type": "http.response.body", "body": b"ok", "more_body": number < parts})


def run_aiohttp() -> None:
    from aiohttp import web

    async def serve(request: web.Request) -> web.Response:
        if ms := float(request.query.get("ms", "0")):
            await asyncio.sleep(ms / 1000)
        return web.Response(text="ok")

    app = web.Application()
    app.router.add_get("/", serve)
    host, port = os.environ["HOST"], int(os.environ["PORT"])
    web.run_app(app, host=host, port=port, shutdown_timeout=10, backlog=1024, print=None, access_log=None)


if __name__ == "__main__":
    run_aiohttp()
