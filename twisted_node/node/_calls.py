"""Messages to other nodes, and the calls that wait for their reply."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from twisted_node._seconds import check_seconds
from twisted_node.errors import ErrorCode, MisuseError, RequestError
from twisted_node.node._handlers import Asker
from twisted_node.node._outgoing import Outgoing
from twisted_node.node._wire import Body, Message, body_decoder

__all__ = ["Calls"]

_log = Logger()
_decode_body = body_decoder(dict)

#: Seconds until a call fails for which no reply can come. If it failed at once, a handler that tries again without end
#: would keep the process from doing anything else.
_SECONDS_UNTIL_FAILED = 0.01


@dataclass
class _Call:
    dest: str
    reply: Deferred[Body]
    timer: IDelayedCall


class Calls:
    """The calls of one node.

    Replies are delivered in every phase of the drain, so that work in flight which waits for one can end.

    Args:
        outgoing: numbers and encodes the messages.
        clock: for timeouts.
    """

    def __init__(self, outgoing: Outgoing, clock: IReactorTime) -> None:
        self._outgoing = outgoing
        self._clock = clock
        self._route: Asker | None = None
        # Why no reply can come any more; empty while one can.
        self._ended = ""
        self._pending: dict[int, _Call] = {}

    def open(self, route: Asker) -> None:
        """Reach other nodes through a connection from now on."""
        self._route = route

    def end(self, reason: str) -> None:
        """Let every pending and every later call fail, because no reply can come any more.

        Args:
            reason: for the error's text.
        """
        self._ended = reason
        pending, self._pending = self._pending, {}
        for call in pending.values():
            call.timer.cancel()
            call.reply.errback(self._no_reply())

    def send(self, dest: str, body: Mapping[str, Any]) -> None:
        """Send a message to another node; as :meth:`~twisted_node.node.Node.send`."""
        route = self._find_route()
        route.send(self._outgoing.message(dest, body)[1])

    def rpc(self, dest: str, body: Mapping[str, Any], timeout: float) -> Deferred[Body]:
        """Send a request to another node; as :meth:`~twisted_node.node.Node.rpc`."""
        check_seconds("timeout", timeout)
        route = self._find_route()
        if self._ended:
            return self._fail_soon()
        msg_id, line = self._outgoing.message(dest, body)
        reply: Deferred[Body] = Deferred(lambda _: self._pending.pop(msg_id).timer.cancel())
        timer = self._clock.callLater(timeout, self._time_out, msg_id, timeout)
        self._pending[msg_id] = _Call(dest, reply, timer)
        route.send(line)
        return reply

    def deliver(self, message: Message, asker: Asker) -> None:
        """Give a reply to the call that waits for it, if there is one.

        Args:
            message: the reply.
            asker: where it came from.
        """
        msg_id = message.in_reply_to
        call = self._pending.get(msg_id) if type(msg_id) is int and asker is self._route else None
        if call is None or call.dest != message.src:
            _log.debug("nothing waits for this reply: {reply.type} from {reply.src}", reply=message)
            return
        self._pending.pop(msg_id).timer.cancel()
        try:
            body = _read(message)
        except RequestError as error:
            call.reply.errback(error)
        else:
            call.reply.callback(body)

    def _find_route(self) -> Asker:
        if self._route is None:
            raise MisuseError("no way to other nodes: they are reached over standard input and output only")
        return self._route

    def _fail_soon(self) -> Deferred[Body]:
        reply: Deferred[Body] = Deferred(lambda _: timer.cancel())
        timer = self._clock.callLater(_SECONDS_UNTIL_FAILED, reply.errback, self._no_reply())
        return reply

    def _time_out(self, msg_id: int, timeout: float) -> None:
        call = self._pending.pop(msg_id)
        call.reply.errback(RequestError(ErrorCode.TIMEOUT, f"no reply from {call.dest} within {timeout:g} s"))

    def _no_reply(self) -> RequestError:
        return RequestError(ErrorCode.TIMEOUT, f"no reply can come: {self._ended}")


def _read(message: Message) -> Body:
    """Return the body of a reply.

    Raises:
        RequestError: it is an error, with the code that it has; crash (13), which is indefinite, if it has none or if
            the reply cannot be read.
    """
    try:
        body: Body = _decode_body(message.body)
    except RequestError as error:
        raise RequestError(ErrorCode.CRASH, f"malformed reply from {message.src}: {error.text}") from None
    if message.fault:
        raise RequestError(ErrorCode.CRASH, f"malformed reply from {message.src}: {message.fault}")
    if message.type == "error":
        code = body.get("code")
        raise RequestError(code if type(code) is int else ErrorCode.CRASH, str(body.get("text", "")))
    return body
