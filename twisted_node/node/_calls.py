"""Calls to other nodes: what has been sent, until its reply comes, its time is up, or no reply can come any more."""

from __future__ import annotations

from dataclasses import dataclass

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from twisted_node.errors import ErrorCode, MisuseError, RequestError
from twisted_node.node._handlers import Asker
from twisted_node.node._wire import Body, Message, body_decoder

__all__ = ["Calls"]

_log = Logger()
_decode_body = body_decoder(dict)

#: Seconds until a call fails that no reply can come to: whoever tries for ever must not keep the process busy with it.
_MOMENT = 0.01


@dataclass
class _Call:
    dest: str
    reply: Deferred[Body]
    timer: IDelayedCall


class Calls:
    """The calls of one node that wait for their reply, and the way that replies come.

    Replies are delivered whatever the phase of the drain, so that work in flight which waits for one can end.
    """

    def __init__(self) -> None:
        #: Why no reply can come any more; empty while one can.
        self.ended = ""
        self._route: Asker | None = None
        self._pending: dict[int, _Call] = {}

    def open(self, route: Asker) -> None:
        """Take a connection as the way to other nodes and back."""
        self._route = route

    def end(self, reason: str) -> None:
        """Learn that no reply can come any more: every call fails now, and every later one.

        Args:
            reason: for the error's text.
        """
        self.ended = reason
        pending, self._pending = self._pending, {}
        for call in pending.values():
            call.timer.cancel()
            call.reply.errback(self._no_reply())

    def way(self) -> Asker:
        """Find the way to other nodes.

        Raises:
            MisuseError: there is none.
        """
        if self._route is None:
            raise MisuseError("no way to other nodes: they are reached over standard input and output only")
        return self._route

    def call(self, dest: str, msg_id: int, line: bytes, timeout: float, clock: IReactorTime) -> Deferred[Body]:
        """Send a request, and wait for its reply.

        Args:
            dest: the node that is to reply.
            msg_id: the request's.
            line: the request.
            timeout: seconds.
            clock: for the timeout.

        Returns:
            As :meth:`~twisted_node.node.Node.rpc`.
        """
        reply: Deferred[Body] = Deferred(lambda _: self._take(msg_id).timer.cancel())
        timer = clock.callLater(timeout, self._time_is_up, msg_id, timeout)
        self._pending[msg_id] = _Call(dest, reply, timer)
        self.way().send(line)
        return reply

    def refuse(self, clock: IReactorTime) -> Deferred[Body]:
        """Fail a call that no reply can come to, in a moment."""
        reply: Deferred[Body] = Deferred(lambda _: timer.cancel())
        timer = clock.callLater(_MOMENT, reply.errback, self._no_reply())
        return reply

    def deliver(self, message: Message, asker: Asker) -> None:
        """Give a reply to the call that waits for it, if one does."""
        msg_id = message.in_reply_to
        call = self._pending.get(msg_id) if type(msg_id) is int and asker is self._route else None
        if call is None or call.dest != message.src:
            _log.debug("nothing waits for this reply: {reply.type} from {reply.src}", reply=message)
            return
        self._take(msg_id).timer.cancel()
        try:
            body = _read(message)
        except RequestError as error:
            call.reply.errback(error)
        else:
            call.reply.callback(body)

    def _take(self, msg_id: int) -> _Call:
        return self._pending.pop(msg_id)

    def _time_is_up(self, msg_id: int, timeout: float) -> None:
        call = self._take(msg_id)
        call.reply.errback(RequestError(ErrorCode.TIMEOUT, f"no reply from {call.dest} within {timeout:g} s"))

    def _no_reply(self) -> RequestError:
        return RequestError(ErrorCode.TIMEOUT, f"no reply can come: {self.ended}")


def _read(message: Message) -> Body:
    """Read a reply; an error, or what cannot be read, is raised. Unless it says otherwise, it is indefinite."""
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
