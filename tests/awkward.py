"""The node with handlers that misbehave, for tests that run it as a process.

``python -m tests.awkward`` runs it; it also is the module of a twistd plugin, which ``awkward_runners`` writes. What it
does besides at its start is named by the environment variable ``AWKWARD``.
"""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import sys
import threading
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

from twisted.application.service import IService
from twisted.internet import reactor as _reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.threads import deferToThread
from twisted.python.monkey import MonkeyPatcher

from tests.support import BIN, ROOT
from twisted_node import Node, Request, __main__, tap
from twisted_node.tap import Options
from twisted_node.workload import answer_requests

__all__ = ["Options", "awkward_environment", "awkward_runners", "makeService"]

reactor: Any = _reactor
_make_service = tap.makeService

_PLUGIN = """\
from twisted.application.service import ServiceMaker
awkward = ServiceMaker("Awkward", "tests.awkward", "A node that misbehaves.", "awkward")
"""


def awkward_runners(folder: Path) -> dict[str, list[str]]:
    """The ways to start it, with ``awkward_environment(folder)``; writes its plugin into the folder."""
    plugins = folder / "twisted" / "plugins"
    plugins.mkdir(parents=True)
    (plugins / "awkward_plugin.py").write_text(_PLUGIN)
    return {
        "python": [sys.executable, "-m", "tests.awkward"],
        "twistd": [str(BIN / "twistd"), "-n", "--pidfile=", "awkward"],
        "twist": [str(BIN / "twist"), "--log-format=text", "awkward"],
    }


def awkward_environment(folder: Path, start: str = "") -> dict[str, str]:
    """The environment that it needs."""
    return {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}", "AWKWARD": start}


def _add_handlers(node: Node) -> None:
    @node.handle("print")
    def print_everywhere(request: Request[dict[str, Any]]) -> dict[str, Any]:
        """Write wherever standard output might be, and read where standard input might be."""
        print("by print", flush=True)  # noqa: T201 - the point of it
        assert sys.__stdout__ is not None
        sys.__stdout__.write("by __stdout__\n")
        sys.__stdout__.flush()
        os.write(1, b"by descriptor\n")
        subprocess.run(["echo", "by child"], check=True)
        warnings.warn("by warning", stacklevel=1)
        return {"read": os.read(0, 100).decode()}

    @node.handle("log")
    def write_a_lot(request: Request[dict[str, Any]]) -> None:
        """Write a long line to standard error, past any log."""
        os.write(2, b"logged %d %s\n" % (request.msg_id or 0, b"x" * 1000))

    @node.handle("stubborn")
    async def ignore_cancellation(request: Request[dict[str, Any]]) -> None:
        """Never end."""
        os.write(2, b"stubborn began\n")
        while True:
            with suppress(CancelledError):
                await Deferred[None]()

    @node.handle("thread")
    def block_a_thread(request: Request[dict[str, Any]]) -> Deferred[bool]:
        """Keep a thread of the reactor's pool for ever."""
        os.write(2, b"thread began\n")
        return deferToThread(threading.Event().wait)

    @node.handle("busy")
    def block_the_reactor(request: Request[dict[str, Any]]) -> None:
        """Keep the reactor for ever."""
        os.write(2, b"busy began\n")
        while True:
            pass


def makeService(options: Options) -> IService:
    """Make the node's own service, with those handlers."""

    def answer_awkwardly(node: Node) -> None:
        answer_requests(node)
        _add_handlers(node)

    patched = MonkeyPatcher((tap, "answer_requests", answer_awkwardly))
    service: IService = patched.runWithPatches(_make_service, options)
    atexit.register(os.write, 2, b"an exit hook ran\n")
    if start := os.environ["AWKWARD"]:
        _STARTS[start]()
    return service


def _signal() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


_STARTS = {
    "signal before the reactor": _signal,
    # Added after the reactor's own, this finds Twisted's handlers installed, and not ours yet.
    "signal to Twisted's handlers": lambda: reactor.addSystemEventTrigger("during", "startup", _signal),
    "signal once running": lambda: reactor.callWhenRunning(_signal),
    "stop once running": lambda: reactor.callWhenRunning(reactor.stop),
}


if __name__ == "__main__":
    tap.makeService = makeService
    __main__.main()
