"""A connection to a ``--control`` endpoint of a node, which is asked one thing at a time."""

from __future__ import annotations

import json
import os
from typing import Any

import msgspec
from twisted.internet import defer
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import clientFromString
from twisted.internet.protocol import Factory, connectionDone
from twisted.protocols.basic import LineOnlyReceiver
from twisted.python.failure import Failure

from twisted_node.command._endpoint_errors import explain
from twisted_node.command._endpoints import split_endpoint
from twisted_node.errors import NodeError
from twisted_node.names import printable
from twisted_node.server import Picture

__all__ = ["SECONDS_TO_ANSWER", "CannotAsk", "Control", "Lost", "Refused", "connect"]

#: How long a node may take to answer.
SECONDS_TO_ANSWER = 10.0
_CLOSED = "the node closed the connection before it had answered"


class CannotAsk(NodeError):
    """The node could not be asked, or its answer was not understood."""


class Lost(CannotAsk):
    """The node closed the connection before it had answered."""


class Refused(CannotAsk):
    """The node answered an error.

    Args:
        code: of the error; None if it has none.
        text: why, printable.
    """

    def __init__(self, code: object, text: str) -> None:
        super().__init__(f"the node refuses: {text}")
        self.code = code
        self.text = text


class Control(LineOnlyReceiver):
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
            raise CannotAsk(f"the node's answer makes no sense: {error}") from None

    async def ask(self, type_: str, fields: dict[str, Any], seconds: float = SECONDS_TO_ANSWER) -> dict[str, Any]:
        """Send a request.

        Args:
            type_: of the request.
            fields: the other fields of its body.
            seconds: how long the answer may take.

        Returns:
            The body of the answer.
        """
        if self._lost:
            raise Lost(_CLOSED)
        body = {"type": type_, "msg_id": 1, **fields}
        self._waiting = Deferred()
        self.sendLine(json.dumps({"src": f"twisted-node-{os.getpid()}", "dest": "", "body": body}).encode())
        try:
            line = await self._waiting.addTimeout(seconds, self._reactor)
            answer: dict[str, Any] = json.loads(line)["body"]
            kind = answer["type"]
        except defer.TimeoutError:
            raise CannotAsk(f"the node has not answered for {seconds:g} s") from None
        except (ValueError, LookupError, TypeError):
            raise CannotAsk("what answers is no node") from None
        if kind != f"{type_}_ok":
            raise Refused(answer.get("code"), printable(str(answer.get("text", kind))))
        return answer

    def lineReceived(self, line: bytes) -> None:
        """Receive an answer."""
        if not self._waiting.called:
            self._waiting.callback(line)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Fail the question that waits for its answer."""
        self._lost = True
        if not self._waiting.called:
            self._waiting.errback(Lost(_CLOSED))


async def connect(description: str, reactor: Any) -> Control:
    """Connect to a node.

    Args:
        description: a client endpoint.
        reactor: connects.

    Raises:
        CannotAsk: nobody is there, or the description is none; with one line that says why.
    """
    try:
        endpoint: Any = clientFromString(reactor, description)
        factory = Factory.forProtocol(lambda: Control(reactor))
        connecting: Deferred[Control] = endpoint.connect(factory)
        return await connecting.addTimeout(SECONDS_TO_ANSWER, reactor)
    except Exception as error:
        raise CannotAsk(f"{description}: {explain(error, split_endpoint(description), client=True)}") from None
