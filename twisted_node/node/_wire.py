"""Messages decoded from bytes and encoded to bytes. Pure functions: no Twisted, no state.

A message is one line with one JSON object: ``{"src", "dest", "body": {"type", "msg_id"?, "in_reply_to"?, ...}}``.
Keys may come in any order; unknown ones are ignored.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import msgspec

from twisted_node.errors import ErrorCode, RequestError

__all__ = [
    "MAX_SOURCE",
    "UNDECODABLE",
    "UNENCODABLE",
    "Body",
    "Message",
    "Milliseconds",
    "Name",
    "UnreadableLine",
    "body_decoder",
    "decode",
    "encode",
    "reply_template",
]

#: The longest ``src`` and ``dest`` accepted, in characters: each request in flight keeps both in memory.
MAX_SOURCE = 1024
#: A ``src`` or ``dest``.
Name = Annotated[str, msgspec.Meta(max_length=MAX_SOURCE)]

#: A body as plain data.
Body = dict[str, Any]

#: A field of a body: milliseconds, from 0 to an hour.
Milliseconds = Annotated[int, msgspec.Meta(ge=0, le=3_600_000)] | Annotated[float, msgspec.Meta(ge=0, le=3_600_000)]


class UnreadableLine(RequestError):
    """A line without a readable ``src``, so that it is not known whom to answer.

    Args:
        text: what is wrong with the line.
    """

    def __init__(self, text: str) -> None:
        super().__init__(ErrorCode.MALFORMED_REQUEST, text)


class Message(msgspec.Struct, gc=False):
    """One line, as far as every message is alike.

    ``body`` still is JSON. ``type`` is None if the message has a readable ``src`` and is malformed all the same;
    ``fault`` then says how. ``msg_id`` and ``in_reply_to`` are what was sent, of any type.
    """

    src: str
    dest: str
    type: str | None
    msg_id: Any
    in_reply_to: Any
    body: msgspec.Raw
    fault: str = ""


# Without gc here and above, the collector does not count them: decoding takes half the time.
class _Envelope(msgspec.Struct, gc=False):
    src: Name
    body: msgspec.Raw
    dest: Name = ""


class _Head(msgspec.Struct, gc=False):
    type: str
    msg_id: Any = None
    in_reply_to: Any = None


class _LooseEnvelope(msgspec.Struct):
    src: Any = None
    body: msgspec.Raw = msgspec.Raw(b"null")
    dest: Any = ""


class _LooseHead(msgspec.Struct):
    msg_id: Any = None
    in_reply_to: Any = None


_decode_envelope = msgspec.json.Decoder(_Envelope).decode
_decode_head = msgspec.json.Decoder(_Head).decode
_encode_json = msgspec.json.Encoder().encode

#: What msgspec raises for bytes that are no JSON, no UTF-8, or nested too deep.
UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

#: What it raises for something that JSON cannot say.
UNENCODABLE = (TypeError, ValueError, OverflowError, RecursionError)


def decode(line: bytes) -> Message:
    """Read one line.

    Args:
        line: UTF-8 JSON, with or without white space around it.

    Returns:
        The message; its ``fault`` is set if there is somebody to answer but nothing to do.

    Raises:
        UnreadableLine: there is no readable ``src``.
    """
    try:
        envelope = _decode_envelope(line)
        head = _decode_head(envelope.body)
    except UNDECODABLE as error:
        return _decode_loosely(line, error)
    return Message(envelope.src, envelope.dest, head.type, head.msg_id, head.in_reply_to, envelope.body)


def _decode_loosely(line: bytes, error: Exception) -> Message:
    """Find out whom to answer, and which field is wrong."""
    try:
        envelope = msgspec.json.decode(line, type=_LooseEnvelope)
    except UNDECODABLE:
        raise UnreadableLine(_explain(error)) from None
    if fault := _fault_of_name("src", envelope.src):
        raise UnreadableLine(fault)
    fault = _fault_of_name("dest", envelope.dest)
    try:
        head = msgspec.json.decode(envelope.body, type=_LooseHead)
    except UNDECODABLE:
        head = _LooseHead()
    dest = "" if fault else envelope.dest
    fault = fault or "body: " + _explain(error)
    return Message(envelope.src, dest, None, head.msg_id, head.in_reply_to, envelope.body, fault)


def _fault_of_name(field: str, name: Any) -> str:
    if not isinstance(name, str):
        return f"{field}: expected a string"
    return f"{field}: longer than {MAX_SOURCE} characters" if len(name) > MAX_SOURCE else ""


def body_decoder(body_type: type[Any]) -> Callable[[msgspec.Raw], Any]:
    """Make the function that turns a message's body into what a handler wants.

    Args:
        body_type: a ``msgspec.Struct`` with the fields and their ranges, or ``dict`` for plain data.

    Returns:
        A function of the body. It raises ``RequestError``, malformed request (12), naming the field.
    """
    decode_json = msgspec.json.Decoder(Body if body_type is dict else body_type).decode

    def decode_body(body: msgspec.Raw) -> Any:
        try:
            return decode_json(body)
        except UNDECODABLE as error:
            raise RequestError(ErrorCode.MALFORMED_REQUEST, _explain(error)) from None

    return decode_body


def encode(src: str, dest: str, body: Body) -> bytes:
    """Write one message as a line, spaced as Python's ``json.dumps`` does; UTF-8 stays as it is.

    Raises:
        TypeError, ValueError, OverflowError, RecursionError: the body holds something that JSON cannot say.
    """
    return msgspec.json.format(_encode_json({"src": src, "dest": dest, "body": body}), indent=0) + b"\n"


def reply_template(src: str, dest: str, type_: str, fields: Mapping[str, Any]) -> bytes:
    """Write a reply as a line that lacks two numbers: ``template % (in_reply_to, msg_id)``.

    Raises:
        TypeError, ValueError, OverflowError, RecursionError: as :func:`encode`.
    """
    line = encode(src, dest, {"type": type_, "in_reply_to": -1, **fields, "msg_id": -1})
    head, _, rest = line.replace(b"%", b"%%").partition(b', "in_reply_to": -1')
    middle, _, tail = rest.rpartition(b', "msg_id": -1')
    return head + b', "in_reply_to": %d' + middle + b', "msg_id": %d' + tail


def _explain(error: Exception) -> str:
    """Say what is wrong, the field first."""
    if isinstance(error, RecursionError):
        return "nested too deep"
    found = re.fullmatch(r"(.*) - at `\$\.?(.*)`", str(error))
    return f"{found[2]}: {found[1]}" if found and found[2] else str(error)
