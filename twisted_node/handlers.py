"""What a handler is given, what it may answer, and how it wants to be treated."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Generic, Protocol, TypeVar

import msgspec
from twisted.internet.defer import Deferred

from twisted_node.errors import ErrorCode
from twisted_node.wire import Body

__all__ = ["CUT", "REFUSED", "Answer", "Asker", "Handler", "HandlerFunction", "Request"]

_B = TypeVar("_B")

#: What a handler may return: the fields of its reply, now or later. A ``type`` among them replaces ``<type>_ok``.
Answer = Mapping[str, Any] | None | Deferred[Any] | Coroutine[Any, Any, Any]
HandlerFunction = Callable[["Request[Any]"], Answer]

#: How a request is refused while draining, unless its handler has words of its own.
REFUSED: Body = {"type": "error", "code": int(ErrorCode.TEMPORARILY_UNAVAILABLE), "text": "the node is shutting down"}
#: How a request is answered that was cut.
CUT: Body = {"type": "error", "code": int(ErrorCode.TIMEOUT), "text": "cut by the deadline of the shutdown"}


class Asker(Protocol):
    """Where a line came from, and where its answer goes."""

    #: Whether it may call the handlers that need control.
    control: bool
    #: Whether other nodes can be reached through it, so that ``dest`` decides who reads a line.
    routes: bool
    #: Whether nobody reads there any more.
    gone: bool
    #: Its requests that wait for their answer.
    in_flight: int
    #: Whether it asks to stay open beyond the drain, to see how that ends.
    kept: bool

    def send(self, line: bytes) -> None:
        """Write one whole line."""


class Request(msgspec.Struct, Generic[_B]):
    """One request, as its handler gets it.

    ``body`` is of the type that the handler was registered with, or a ``dict``. ``msg_id`` is None if the client gave
    none. ``started`` is the time on the drain's monotonic clock, in seconds.
    """

    src: str
    dest: str
    type: str
    msg_id: int | None
    body: _B
    asker: Asker
    started: float

    def __str__(self) -> str:
        return f"{self.type} {'' if self.msg_id is None else self.msg_id} from {self.src}".replace("  ", " ")


class Handler(msgspec.Struct):
    """A handler and its terms; :meth:`twisted_node.registry.Registry.handle` explains them."""

    function: HandlerFunction
    decode: Callable[[msgspec.Raw], Any]
    reply_type: str
    while_draining: bool
    control: bool
    before_init: bool
    refused: Body
    cut: Body
