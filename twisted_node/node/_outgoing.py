"""Everything that a node sends: numbered by one counter, and encoded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted_node.drain import Drain
from twisted_node.errors import MisuseError, RequestError
from twisted_node.node import _wire as wire
from twisted_node.node._handlers import Asker, Fixed, Request
from twisted_node.node._identity import Identity
from twisted_node.node._wire import Body, Message

__all__ = ["Outgoing"]

#: How many encoded answers are kept: one for each fixed answer, type and client.
_MAX_TEMPLATES = 1000


class Outgoing:
    """The messages that a node sends: replies to requests, and messages of its own.

    Args:
        identity: whose name the messages bear. Until the name is known, a reply bears the name that its request was
            sent to.
        drain: counts the replies whose client has gone.
    """

    def __init__(self, identity: Identity, drain: Drain) -> None:
        self._identity = identity
        self._drain = drain
        self._next_msg_id = 0
        # By the node's name, answer, type and client.
        self._templates: dict[tuple[str | None, Fixed, str, str], bytes] = {}

    def reply(self, to: Message | Request[Any], asker: Asker, type_: str, fields: Mapping[str, Any]) -> None:
        """Send one reply, unless its client has gone.

        Args:
            to: what it answers.
            asker: where to send it.
            type_: its type, unless there is a ``type`` among the fields.
            fields: its other fields.

        Raises:
            TypeError, ValueError, OverflowError, RecursionError: the fields hold something that JSON cannot express.
                Nothing was sent.
        """
        if asker.gone:
            self._drain.count_undelivered()
            return
        # The first in_reply_to gives the key its place. The fields may contain another one, so it is set again below.
        body: Body = {"type": type_, "in_reply_to": to.msg_id, **fields, "msg_id": self._next_msg_id}
        if type(to.msg_id) is int:
            body["in_reply_to"] = to.msg_id
        else:
            del body["in_reply_to"]
        name = self._identity.node_id
        line = wire.encode(to.dest if name is None else name, to.src, body)
        self._next_msg_id += 1
        asker.send(line)

    def fixed_reply(self, dest: str, msg_id: int, asker: Asker, type_: str, answer: Fixed) -> None:
        """Send one reply that is always the same, in a fifth of the time that :meth:`reply` takes.

        Args:
            dest: the ``src`` of the request.
            msg_id: the request's.
            asker: where to send it; not gone yet, which is looked at once for many replies.
            type_: as for :meth:`reply`, which raises the same.
            answer: the other fields.
        """
        try:
            template = self._templates[self._identity.node_id, answer, type_, dest]
        except KeyError:
            template = self._make_template(dest, type_, answer)
        number = self._next_msg_id
        self._next_msg_id = number + 1
        asker.send(template % (msg_id, number))

    def error(self, to: Message | Request[Any], asker: Asker, error: RequestError) -> None:
        """Send a reply that reports an error."""
        self.reply(to, asker, "error", {"code": error.code, "text": error.text})

    def message(self, dest: str, body: Mapping[str, Any]) -> tuple[int, bytes]:
        """Make a message to another node.

        Args:
            dest: the other node.
            body: its ``type`` and its fields.

        Returns:
            Its ``msg_id``, and its line.

        Raises:
            MisuseError: the node has no name yet, or the body no ``type``.
            TypeError, ValueError, OverflowError, RecursionError: the body holds something that JSON cannot express.
        """
        name = self._identity.node_id
        if name is None:
            raise MisuseError("the node has no name yet: send after init")
        if not isinstance(body.get("type"), str):
            raise MisuseError("type: expected a string in the body of a message")
        # Some nodes read a msg_id of 0 as a missing one.
        msg_id = max(1, self._next_msg_id)
        line = wire.encode(name, dest, {**body, "msg_id": msg_id})
        self._next_msg_id = msg_id + 1
        return msg_id, line

    def _make_template(self, dest: str, type_: str, answer: Fixed) -> bytes:
        name = self._identity.node_id
        template = wire.reply_template(str(name), dest, type_, answer)
        if len(self._templates) >= _MAX_TEMPLATES:
            self._templates.clear()
        self._templates[name, answer, type_, dest] = template
        return template
