"""From a line to its answer, in two ways: a short one for plain requests, and a long one for any line.

The checks of a message come in this order: readable (12), a handler (10), initialised (11), draining, too much in
flight (11), fields (12).
"""

from __future__ import annotations

from collections.abc import Sequence
from inspect import iscoroutine
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_node.drain import Drain
from twisted_node.errors import DrainTimeout, ErrorCode, RequestError
from twisted_node.node import _wire as wire
from twisted_node.node._calls import Calls
from twisted_node.node._handlers import Asker, Fixed, Handler, Request
from twisted_node.node._identity import Identity
from twisted_node.node._monitoring import Monitoring
from twisted_node.node._outgoing import Outgoing
from twisted_node.node._own_work import OwnWork
from twisted_node.node._registry import Registry
from twisted_node.node._wire import Message, UnreadableLine

__all__ = ["Requests"]

_log = Logger()


class Requests:
    """The requests to a node, its calls to other nodes, and its own work: all that needs the drain.

    This is what the connections of a node hold; programs hold the ``Node``.

    Args:
        identity: who the node is.
        registry: its handlers.
        monitoring: is told of each request that has ended, and of unreadable lines.
        own_work: what it does of its own accord.
        drain: holds the requests in flight, and has the clock.
        max_in_flight: how many requests may be in flight; further ones are answered temporarily unavailable (11).
    """

    def __init__(
        self,
        identity: Identity,
        registry: Registry,
        monitoring: Monitoring,
        own_work: OwnWork,
        drain: Drain,
        *,
        max_in_flight: int,
    ) -> None:
        self.drain = drain
        self.outgoing = Outgoing(identity, drain)
        self.calls = Calls(self.outgoing, drain.clock)
        self._identity = identity
        self._registry = registry
        self._monitoring = monitoring
        self._own_work = own_work
        self._max_in_flight = max_in_flight
        self._work = drain.work

    def start_own_work(self) -> None:
        """Begin the node's own work if it has its name; called when it begins to listen, and after ``init``."""
        if self._identity.node_id is not None:
            self._own_work.start(self.drain)

    def receive_lines(self, lines: bytes, asker: Asker) -> None:
        """Process whole lines; the result is the same as of :meth:`receive` for each of them.

        Args:
            lines: messages, each with its newline.
            asker: as in :meth:`receive`.
        """
        separate = lines.split(b"\n")
        del separate[-1]
        for line in self._serve_plain(separate, asker):
            self.receive(line, asker)

    def receive(self, line: bytes, asker: Asker) -> None:
        """Process one line, whatever it is.

        Args:
            line: one message, without its newline.
            asker: gets the answer, now or later; exactly one if the line is a request.
        """
        try:
            message = wire.decode(line)
        except UnreadableLine as fault:
            self.unreadable(fault, asker)
            return
        # Another node's error is a reply even without in_reply_to: two nodes would answer each other's errors for ever.
        if message.in_reply_to is not None or (message.type == "error" and asker.routes):
            self.calls.deliver(message, asker)
            return
        try:
            handler = self._find_handler(message, asker)
            if self.drain.refusing and not handler.while_draining:
                self.drain.count_refused()
                self.outgoing.reply(message, asker, "error", handler.refused)
                self._monitoring.ended(handler.type, "refused", 0.0)
                return
            body = self._read_body(message, handler)
        except RequestError as error:
            self.outgoing.error(message, asker, error)
            if message.type in self._registry.handlers:
                self._monitoring.ended(message.type, "error", 0.0)
            return
        started = 0.0 if self._monitoring.observer is None else self.drain.monotonic()
        request = Request(message.src, message.dest, handler.type, message.msg_id, body, asker, started)
        self._answer(_call(handler, request), request, handler)
        if handler.before_init:
            self.start_own_work()

    def unreadable(self, fault: UnreadableLine, asker: Asker) -> None:
        """Process a line that does not say whom to answer."""
        self._monitoring.unreadable(fault, self.drain.monotonic())
        # Several nodes may send through a connection that routes: none of them can be told.
        if not asker.routes:
            self.complain(asker, fault)

    def complain(self, asker: Asker, error: RequestError) -> None:
        """Send an error to a connection as such, in answer to no request."""
        self.outgoing.error(Message("", "", None, None, None, msgspec.Raw()), asker, error)

    def _serve_plain(self, lines: list[bytes], asker: Asker) -> Sequence[bytes]:
        """Process lines that are all plain requests, in a quarter of the time that :meth:`receive` takes.

        Returns:
            The lines that were not processed; they are left to :meth:`receive`.
        """
        # A plain request that can be decoded has passed all checks but three: name, drain, and number in flight. The
        # last two are looked at before each request, since each handler may have changed them.
        # TwoWaysTests.test_two_ways_are_equal asserts that this way and receive() give the same results.
        drain, phase = self.drain, self.drain.phase
        work, max_in_flight = self._work, self._max_in_flight
        if drain.refusing or self._identity.node_id is None or len(work) >= max_in_flight or asker.gone:
            return lines
        decode = self._registry.decode_plain or self._registry.make_plain_decoder()
        try:
            # All at once: decoding each line in the loop below takes 0.1 microseconds more for each.
            messages = [*map(decode, lines)]
        except wire.UNDECODABLE:
            return lines
        fixed_reply, observer = self.outgoing.fixed_reply, self._monitoring.observer
        started = 0.0 if observer is None else drain.monotonic()
        for position, message in enumerate(messages):
            if drain.phase is not phase or (work and len(work) >= max_in_flight):
                return lines[position:]
            src, body = message.src, message.body
            msg_id, handler = body.msg_id, body.handler_
            request = Request(src, message.dest, handler.type, msg_id, body, asker, started)
            # The most frequent case is written out here; calling methods for it takes 0.3 microseconds more.
            try:
                answer: Any = handler.function(request)
                if type(answer) is Fixed:
                    fixed_reply(src, msg_id, asker, handler.reply_type, answer)
                    drain.count_finished()
                    if observer is not None:
                        self._monitoring.ended(handler.type, "ok", drain.monotonic() - started)
                    continue
            except BaseException:
                answer = Failure()
            self._answer(answer, request, handler)
        return ()

    def _find_handler(self, message: Message, asker: Asker) -> Handler:
        """Find the handler of a request, if there is one for this asker."""
        handler = self._registry.handlers.get(message.type or "")
        if message.fault:
            raise RequestError(ErrorCode.MALFORMED_REQUEST, message.fault)
        if handler is None or (handler.control and not asker.control):
            where = "" if handler is None else ": a --control endpoint takes it"
            raise RequestError(ErrorCode.NOT_SUPPORTED, f"type {message.type!r:.100} is not supported here{where}")
        if self._identity.node_id is None and not handler.before_init:
            raise RequestError(ErrorCode.TEMPORARILY_UNAVAILABLE, "not initialised: send init first")
        return handler

    def _read_body(self, message: Message, handler: Handler) -> Any:
        """Decode the body of a request, if another request may be in flight."""
        if not handler.while_draining and self.drain.in_flight >= self._max_in_flight:
            raise RequestError(ErrorCode.TEMPORARILY_UNAVAILABLE, "too many requests in flight")
        if message.msg_id is not None and type(message.msg_id) is not int:
            raise RequestError(ErrorCode.MALFORMED_REQUEST, "msg_id: expected an integer")
        return handler.decode(message.body)

    # Common to both ways: from what a handler returned to the answer.

    def _answer(self, answer: Any, request: Request[Any], handler: Handler) -> None:
        """Answer a request with what its handler returned, now or later."""
        if iscoroutine(answer):
            answer = Deferred.fromCoroutine(answer)
        if isinstance(answer, Deferred):
            request.asker.request_began()
            work = self.drain.track(request, answer, while_draining=True)
            work.addBoth(self._finish_later, request, handler)
            return
        if not handler.while_draining:
            self.drain.count_finished()
        self._finish(answer, request, handler)

    def _finish_later(self, answer: Any, request: Request[Any], handler: Handler) -> None:
        request.asker.request_ended()
        self._finish(answer, request, handler)

    def _finish(self, answer: Any, request: Request[Any], handler: Handler) -> None:
        """Answer a request with what its handler returned, or with its failure."""
        outcome = "ok"
        if not isinstance(answer, Failure):
            try:
                self.outgoing.reply(request, request.asker, handler.reply_type, answer or {})
            except wire.UNENCODABLE:
                answer = Failure()
        if isinstance(answer, Failure):
            outcome = self._fail(request, handler, answer)
        if self._monitoring.observer is not None:
            self._monitoring.ended(request.type, outcome, self.drain.monotonic() - request.started)

    def _fail(self, request: Request[Any], handler: Handler, failure: Failure) -> str:
        """Answer a request that failed; return the outcome, ``cut`` or ``error``."""
        error = failure.value
        if isinstance(error, DrainTimeout):
            self.outgoing.reply(request, request.asker, "error", handler.cut)
            return "cut"
        if not isinstance(error, RequestError):
            _log.failure("{request} failed", failure, request=request)
            error = RequestError(ErrorCode.CRASH, f"{request.type} failed: {type(error).__name__}")
        self.outgoing.error(request, request.asker, error)
        return "error"


def _call(handler: Handler, request: Request[Any]) -> Any:
    """Call a handler; return what it returns, or its failure."""
    try:
        return handler.function(request)
    except BaseException:
        # SystemExit too, as in any callback of Twisted: it would also cost other requests their answers.
        return Failure()
