"""Ask a site in a loop, over kept connections, until it refuses: ``python_client LIBRARY METHOD URL``.

Each of eight askers has a connection of its own and pauses 0 to 300 ms between two requests. It prints ``ready`` when
each has had three answers, and one line for each error that is neither a refused connection nor a 503.
"""

from __future__ import annotations

import asyncio
import random
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

ASKERS = 8
WARM_UP = 3

Ask = Callable[[], int]


def main(library: str, method: str, url: str) -> None:
    """Ask until the site refuses."""
    _OF[library](library, method, url)


class Progress:
    """Says ``ready``, and what has gone wrong."""

    def __init__(self) -> None:
        self._answers = 0

    def answered(self) -> None:
        """Count one of the first answers of each asker."""
        self._answers += 1
        if self._answers == ASKERS * WARM_UP:
            print("ready", flush=True)

    def failed(self, error: Exception) -> None:
        """Say so, unless the connection was refused."""
        causes: list[BaseException] = [error]
        while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None:
            causes.append(cause)
        text = " <- ".join(f"{type(cause).__name__}: {cause}" for cause in causes)
        # Each library has its own word for it.
        if "ConnectionRefused" not in text and "Connect call failed" not in text:
            print(text.replace("\n", " "), flush=True)


def _pause() -> float:
    return random.uniform(0, 0.3)


def _with_threads(library: str, method: str, url: str) -> None:
    progress, lock = Progress(), threading.Lock()

    def loop() -> None:
        ask = _ASK[library](method, url)
        for count in range(10_000):
            try:
                status = ask()
            except Exception as error:
                with lock:
                    progress.failed(error)
                return
            if status == 503:
                return
            if status != 200:
                raise SystemExit(f"status {status}")
            if count < WARM_UP:
                with lock:
                    progress.answered()
            time.sleep(_pause())

    threads = [threading.Thread(target=loop) for _ in range(ASKERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _requests(method: str, url: str) -> Ask:
    import requests

    session = requests.Session()
    return lambda: session.request(method, url, data=b"x=1" if method == "POST" else None, timeout=20).status_code


def _urllib3(method: str, url: str) -> Ask:
    import urllib3

    pool = urllib3.PoolManager(retries=False)
    return lambda: pool.request(method, url, body=b"x=1" if method == "POST" else None, timeout=20).status


def _httpx(method: str, url: str) -> Ask:
    import httpx

    client = httpx.Client(timeout=20)
    return lambda: client.request(method, url, content=b"x=1" if method == "POST" else None).status_code


def _aiohttp(_: str, method: str, url: str) -> None:
    import aiohttp

    progress = Progress()

    async def ask(session: aiohttp.ClientSession) -> int:
        async with session.request(method, url, data=b"x=1" if method == "POST" else None) as response:
            await response.read()
            status: int = response.status
            return status

    async def loop() -> None:
        async with aiohttp.ClientSession() as session:
            for count in range(10_000):
                try:
                    status = await ask(session)
                except Exception as error:
                    progress.failed(error)
                    return
                if status == 503:
                    return
                if status != 200:
                    raise SystemExit(f"status {status}")
                if count < WARM_UP:
                    progress.answered()
                await asyncio.sleep(_pause())

    async def run() -> None:
        loops: list[Awaitable[Any]] = [loop() for _ in range(ASKERS)]
        await asyncio.gather(*loops)

    asyncio.run(run())


_ASK: dict[str, Callable[[str, str], Ask]] = {"requests": _requests, "urllib3": _urllib3, "httpx": _httpx}
_OF: dict[str, Callable[[str, str, str], None]] = {**dict.fromkeys(_ASK, _with_threads), "aiohttp": _aiohttp}

if __name__ == "__main__":
    main(*sys.argv[1:])
