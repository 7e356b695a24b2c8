"""``python -m benchmarks.one_stop NAME SEED HOST ROUND_TRIP [PREFIX...]``: stop one server under a storm; print JSON.

The storm, and what counts as lost, is in ``benchmarks/http_storm.py``. A server runs in one process (or one worker),
with its documented graceful settings on, and is stopped by SIGTERM, as the documents of all of them say. PREFIX is put
before its command; the program that it names must become the server itself, as ``setpriv`` does.
"""

from __future__ import annotations

import asyncio
import dataclasses
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.http_storm import Result, Storm

__all__ = ["GRACE", "SERVERS", "Stop", "stop_once"]

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
ASGI = "benchmarks.peers:asgi"
#: Seconds after which a server that has not ended is killed.
PATIENCE = 20

#: How each server is started; HOST and PORT are replaced.
SERVERS: dict[str, list[str]] = {
    "DrainingSite": ["twistd", "-n", "--pidfile=", "-y", "examples/site.tac"],
    "twisted.web Site": ["twistd", "-n", "--pidfile=", "-y", "benchmarks/plain_site.tac"],
    "uvicorn": [
        *["uvicorn", ASGI, "--host=HOST", "--port=PORT", "--backlog=1024"],
        *["--timeout-graceful-shutdown=10", "--no-access-log"],
    ],
    "hypercorn": ["hypercorn", ASGI, "--bind=HOST:PORT", "--backlog=1024", "--graceful-timeout=10"],
    "granian": [
        *["granian", ASGI, "--interface=asgi", "--host=HOST", "--port=PORT", "--backlog=1024"],
        "--workers-kill-timeout=10",
    ],
    "gunicorn": [
        *["gunicorn", ASGI, "--worker-class=asgi", "--bind=HOST:PORT", "--backlog=1024"],
        "--graceful-timeout=10",
    ],
    "aiohttp": ["python", "benchmarks/peers.py"],
}

#: The setting of each server that says for how long it drains; its default, and what it is here.
GRACE = {
    "DrainingSite": "`drain_timeout` (25 s, its default)",
    "uvicorn": "`--timeout-graceful-shutdown` (10 s; no limit by default)",
    "hypercorn": "`--graceful-timeout` (10 s; 3 by default)",
    "granian": "`--workers-kill-timeout` (10 s; no limit by default)",
    "gunicorn": "`--graceful-timeout` (10 s; 30 by default)",
    "aiohttp": "`shutdown_timeout` (10 s; 60 by default)",
}


@dataclass
class Stop:
    """One stop of one server."""

    result: Result
    #: Seconds from the last answer to the end of the process.
    lag: float
    status: int

    @property
    def lost(self) -> int:
        return sum(self.result.lost.values())


async def stop_once(
    name: str, seed: int, host: str = "127.0.0.1", round_trip: float = 0.0, prefix: Sequence[str] = ()
) -> Stop:
    """Start a server, let the storm loose on it, stop it.

    Args:
        name: of the server.
        seed: for the storm.
        host: where it listens.
        round_trip: seconds to that host and back.
        prefix: put before its command.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    command = [part.replace("HOST", host).replace("PORT", str(port)) for part in SERVERS[name]]
    process = subprocess.Popen(
        [*prefix, BIN / command[0], *command[1:]],
        cwd=ROOT,
        # Another user may have no home here.
        env={**os.environ, "HOST": host, "PORT": str(port), "HOME": tempfile.gettempdir()},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    ended = 0.0

    def wait() -> None:
        nonlocal ended
        # With a timeout it would look every 50 ms only.
        process.wait()
        ended = time.monotonic()

    async def stop() -> None:
        process.send_signal(signal.SIGTERM)
        patience = asyncio.get_running_loop().call_later(PATIENCE, process.kill)
        await asyncio.to_thread(wait)
        patience.cancel()

    try:
        await wait_until_ready(name, host, port, process)
        result = await Storm(port, seed, host=host, round_trip=round_trip).run(stop)
    finally:
        process.kill()
        process.wait()
    return Stop(result, ended - result.last_answer, process.returncode)


async def wait_until_ready(name: str, host: str, port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(200):
        if process.poll() is not None:
            raise SystemExit(f"{name}: ended with {process.returncode}")
        connection = http.client.HTTPConnection(host, port, timeout=5)
        try:
            connection.request("GET", "/")
            if connection.getresponse().read() == b"ok":
                return
        except OSError:
            await asyncio.sleep(0.05)
        finally:
            connection.close()
    raise SystemExit(f"{name}: not ready")


def main() -> None:
    name, seed, host, round_trip, *prefix = sys.argv[1:]
    stop = asyncio.run(stop_once(name, int(seed), host, float(round_trip), prefix))
    print(json.dumps(dataclasses.asdict(stop)))


if __name__ == "__main__":
    main()
