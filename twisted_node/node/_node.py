"""Who we are, who handles which type, and one message in to one answer out.

The checks of a message come in this order: readable (12), a handler (10), initialised (11), draining, too much in
flight (11), fields (12).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import iscoroutine
from typing import Annotated, Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_node._seconds import check_seconds
from twisted_node.drain import Drain
from twisted_node.errors import ErrorCode, RequestError, UnreadableLine
from twisted_node.node import _wire as wire
from twisted_node.node._calls import Calls
from twisted_node.node._handlers import Asker, Fixed, Handler, Request
from twisted_node.node._outgoing import Outgoing
from twisted_node.node._registry import Registry
from twisted_node.node._wire import Body, Message

__all__ = ["Node"]

_log = Logger()

#: Unreadable lines are counted, and said at most once in so many seconds: junk must not fill a disk.
_SECONDS_BETWEEN_COMPLAINTS = 5.0


class _Init(msgspec.Struct):
    node_id: Annotated[str, msgspec.Meta(min_length=1)]
    node_ids: list[str] = []


class Node(Registry):
    """A node: its name, what it was told to do, the requests on their way through it, and its calls to other nodes.

    Make one at any time, register handlers, and hand it to :func:`twisted_node.run`, to ``--app``, or to a
    ``NodeFactory``. ``init`` is handled already.

    Args:
        node_id: its name, if it is known before an ``init`` message tells.
    """

    #: What it runs with, once it was bound.
    drain: Drain
    clock: IReactorTime
    max_in_flight: int

    def __init__(self, node_id: str | None = None) -> None:
        super().__init__()
        #: All nodes of the cluster, as ``init`` named them.
        self.node_ids: tuple[str, ...] = () if node_id is None else (node_id,)
        #: Lines that named nobody to answer.
        self.unreadable_lines = 0
        #: Told of each request that ended and has a handler: type, ``ok``, ``error``, ``refused`` or ``cut``, seconds.
        self.observer: Callable[[str, str, float], object] | None = None
        #: Its calls to other nodes, for whatever opens the way to them.
        self.calls = Calls()
        self._outgoing = Outgoing(node_id)
        self._complaint_due = 0.0
        self.handle("init", _Init, while_draining=True, control=True, before_init=True)(self._init)

    @property
    def node_id(self) -> str | None:
        """The node's name; None until it is known."""
        return self._outgoing.name

    @node_id.setter
    def node_id(self, name: str | None) -> None:
        self._outgoing.rename(name)

    def bind(self, drain: Drain, max_in_flight: int = 100_000) -> None:
        """Give the node what it runs with; called once, before its first line.

        Args:
            drain: holds its requests in flight, and has the clock.
            max_in_flight: beyond so many, requests are answered temporarily unavailable (11).
        """
        self.drain = drain
        self._outgoing.count_undelivered = drain.count_undelivered
        self.clock = drain.clock
        self.max_in_flight = max_in_flight

    def start(self) -> None:
        """Begin the node's own work if it has its name; called when it begins to listen, and after ``init``."""
        if self.node_id is not None:
            self._start(self.drain, self.clock)

    def send(self, dest: str, body: Mapping[str, Any]) -> None:
        """Send a message to another node, and forget it: a reply to it is dropped.

        Args:
            dest: the other node.
            body: its ``type`` and its fields; ``msg_id`` is set here.

        Raises:
            MisuseError: there is no way to other nodes, the node has no name yet, or the body no ``type``.
            TypeError, ValueError: the body holds something that JSON cannot say.
        """
        self.calls.way().send(self._outgoing.call(dest, body)[1])

    def rpc(self, dest: str, body: Mapping[str, Any], timeout: float = 1.0) -> Deferred[Body]:
        """Send a request to another node, and wait for its reply, in every phase of the drain.

        Args:
            dest: the other node, or a service such as ``lin-kv``.
            body: the ``type`` and the fields of the request; ``msg_id`` is set here.
            timeout: seconds.

        Returns:
            Fires with the body of the reply. Fails with ``RequestError``: with the code of an error that was replied;
            timeout (0) if no reply came in time, or can come any more; crash (13) if the reply is malformed. Cancel it
            to wait no longer.

        Raises:
            MisuseError, TypeError, ValueError: as :meth:`send`; and ``timeout`` is no number of seconds from 0.
        """
        check_seconds("timeout", timeout)
        self.calls.way()
        if self.calls.ended:
            return self.calls.refuse(self.clock)
        return self.calls.call(dest, *self._outgoing.call(dest, body), timeout, self.clock)

    def receive_lines(self, lines: bytes, asker: Asker) -> None:
        """Take whole lines, and see to their answers.

        Args:
            lines: messages, each with its newline.
            asker: as in :meth:`receive`.
        """
        separate = lines.split(b"\n")
        del separate[-1]
        done = self._receive_plain(separate, asker)
        if done is not None:
            for line in separate[done:]:
                self.receive(line, asker)

    def _receive_plain(self, lines: list[bytes], asker: Asker) -> int | None:
        """Serve lines that are all plain requests: the way of most, it spells out what :meth:`receive` would do.

        Returns:
            How many were served before the rest had to go the long way; None if all were.
        """
        drain, handlers, observer = self.drain, self._handlers, self.observer
        reply_from_template, phase = self._outgoing.reply_from_template, drain.phase
        decode = self._decode_plain or self._make_plain_decoder()
        if drain.refusing or self.node_id is None or len(lines) > self.max_in_flight - drain.in_flight:
            return 0
        try:
            # All of them first: one by one in the loop below, a line takes 0.1 microseconds more.
            messages = [*map(decode, lines)]
        except wire.UNDECODABLE:
            return 0
        started = drain.monotonic() if observer else 0.0
        for position, message in enumerate(messages):
            if drain.phase is not phase:
                return position
            src, body = message.src, message.body
            type_, msg_id = body.type_, body.msg_id
            handler = handlers[type_]
            request = Request(src, message.dest, type_, msg_id, body, asker, started)
            try:
                answer: Any = handler.function(request)
            except BaseException:
                answer = Failure()
            if type(answer) is Fixed:
                try:
                    reply_from_template(asker, src, msg_id, handler.reply_type, answer)
                except wire.UNENCODABLE:
                    answer = Failure()
                else:
                    drain.count_finished()
                    if observer is not None:
                        self._observe(type_, "ok", drain.monotonic() - started)
                    continue
            self._take(answer, request, handler)
            if drain.in_flight >= self.max_in_flight:
                return position + 1
        return None

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
        # An error from another node answers something even if it does not say what: to answer it would go on for ever.
        if message.in_reply_to is not None or (message.type == "error" and asker.routes):
            self.calls.deliver(message, asker)
            return
        try:
            handler = self._find(message, asker)
            if self.drain.refusing and not handler.while_draining:
                self.drain.count_refused()
                self._outgoing.reply(message, asker, "error", handler.refused)
                self._observe(message.type, "refused", 0.0)
                return
            body = self._check(message, handler)
        except RequestError as error:
            self._outgoing.error(message, asker, error)
            if message.type in self._handlers:
                self._observe(message.type, "error", 0.0)
            return
        started = 0.0 if self.observer is None else self.drain.monotonic()
        request = Request(message.src, message.dest, message.type or "", message.msg_id, body, asker, started)
        try:
            answer: Any = handler.function(request)
        except BaseException:
            # Also SystemExit, as in any callback: it would take the answers of others with it.
            answer = Failure()
        self._take(answer, request, handler)
        if handler.before_init:
            self.start()

    def _take(self, answer: Any, request: Request[Any], handler: Handler) -> None:
        """Take what a handler returned, or failed with, and answer now or later."""
        if iscoroutine(answer):
            answer = Deferred.fromCoroutine(answer)
        if isinstance(answer, Deferred):
            request.asker.in_flight += 1
            work = self.drain.track(request, answer, while_draining=True)
            work.addBoth(self._finish_later, request, handler)
            return
        if not handler.while_draining:
            self.drain.count_finished()
        self._finish(answer, request, handler)

    def _find(self, message: Message, asker: Asker) -> Handler:
        """Find the handler of a request, if there is one for this asker."""
        handler = self._handlers.get(message.type or "")
        if message.fault:
            raise RequestError(ErrorCode.MALFORMED_REQUEST, message.fault)
        if handler is None or (handler.control and not asker.control):
            raise RequestError(ErrorCode.NOT_SUPPORTED, f"type {message.type!r:.100} is not supported here")
        if self.node_id is None and not handler.before_init:
            raise RequestError(ErrorCode.TEMPORARILY_UNAVAILABLE, "not initialised: send init first")
        return handler

    def _check(self, message: Message, handler: Handler) -> Any:
        """Read the body of a request, if there is room for it."""
        if not handler.while_draining and self.drain.in_flight >= self.max_in_flight:
            raise RequestError(ErrorCode.TEMPORARILY_UNAVAILABLE, "too many requests in flight")
        if message.msg_id is not None and type(message.msg_id) is not int:
            raise RequestError(ErrorCode.MALFORMED_REQUEST, "msg_id: expected an integer")
        return handler.decode(message.body)

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
        self._outgoing.error(Message("", "", None, None, None, msgspec.Raw()), asker, error)

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
                self._outgoing.reply(request, request.asker, handler.reply_type, answer or {})
            except wire.UNENCODABLE:
                answer = Failure()
        outcome = self._outgoing.failure(request, handler, answer) if isinstance(answer, Failure) else "ok"
        self._observe(request.type, outcome, self.drain.monotonic() - request.started)

    def _observe(self, *event: Any) -> None:
        if self.observer is not None:
            with _log.failuresHandled("while telling of a request"):
                self.observer(*event)
