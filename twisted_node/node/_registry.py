"""The handlers of a node, by the type of the requests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted_node.errors import MisuseError
from twisted_node.node._handlers import CUT, REFUSED, Answer, Handler, Request
from twisted_node.node._plain import plain_decoder
from twisted_node.node._wire import Body, body_decoder

__all__ = ["Registry"]


class Registry:
    """The handlers of a node, and how plain requests to them are decoded."""

    def __init__(self) -> None:
        #: The handlers by type; only :meth:`handle` adds to them.
        self.handlers: dict[str, Handler] = {}
        #: Decodes plain requests; None until it is made, and again after each registration.
        self.decode_plain: Callable[[bytes], Any] | None = None

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
        """Register the handler of a type, as ``Node.handle`` explains; raises what that raises."""
        if not isinstance(type_, str):
            raise MisuseError(f'expected the type of the requests, as in @node.handle("echo"), got {type_!r}')
        if type_ in self.handlers:
            raise MisuseError(f"type {type_!r} has a handler already")
        try:
            decode = body_decoder(body_type)
        except TypeError as error:
            raise MisuseError(f"expected a type for the bodies, such as a Struct, got {body_type!r}") from error

        def register(function: Callable[[Request[Any]], Answer]) -> Callable[[Request[Any]], Answer]:
            self.decode_plain = None
            self.handlers[type_] = Handler(
                type=type_,
                body_type=body_type,
                function=function,
                decode=decode,
                reply_type=type_ + "_ok",
                while_draining=while_draining,
                control=control,
                before_init=before_init,
                refused=refused,
                cut=cut,
            )
            return function

        return register

    def make_plain_decoder(self) -> Callable[[bytes], Any]:
        """Make :attr:`decode_plain`, for requests whose handler makes no exception from any check."""
        self.decode_plain = plain_decoder(
            handler
            for handler in self.handlers.values()
            # A message of the type "error" may be a reply.
            if handler.type != "error" and not (handler.while_draining or handler.control or handler.before_init)
        )
        return self.decode_plain
