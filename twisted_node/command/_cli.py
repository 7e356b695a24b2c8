"""``twisted-node``: asks a node about its drain, or to drain, through a ``--control`` endpoint."""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import sys
import time
from collections.abc import Sequence
from typing import Any

import msgspec
from twisted.internet import defer
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import clientFromString
from twisted.internet.protocol import Factory, connectionDone
from twisted.internet.task import deferLater
from twisted.protocols.basic import LineOnlyReceiver
from twisted.python.failure import Failure

from twisted_node._seconds import read_seconds
from twisted_node.command._endpoint_errors import explain
from twisted_node.command._endpoints import split_endpoint
from twisted_node.command._progress import best_display, table, verdict
from twisted_node.errors import NodeError
from twisted_node.names import printable
from twisted_node.server import Picture

__all__ = ["CLEAN", "CUT", "INTERRUPTED", "NOT_ASKED", "main"]

#: Exit statuses.
CLEAN, CUT, NOT_ASKED, INTERRUPTED = 0, 1, 2, 130

#: How long a node may take to answer.
_SECONDS_TO_ANSWER = 10.0
_CLOSED = "the node closed the connection before it had answered"
#: The shortest time between two questions, when the deadline is near.
_LEAST_SECONDS = 0.02


class _CannotAsk(NodeError):
    """The node could not be asked, or its answer was not understood."""


class _Lost(_CannotAsk):
    """The node closed the connection before it had answered."""


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
    asking.addErrback(_explain).addCallback(statuses.append)
    asking.addCallback(lambda _: running.callWhenRunning(running.stop))
    running.run(installSignalHandlers=False)
    raise SystemExit(statuses[0])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="twisted-node",
        description="Ask a node about its drain, or to drain.",
        epilog="Exit status: 0 when all is well, 1 when something was cut, 2 when the node could not be asked, 130 when"
        " interrupted, which stops the watching and not the drain.",
    )
    where = argparse.ArgumentParser(add_help=False)
    where.add_argument("endpoint", metavar="ENDPOINT", help="a --control endpoint, say tcp:localhost:7001")
    commands = parser.add_subparsers(dest="command", required=True, metavar="status|drain")
    status = commands.add_parser("status", parents=[where], help="say how a node is")
    status.add_argument("--json", action="store_true", help="as JSON")
    drain = commands.add_parser("drain", parents=[where], help="ask a node to drain, and watch")
    drain.add_argument("--timeout", type=_seconds, metavar="SECONDS", help="until what is left is cut")
    return parser


def _seconds(text: str) -> float:
    try:
        return read_seconds(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


async def _ask(options: argparse.Namespace, reactor: Any) -> int:
    node = await _connect(options.endpoint, reactor)
    try:
        if options.command == "drain":
            return await _drain(node, options.timeout, reactor)
        picture = await node.picture()
        print(msgspec.json.encode(picture).decode() if options.json else table(picture))
        return CLEAN
    finally:
        # The node keeps the connection that asked for the drain until it is closed.
        node.transport.loseConnection()


async def _drain(node: _Control, timeout: float | None, reactor: Any) -> int:
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
    except _Lost:
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


async def _connect(description: str, reactor: Any) -> _Control:
    try:
        endpoint: Any = clientFromString(reactor, description)
        factory = Factory.forProtocol(lambda: _Control(reactor))
        connecting: Deferred[_Control] = endpoint.connect(factory)
        return await connecting.addTimeout(_SECONDS_TO_ANSWER, reactor)
    except Exception as error:
        raise _CannotAsk(f"{description}: {explain(error, split_endpoint(description), client=True)}") from None


class _Control(LineOnlyReceiver):
    """A connection to a node, which is asked one thing at a time."""

    delimiter = b"\n"
    MAX_LENGTH = 1 << 20
    transport: Any

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._waiting: Deferred[bytes] = Deferred()
        self._lost = False

    async def picture(self) -> Picture:
        """Ask for the state of the node."""
        try:
            return msgspec.convert(await self.ask("statistics", {}), Picture)
        except msgspec.ValidationError as error:
            raise _CannotAsk(f"the node's answer makes no sense: {error}") from None

    async def ask(self, type_: str, fields: dict[str, Any]) -> dict[str, Any]:
        """Send a request.

        Args:
            type_: of the request.
            fields: the other fields of its body.

        Returns:
            The body of the answer.
        """
        if self._lost:
            raise _Lost(_CLOSED)
        body = {"type": type_, "msg_id": 1, **fields}
        self._waiting = Deferred()
        self.sendLine(json.dumps({"src": f"twisted-node-{os.getpid()}", "dest": "", "body": body}).encode())
        try:
            line = await self._waiting.addTimeout(_SECONDS_TO_ANSWER, self._reactor)
            answer: dict[str, Any] = json.loads(line)["body"]
            kind = answer["type"]
        except defer.TimeoutError:
            raise _CannotAsk(f"the node has not answered for {_SECONDS_TO_ANSWER:g} s") from None
        except (ValueError, LookupError, TypeError):
            raise _CannotAsk("what answers is no node") from None
        if kind != f"{type_}_ok":
            text = printable(str(answer.get("text", kind)))
            raise _CannotAsk(f"the node refuses: {text}")
        return answer

    def lineReceived(self, line: bytes) -> None:
        """Receive an answer."""
        if not self._waiting.called:
            self._waiting.callback(line)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Fail the question that waits for its answer."""
        self._lost = True
        if not self._waiting.called:
            self._waiting.errback(_Lost(_CLOSED))


def _explain(failure: Failure) -> int:
    if failure.check(CancelledError):
        print("interrupted; a drain goes on", file=sys.stderr)
        return INTERRUPTED
    if failure.check(BrokenPipeError):
        # The reader of our output has gone; the drain goes on. Python flushes standard output when it exits, which
        # must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return INTERRUPTED
    print(f"twisted-node: {failure.getErrorMessage()}", file=sys.stderr)
    return NOT_ASKED
