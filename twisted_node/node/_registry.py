"""What a node is told to do: its handlers by type, and work of its own beside them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, overload

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from twisted_node._seconds import check_seconds
from twisted_node.drain import Drain
from twisted_node.errors import DrainTimeout, MisuseError
from twisted_node.node._handlers import CUT, REFUSED, Answer, Handler, Request
from twisted_node.node._wire import Body, body_decoder, plain_decoder

__all__ = ["Registry"]

_log = Logger()
_B = TypeVar("_B")
_C = TypeVar("_C", bound=Callable[[], Any])


class Registry:
    """Keeps what was registered, and sees to a node's own work: after ``init``, periodically, and at the drain.

    Own work takes no argument. It may return a Deferred or a coroutine. If it fails, that is logged.
    """

    def __init__(self) -> None:
        self._handlers: dict[str, Handler] = {}
        # Made when the first lines come, for what is registered by then.
        self._decode_plain: Callable[[bytes], Any] | None = None
        self._after_init: list[Callable[[], Any]] = []
        self._periodic: list[tuple[float, Callable[[], Any]]] = []
        self._on_drain: list[Callable[[], Any]] = []
        self._started = False

    @overload
    def handle(
        self,
        type_: str,
        *,
        while_draining: bool = False,
        control: bool = False,
        before_init: bool = False,
        refused: Body = REFUSED,
        cut: Body = CUT,
    ) -> Callable[[Callable[[Request[Body]], Answer]], Callable[[Request[Body]], Answer]]: ...

    @overload
    def handle(
        self,
        type_: str,
        body_type: type[_B],
        *,
        while_draining: bool = False,
        control: bool = False,
        before_init: bool = False,
        refused: Body = REFUSED,
        cut: Body = CUT,
    ) -> Callable[[Callable[[Request[_B]], Answer]], Callable[[Request[_B]], Answer]]: ...

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
    ) -> Callable[[Callable[[Request[Any]], Answer]], Callable[[Request[Any]], Answer]]:
        """Register the handler of a type: a decorator, or by call ``node.handle("echo", Echo)(function)``.

        The handler takes a :class:`~twisted_node.node.Request` and returns the fields of the reply (a mapping, or
        None for none), or a Deferred or coroutine of them. The node sets ``in_reply_to`` and ``msg_id``. It raises
        ``RequestError`` to answer an error; any other exception is logged and answered crash (13).

        Args:
            type_: the type of the requests; the reply's is ``<type>_ok``.
            body_type: a ``msgspec.Struct`` with the fields and their ranges, or ``dict`` for plain data.
            while_draining: serve it also while draining, and to the end.
            control: only for standard input and control endpoints; elsewhere it is not supported (10).
            before_init: serve it also before the node has a name.
            refused: the body that refuses it while draining.
            cut: the body that answers it when the deadline cuts it.

        Raises:
            MisuseError: the type has a handler, or ``body_type`` is no type of a body.
        """
        if not isinstance(type_, str):
            raise MisuseError(f'expected the type of the requests, as in @node.handle("echo"), got {type_!r}')

        if type_ in self._handlers:
            raise MisuseError(f"type {type_!r} has a handler already")
        try:
            decode = body_decoder(body_type)
        except TypeError as error:
            raise MisuseError(f"expected a type for the bodies, such as a Struct, got {body_type!r}") from error

        def register(function: Callable[[Request[Any]], Answer]) -> Callable[[Request[Any]], Answer]:
            self._decode_plain = None
            self._handlers[type_] = Handler(
                body_type, function, decode, type_ + "_ok", while_draining, control, before_init, refused, cut
            )
            return function

        return register

    def _make_plain_decoder(self) -> Callable[[bytes], Any]:
        """Make what reads plain requests, whose handlers have no terms to be looked at."""
        self._decode_plain = plain_decoder(
            {
                type_: handler.body_type
                for type_, handler in self._handlers.items()
                # An error may be a reply.
                if type_ != "error" and not (handler.while_draining or handler.control or handler.before_init)
            }
        )
        return self._decode_plain

    def after_init(self, function: _C) -> _C:
        """Register what is done once the node has its name; a decorator.

        It is called after ``init_ok`` was sent and before the next line is looked at. A node that has its name already
        does it when it begins to listen.
        """
        self._after_init.append(function)
        return function

    def every(self, seconds: float) -> Callable[[_C], _C]:
        """Register what is done again and again, from ``init`` until the drain begins; a decorator.

        It never overlaps itself: while its Deferred or coroutine has not ended, its turns are left out.

        Args:
            seconds: from one turn to the next, and to the first.

        Raises:
            MisuseError: ``seconds`` is no number above 0, or more than a day.
        """
        check_seconds("every", seconds, zero=False)

        def register(function: _C) -> _C:
            self._periodic.append((seconds, function))
            return function

        return register

    def on_drain(self, function: _C) -> _C:
        """Register what is done when the drain begins, such as handing over to other nodes; a decorator.

        The drain waits for it, and its deadline cuts it, as if it were a request in flight.
        """
        self._on_drain.append(function)
        return function

    def _start(self, drain: Drain, clock: IReactorTime) -> None:
        """Begin the node's own work; further calls do nothing."""
        if self._started:
            return
        self._started = True
        for function in self._after_init:
            _do(function)
        loops = [] if drain.refusing else [_repeat(clock, *periodic) for periodic in self._periodic]
        drain.when_draining().addCallback(self._drain_began, drain, loops)

    def _drain_began(self, _: None, drain: Drain, loops: list[LoopingCall]) -> None:
        for loop in loops:
            loop.stop()
        for function in self._on_drain:
            work = drain.track(_name(function), _do(function), while_draining=True)
            work.addErrback(lambda failure: failure.trap(DrainTimeout))


def _repeat(clock: IReactorTime, seconds: float, function: Callable[[], Any]) -> LoopingCall:
    loop = LoopingCall(_do, function)
    loop.clock = clock
    loop.start(seconds, now=False)
    return loop


def _do(function: Callable[[], Any]) -> Deferred[Any]:
    """Call a function, wait for it, and log its failure."""
    done: Deferred[Any] = maybeDeferred(function)
    return done.addErrback(lambda failure: _log.failure("{name} failed", failure, name=_name(function)))


def _name(function: Callable[[], Any]) -> str:
    return getattr(function, "__name__", repr(function))
