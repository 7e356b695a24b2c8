"""A node whose handlers misbehave, for tests that run it as a process with ``AWKWARDLY``.

What it does besides at its start is named by the environment variable ``AWKWARD``.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import subprocess
import sys
import threading
import warnings
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.threads import deferToThread

from twisted_node import Node, Request
from twisted_node.node._workload import answer_requests

__all__ = ["node"]

reactor: Any = _reactor

node = Node()
answer_requests(node)


@node.handle("print")
def print_everywhere(request: Request[dict[str, Any]]) -> dict[str, Any]:
    """Write wherever standard output might be, and read where standard input might be."""
    print("by print", flush=True)
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
        with contextlib.suppress(CancelledError):
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


def _signal() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


_STARTS = {
    "": lambda: None,
    "signal before the reactor": lambda: reactor.addSystemEventTrigger("before", "startup", _signal),
    # Added after the reactor's own, this finds Twisted's handlers installed, and not ours yet.
    "signal to Twisted's handlers": lambda: reactor.addSystemEventTrigger("during", "startup", _signal),
    "signal once running": lambda: reactor.callWhenRunning(_signal),
    "stop once running": lambda: reactor.callWhenRunning(reactor.stop),
}
_STARTS[os.environ["AWKWARD"]]()
atexit.register(os.write, 2, b"an exit hook ran\n")
