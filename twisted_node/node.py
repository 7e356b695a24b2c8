"""Who we are, who handles which type, and one message in to one answer out.

The checks of a message come in this order: readable (12), a handler (10), initialised (11), draining, too much in
flight (11), fields (12).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import iscoroutine
from typing import Any, TypeVar

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_node import wire
from twisted_node.drain import Drain
from twisted_node.errors import DrainTimeout, ErrorCode, MisuseError, RequestError, UnreadableLine
from twisted_node.handlers import CUT, REFUSED, Asker, Handler, HandlerFunction, Request
from twisted_node.wire import Body, Message

__all__ = ["Node"]

_log = Logger()
_F = TypeVar("_F", bound=HandlerFunction)

#: Unreadable lines are counted, and said at most once in so many seconds: junk must not fill a disk.
_SECONDS_BETWEEN_COMPLAINTS = 5.0


class _Init(msgspec.Struct):
    node_id: str
    node_ids: list[str] = []


class _Refused(Exception):
    """A request came while draining; it is refused in its handler's words."""

    def __init__(self, words: Body) -> None:
        super().__init__(words)
        self.words = words


class Node:
    """A node: its name, its handlers, and the requests on their way through it.

    Make one at any time, register handlers, and hand it to whatever opens connections. ``init`` is handled already.

    Args:
        node_id: its name, if it is known before an ``init`` message tells.
    """

    def __init__(self, node_id: str | None = None) -> None:
        self.node_id = node_id
        #: All nodes of the cluster, as ``init`` named them.
        self.node_ids: tuple[str, ...] = () if node_id is None else (node_id,)
        #: Lines that named nobody to answer.
        self.unreadable_lines = 0
        #: Told of each request of a type with a handler, when it has ended: its type, ``ok``, ``error``, ``refused`` or
        #: ``cut``, and its seconds.
        self.observer: Callable[[str, str, float], object] | None = None
        self._handlers: dict[str, Handler] = {}
        self._next_msg_id = 0
        self._complaint_due = 0.0
        self.handle("init", _Init, while_draining=True, control=True, before_init=True)(self._init)

    def bind(self, drain: Drain, clock: IReactorTime, max_in_flight: int = 100_000) -> None:
        """Give the node what it runs with; called once, before its first line.

        Args:
            drain: holds its requests in flight.
            clock: for what handlers do later.
            max_in_flight: beyond so many, requests are answered temporarily unavailable (11).
        """
        self.drain = drain
        self.clock = clock
        self.max_in_flight = max_in_flight

    def handle(
        self,
        type_: str,
        body_type: type[Any] = dict,
        *,
        while_draining: bool = False,
        control: bool = False,
        before_init: bool = False,
        refused: Body = REFUSED,
        cut: Body = CUT,
    ) -> Callable[[_F], _F]:
        """Register the handler of a type; to be used as a decorator, or called with the function.

        The handler takes a :class:`~twisted_node.handlers.Request` and returns the fields of the reply (a mapping, or
        None for none), or a Deferred or coroutine of them. It raises ``RequestError`` to answer an error; any other
        exception is logged and answered crash (13).

        Args:
            type_: the type of the requests; the reply's is ``<type>_ok``.
            body_type: a ``msgspec.Struct`` with the fields and their ranges, or ``dict`` for plain data.
            while_draining: serve it also while draining, and to the end.
            control: only for standard input and control endpoints; elsewhere it is not supported (10).
            before_init: serve it also before the node has a name.
            refused: the body that refuses it while draining.
            cut: the body that answers it when the deadline cuts it.

        Raises:
            MisuseError: the type has a handler.
        """
        if type_ in self._handlers:
            raise MisuseError(f"type {type_!r} has a handler already")

        def register(function: _F) -> _F:
            self._handlers[type_] = Handler.make(
                type_,
                function,
                body_type,
                while_draining=while_draining,
                control=control,
                before_init=before_init,
                refused=refused,
                cut=cut,
            )
            return function

        return register

    def receive(self, line: bytes, asker: Asker) -> None:
        """Take one line, and see to its answer.

        Args:
            line: one message, without its newline.
            asker: gets the answer, now or later; exactly one if the line is a request.
        """
        try:
            message = wire.decode(line)
        except UnreadableLine as fault:
            self.unreadable(fault, asker)
            return
        if message.in_reply_to is not None:
            return
        try:
            handler = self._admit(message, asker)
            body = handler.decode(message.body)
        except _Refused as refusal:
            self._refuse(message, asker, refusal.words)
            return
        except RequestError as error:
            self._reply_error(message, asker, error)
            if self.observer is not None and message.type in self._handlers:
                self.observer(message.type, "error", 0.0)
            return
        started = 0.0 if self.observer is None else self.drain.monotonic()
        request = Request(message.src, message.dest, message.type or "", message.msg_id, body, asker, started)
        answer: Any
        try:
            answer = handler.function(request)
        except Exception:
            answer = Failure()
        else:
            if iscoroutine(answer):
                answer = Deferred.fromCoroutine(answer)
            if isinstance(answer, Deferred):
                asker.in_flight += 1
                work = self.drain.track(request, answer, while_draining=True)
                work.addBoth(self._finish_later, request, handler)
                return
        if not handler.while_draining:
            self.drain.counts.finished += 1
        self._finish(answer, request, handler)

    def _admit(self, message: Message, asker: Asker) -> Handler:
        """Find the handler of a request, if it may be called now."""
        handler = self._handlers.get(message.type or "")
        if message.fault:
            raise RequestError(ErrorCode.MALFORMED_REQUEST, message.fault)
        if handler is None or (handler.control and not asker.control):
            raise RequestError(ErrorCode.NOT_SUPPORTED, f"type {message.type!r} is not supported here")
        if self.node_id is None and not handler.before_init:
            raise RequestError(ErrorCode.TEMPORARILY_UNAVAILABLE, "not initialised: send init first")
        if not handler.while_draining:
            if self.drain.refusing:
                raise _Refused(handler.refused)
            if self.drain.in_flight >= self.max_in_flight:
                raise RequestError(ErrorCode.TEMPORARILY_UNAVAILABLE, "too many requests in flight")
        if message.msg_id is not None and type(message.msg_id) is not int:
            raise RequestError(ErrorCode.MALFORMED_REQUEST, "msg_id: expected an integer")
        return handler

    def unreadable(self, fault: UnreadableLine, asker: Asker) -> None:
        """Take a line that names nobody to answer: counted, and said where it helps."""
        self.unreadable_lines += 1
        if not asker.routes:
            self.reject(asker, fault)
        now = self.drain.monotonic()
        if now >= self._complaint_due:
            self._complaint_due = now + _SECONDS_BETWEEN_COMPLAINTS
            _log.warn("unreadable line, {count} so far: {fault.text}", count=self.unreadable_lines, fault=fault)

    def reject(self, asker: Asker, error: RequestError) -> None:
        """Say an error to a connection as such, in answer to no request."""
        self._reply_error(Message("", "", None, None, None, msgspec.Raw()), asker, error)

    def _init(self, request: Request[_Init]) -> None:
        if self.node_id not in (None, request.body.node_id):
            raise RequestError(ErrorCode.PRECONDITION_FAILED, f"node_id: this node is {self.node_id}")
        self.node_id = request.body.node_id
        self.node_ids = tuple(request.body.node_ids)

    def _finish_later(self, answer: Any, request: Request[Any], handler: Handler) -> None:
        request.asker.in_flight -= 1
        self._finish(answer, request, handler)

    def _finish(self, answer: Any, request: Request[Any], handler: Handler) -> None:
        """Answer a request with what its handler said, or failed with."""
        if not isinstance(answer, Failure):
            try:
                self._reply(request, request.asker, handler.reply_type, answer or {})
            except (TypeError, ValueError, OverflowError, RecursionError):
                answer = Failure()
        outcome = self._reply_failure(answer, request, handler) if isinstance(answer, Failure) else "ok"
        if self.observer is not None:
            self.observer(request.type, outcome, self.drain.monotonic() - request.started)

    def _reply_failure(self, failure: Failure, request: Request[Any], handler: Handler) -> str:
        if failure.check(DrainTimeout):
            self._reply(request, request.asker, "error", handler.cut)
            return "cut"
        error = failure.value
        if not isinstance(error, RequestError):
            _log.failure("{request} failed", failure, request=request)
            error = RequestError(ErrorCode.CRASH, f"{request.type} failed: {type(error).__name__}")
        self._reply_error(request, request.asker, error)
        return "error"

    def _refuse(self, message: Message, asker: Asker, words: Body) -> None:
        self.drain.counts.refused += 1
        self._reply(message, asker, "error", words)
        if self.observer is not None:
            self.observer(str(message.type), "refused", 0.0)

    def _reply_error(self, to: Message | Request[Any], asker: Asker, error: RequestError) -> None:
        self._reply(to, asker, "error", {"code": error.code, "text": error.text})

    def _reply(self, to: Message | Request[Any], asker: Asker, type_: str, fields: Mapping[str, Any]) -> None:
        """Write one reply; a ``type`` among the fields goes before ``type_``."""
        if asker.gone:
            self.drain.counts.undelivered += 1
            return
        body: Body = {"type": type_}
        if type(to.msg_id) is int:
            body["in_reply_to"] = to.msg_id
        body.update(fields)
        body["msg_id"] = self._next_msg_id
        line = wire.encode(self.node_id or to.dest, to.src, body)
        self._next_msg_id += 1
        asker.send(line)
