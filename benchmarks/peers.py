"""What the peers serve in ``shutdown.py``: ``GET /?ms=N`` is answered ok after N milliseconds."""

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
    if ms := float(query.get("ms", ["0"])[0]):
        await asyncio.sleep(ms / 1000)
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"ok"})


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
