"""Requests that ask their exchange before they are served or answered."""

from __future__ import annotations

from functools import cache
from typing import Any

from twisted_node.web._exchange import Exchange

__all__ = ["attach_exchange"]


def attach_exchange(request: Any, exchange: Exchange) -> None:
    """Have a request ask its exchange before it is served, and before each write.

    Its class is changed after it was made: a site's ``requestFactory`` may be any callable, not only a class.

    Args:
        request: a request of twisted.web, just made.
        exchange: is told when the request was received whole, and may have answered it already.
    """
    kind: Any = type(request)
    request.__class__ = _with_exchange(kind)
    request.drain_exchange = exchange


@cache
def _with_exchange(kind: Any) -> Any:
    class RequestWithExchange(kind):  # type: ignore[misc] # the class of the request is known only when that was made
        #: None once it is refused or over: a cycle of references would keep each request until the collector comes.
        drain_exchange: Exchange | None

        def process(self) -> None:
            if self.drain_exchange is not None and self.drain_exchange.received():
                super().process()

        def write(self, data: bytes) -> None:
            if self.drain_exchange is None or not self.drain_exchange.answered_instead:
                super().write(data)

        def finish(self) -> None:
            if self.drain_exchange is None or not self.drain_exchange.answered_instead:
                super().finish()

    # Logs show the name of a request's class.
    RequestWithExchange.__name__, RequestWithExchange.__qualname__ = kind.__name__, kind.__qualname__
    return RequestWithExchange
