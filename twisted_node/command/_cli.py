"""``twisted-node``: asks a node about its drain, to drain, or to restart, through a ``--control`` endpoint."""

from __future__ import annotations

import argparse
import math
import os
import signal
import sys
import time
from collections.abc import Sequence
from typing import Any

import msgspec
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from twisted_node._seconds import read_seconds
from twisted_node.command._control import SECONDS_TO_ANSWER, CannotAsk, Control, Lost, Refused, connect
from twisted_node.command._progress import best_display, table, verdict
from twisted_node.errors import ErrorCode

__all__ = ["CLEAN", "CUT", "INTERRUPTED", "NOT_ASKED", "NOT_REPLACED", "main"]

#: Exit statuses.
CLEAN, CUT, NOT_ASKED, INTERRUPTED = 0, 1, 2, 130
NOT_REPLACED = 1

#: How long a new process may take to be ready.
_SECONDS_TO_BE_READY = 60.0
#: The shortest time between two questions, when the deadline is near.
_LEAST_SECONDS = 0.02


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command.

    Args:
        arguments: by default those of the process.

    Raises:
        SystemExit: always, with the exit status.
    """
    from twisted.internet import reactor

    options = _parser().parse_args(arguments)
    running: Any = reactor
    statuses: list[int] = []
    asking = Deferred.fromCoroutine(_ask(options, running))
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: running.callFromThread(asking.cancel))
    asking.addErrback(_explain, options.command).addCallback(statuses.append)
    asking.addCallback(lambda _: running.callWhenRunning(running.stop))
    running.run(installSignalHandlers=False)
    raise SystemExit(statuses[0])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="twisted-node",
        description="Ask a node about its drain, to drain, or to restart.",
        epilog="Exit status: 0 when all is well, 1 when something was cut or the process was not replaced, 2 when the"
        " node could not be asked, 130 when interrupted, which stops the watching and not the drain or the restart.",
    )
    where = argparse.ArgumentParser(add_help=False)
    where.add_argument("endpoint", metavar="ENDPOINT", help="a --control endpoint, say tcp:localhost:7001")
    commands = parser.add_subparsers(dest="command", required=True, metavar="status|drain|restart")
    status = commands.add_parser("status", parents=[where], help="say how a node is")
    status.add_argument("--json", action="store_true", help="as JSON")
    drain = commands.add_parser("drain", parents=[where], help="ask a node to drain, and watch")
    drain.add_argument("--timeout", type=_seconds, metavar="SECONDS", help="until what is left is cut")
    restart = commands.add_parser("restart", parents=[where], help="have a new process take a node's place, and wait")
    restart.add_argument(
        "--timeout",
        type=_seconds,
        default=_SECONDS_TO_BE_READY,
        metavar="SECONDS",
        help="until the new process is killed if it is not ready (%(default)g)",
    )
    return parser


def _seconds(text: str) -> float:
    try:
        return read_seconds(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


async def _ask(options: argparse.Namespace, reactor: Any) -> int:
    node = await connect(options.endpoint, reactor)
    try:
        if options.command == "drain":
            return await _drain(node, options.timeout, reactor)
        if options.command == "restart":
            return await _restart(node, options.timeout)
        picture = await node.picture()
        print(msgspec.json.encode(picture).decode() if options.json else table(picture))
        return CLEAN
    finally:
        # The node keeps the connection that asked for the drain until it is closed.
        node.transport.loseConnection()


async def _drain(node: Control, timeout: float | None, reactor: Any) -> int:
    await node.ask("tcp_shutdown", {} if timeout is None else {"drain_timeout_ms": timeout * 1000})
    display = best_display()
    deadline = math.inf
    try:
        picture = await node.picture()
        while picture.left_ms is not None:
            display.show(picture)
            left = picture.left_ms / 1000
            deadline = time.monotonic() + left
            # Not later than the deadline: the node closes this connection soon after it.
            await deferLater(reactor, max(_LEAST_SECONDS, min(display.seconds, left)))
            picture = await node.picture()
    except Lost:
        if time.monotonic() < deadline:
            raise
        display.close()
        # One of the connections is this one.
        what = f"{picture.remaining} in flight" if picture.remaining else f"{picture.connections - 1} others open"
        print(f"the node closed the connection at its deadline, with {what} the moment before")
        return CUT
    finally:
        display.close()
    print(verdict(picture))
    return CUT if picture.cut else CLEAN


async def _restart(node: Control, timeout: float) -> int:
    # Whoever answers this is a node, lives, and lets us control it: after that it may take its time.
    picture = await node.picture()
    fields = {"ready_timeout_ms": timeout * 1000}
    try:
        answer = await node.ask("restart", fields, timeout + SECONDS_TO_ANSWER)
    except Refused as refusal:
        if refusal.code == ErrorCode.NOT_SUPPORTED:
            raise CannotAsk(
                f"the node (version {picture.version}) cannot be replaced by a message yet: stop it, and start the new"
                " one"
            ) from None
        if refusal.code == ErrorCode.MALFORMED_REQUEST:
            raise
        print(f"twisted-node: not replaced: {refusal.text}", file=sys.stderr)
        return NOT_REPLACED
    print(f"process {answer.get('pid')} has taken the place of process {picture.pid}")
    return CLEAN


def _explain(failure: Failure, command: str) -> int:
    if failure.check(CancelledError):
        print(f"interrupted; a {'restart' if command == 'restart' else 'drain'} goes on", file=sys.stderr)
        return INTERRUPTED
    if failure.check(BrokenPipeError):
        # The reader of our output has gone; the drain or the restart goes on. Python flushes standard output when it
        # exits, which must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return INTERRUPTED
    print(f"twisted-node: {failure.getErrorMessage()}", file=sys.stderr)
    return NOT_ASKED
