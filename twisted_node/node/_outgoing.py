"""Everything that a node sends: numbered by one counter, and encoded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_node.errors import DrainTimeout, ErrorCode, MisuseError, RequestError
from twisted_node.node import _wire as wire
from twisted_node.node._handlers import Asker, Fixed, Handler, Request
from twisted_node.node._wire import Body, Message

__all__ = ["Outgoing"]

_log = Logger()

#: So many answers that are always the same are kept encoded, each for one client.
_MAX_TEMPLATES = 1000


class Outgoing:
    """What a node says, in its name."""

    def __init__(self, name: str | None) -> None:
        #: The node's name; until it is known, each reply comes from whom the request was sent to.
        self.name = name
        #: Told of each answer whose client has gone.
        self.count_undelivered: Callable[[], object] = lambda: None
        self._next_msg_id = 0
        # By answer, type and client.
        self._templates: dict[tuple[Fixed, str, str], bytes] = {}

    def rename(self, name: str | None) -> None:
        """Speak in another name from now on."""
        self.name = name
        self._templates.clear()

    def reply(self, to: Message | Request[Any], asker: Asker, type_: str, fields: Mapping[str, Any]) -> None:
        """Write one reply; a ``type`` among the fields goes before ``type_``.

        Raises:
            TypeError, ValueError, OverflowError, RecursionError: JSON cannot say it; nothing was written.
        """
        if asker.gone:
            self.count_undelivered()
            return
        # First for its place, then for its value: the fields of a reply that is passed on have one of their own.
        body: Body = {"type": type_, "in_reply_to": to.msg_id, **fields, "msg_id": self._next_msg_id}
        if type(to.msg_id) is int:
            body["in_reply_to"] = to.msg_id
        else:
            del body["in_reply_to"]
        line = wire.encode(to.dest if self.name is None else self.name, to.src, body)
        self._next_msg_id += 1
        asker.send(line)

    def error(self, to: Message | Request[Any], asker: Asker, error: RequestError) -> None:
        """Write a reply that says an error."""
        self.reply(to, asker, "error", {"code": error.code, "text": error.text})

    def failure(self, to: Request[Any], handler: Handler, failure: Failure) -> str:
        """Write a reply that says how a request failed; return ``cut`` or ``error``."""
        if isinstance(failure.value, DrainTimeout):
            self.reply(to, to.asker, "error", handler.cut)
            return "cut"
        error = failure.value
        if not isinstance(error, RequestError):
            _log.failure("{request} failed", failure, request=to)
            error = RequestError(ErrorCode.CRASH, f"{to.type} failed: {type(error).__name__}")
        self.error(to, to.asker, error)
        return "error"

    def reply_from_template(self, asker: Asker, src: str, msg_id: int, type_: str, answer: Fixed) -> None:
        """Write a reply that is always the same, in a fifth of the time of :meth:`reply`, and raise what that does."""
        if asker.gone:
            self.count_undelivered()
            return
        try:
            template = self._templates[answer, type_, src]
        except KeyError:
            if len(self._templates) >= _MAX_TEMPLATES:
                self._templates.clear()
            template = wire.reply_template(str(self.name), src, type_, answer)
            self._templates[answer, type_, src] = template
        number = self._next_msg_id
        self._next_msg_id = number + 1
        asker.send(template % (msg_id, number))

    def call(self, dest: str, body: Mapping[str, Any]) -> tuple[int, bytes]:
        """Number a message to another node, and encode it. Some peers take an id of 0 for none.

        Raises:
            MisuseError: the node has no name yet, or the body no ``type``.
            TypeError, ValueError, OverflowError, RecursionError: JSON cannot say it.
        """
        if self.name is None:
            raise MisuseError("the node has no name yet: send after init")
        if not isinstance(body.get("type"), str):
            raise MisuseError("type: expected a string in the body of a message")
        msg_id = max(1, self._next_msg_id)
        line = wire.encode(self.name, dest, {**body, "msg_id": msg_id})
        self._next_msg_id = msg_id + 1
        return msg_id, line
