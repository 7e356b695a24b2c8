"""The node, as programs use it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar, overload

from twisted.internet.defer import Deferred

from twisted_node._typing import AnyClock
from twisted_node.drain import Drain
from twisted_node.errors import MisuseError
from twisted_node.node._handlers import CUT, REFUSED, Answer, Request
from twisted_node.node._identity import Identity, answer_init
from twisted_node.node._monitoring import Monitoring, Observer
from twisted_node.node._own_work import OwnWork
from twisted_node.node._registry import Registry
from twisted_node.node._requests import Requests
from twisted_node.node._wire import Body

__all__ = ["Node", "requests_of"]

_B = TypeVar("_B")
_C = TypeVar("_C", bound=Callable[[], Any])


class Node:
    """A node: it answers requests with the handlers that were registered, and sends messages to other nodes.

    Make one at any time, register handlers, and hand it to :func:`twisted_node.run`, to ``--app``, or to a
    ``NodeFactory``. It has a handler of ``init`` already.

    Args:
        node_id: its name, if it is known before an ``init`` message arrives.
    """

    def __init__(self, node_id: str | None = None) -> None:
        self._identity = Identity(node_id, () if node_id is None else (node_id,))
        self._monitoring = Monitoring()
        self._own_work = OwnWork()
        self._registry = Registry()
        self._requests: Requests | None = None
        answer_init(self._registry, self._identity)

    @property
    def node_id(self) -> str | None:
        """The node's name; None until it is known."""
        return self._identity.node_id

    @node_id.setter
    def node_id(self, name: str | None) -> None:
        self._identity.node_id = name

    @property
    def node_ids(self) -> tuple[str, ...]:
        """The names of all nodes of the cluster, as given by ``init``."""
        return self._identity.node_ids

    @node_ids.setter
    def node_ids(self, names: tuple[str, ...]) -> None:
        self._identity.node_ids = names

    @property
    def observer(self) -> Observer | None:
        """Called for each request that has ended and whose type has a handler, or None.

        Its arguments are the type, the outcome (``ok``, ``error``, ``refused`` or ``cut``), and the seconds it took.
        """
        return self._monitoring.observer

    @observer.setter
    def observer(self, observer: Observer | None) -> None:
        self._monitoring.observer = observer

    @property
    def unreadable_lines(self) -> int:
        """How many lines did not say whom to answer."""
        return self._monitoring.unreadable_lines

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
        self, type_: str, body_type: type[Any] = dict, **terms: Any
    ) -> Callable[[Callable[[Request[Any]], Answer]], Callable[[Request[Any]], Answer]]:
        """Register the handler of a type: a decorator, or by call ``node.handle("echo", Echo)(function)``.

        The handler takes a :class:`~twisted_node.node.Request` and returns the fields of the reply (a mapping, or
        None for none), or a Deferred or coroutine of them. The node sets ``in_reply_to`` and ``msg_id``. It raises
        ``RequestError`` to answer an error; any other exception is logged and answered crash (13).

        Args:
            type_: the type of the requests; the reply's is ``<type>_ok``.
            body_type: a ``msgspec.Struct`` with the fields and their ranges, or ``dict`` for plain data.
            terms: how these requests are to be treated; each of the following may be given.
            while_draining: serve these requests also during and after the drain.
            control: serve them only on standard input and control endpoints; elsewhere they are not supported (10).
            before_init: serve them also before the node has a name.
            refused: the body of the reply to a request that is refused because of the drain.
            cut: the body of the reply to a request that the deadline cuts.

        Raises:
            MisuseError: the type has a handler, or ``body_type`` is no type of a body.
        """
        return self._registry.handle(type_, body_type, **terms)

    def after_init(self, function: _C) -> _C:
        """Register a function to call once the node has its name; a decorator.

        It is called after ``init_ok`` was sent and before the next line is processed. If the node has its name already,
        it is called when the node begins to listen.
        """
        return self._own_work.after_init(function)

    def every(self, seconds: float) -> Callable[[_C], _C]:
        """Register a function to call periodically, from ``init`` until the drain begins; a decorator.

        Calls never overlap: while the function's Deferred or coroutine has not ended, calls that are due are skipped.

        Args:
            seconds: from one call to the next, and to the first.

        Raises:
            MisuseError: ``seconds`` is no number above 0, or more than a day.
        """
        return self._own_work.every(seconds)

    def on_drain(self, function: _C) -> _C:
        """Register a function to call when the drain begins, such as handing over to other nodes; a decorator.

        The drain waits for it, and the deadline cuts it, as if it were a request in flight.
        """
        return self._own_work.on_drain(function)

    def bind(self, drain: Drain, max_in_flight: int = 100_000) -> None:
        """Let the node work with a drain; called once, before the node's first line.

        Args:
            drain: holds the node's requests in flight, and has the clock.
            max_in_flight: how many requests may be in flight; further ones are answered temporarily unavailable (11).

        Raises:
            MisuseError: the node is bound already.
        """
        if self._requests is not None:
            raise MisuseError("the node is bound to a drain already: each drain needs a node of its own")
        self._requests = Requests(
            self._identity, self._registry, self._monitoring, self._own_work, drain, max_in_flight=max_in_flight
        )

    # What the node has once it is bound. Before, each of these raises MisuseError.

    @property
    def drain(self) -> Drain:
        """The drain that the node is bound to."""
        return self._bound().drain

    @property
    def clock(self) -> AnyClock:
        """The clock of the drain."""
        return self._bound().drain.clock

    def send(self, dest: str, body: Mapping[str, Any]) -> None:
        """Send a message to another node; a reply to it is dropped.

        Args:
            dest: the other node.
            body: its ``type`` and its fields; ``msg_id`` is set here.

        Raises:
            MisuseError: there is no way to other nodes, the node has no name yet, or the body no ``type``.
            TypeError, ValueError: the body holds something that JSON cannot express.
        """
        self._bound().calls.send(dest, body)

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
        return self._bound().calls.rpc(dest, body, timeout)

    def _bound(self) -> Requests:
        if self._requests is None:
            raise MisuseError("the node is not bound to a drain yet: call its bind method first")
        return self._requests


def requests_of(node: Node) -> Requests:
    """Find what a node's connections hold; not a method, since programs have no use for it.

    Raises:
        MisuseError: the node is not bound to a drain yet.
    """
    return node._bound()  # noqa: SLF001 - of the class above
