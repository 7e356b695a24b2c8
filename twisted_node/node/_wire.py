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
    """One line, with the fields that every message has.

    ``body`` is not decoded yet. ``msg_id`` and ``in_reply_to`` are what was sent, of any type. If the message is
    malformed but has a readable ``src``, ``type`` is None and ``fault`` says what is wrong.
    """

    src: str
    dest: str
    type: str | None
    msg_id: Any
    in_reply_to: Any
    body: msgspec.Raw
    fault: str = ""


# gc=False here and above: the garbage collector does not track these objects, and decoding takes half the time.
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

#: What msgspec raises for bytes that are not JSON, not UTF-8, or nested too deep.
UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

#: What msgspec raises for something that JSON cannot express.
UNENCODABLE = (TypeError, ValueError, OverflowError, RecursionError)


def decode(line: bytes) -> Message:
    """Decode one line.

    Args:
        line: UTF-8 JSON, with or without white space around it.

    Returns:
        The message; its ``fault`` is set if it is malformed but has a readable ``src``.

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
    """Decode the fields that can be decoded, and find out which one is wrong."""
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
    """Make the function that decodes a message's body for its handler.

    Args:
        body_type: a ``msgspec.Struct`` with the fields and their ranges, or ``dict`` for plain data.

    Returns:
        A function of the body. It raises ``RequestError`` with malformed request (12), and names the wrong field.
    """
    decode_json = msgspec.json.Decoder(Body if body_type is dict else body_type).decode

    def decode_body(body: msgspec.Raw) -> Any:
        try:
            return decode_json(body)
        except UNDECODABLE as error:
            raise RequestError(ErrorCode.MALFORMED_REQUEST, _explain(error)) from None

    return decode_body


def encode(src: str, dest: str, body: Body) -> bytes:
    """Encode one message as a line, with the spaces of Python's ``json.dumps``; UTF-8 is not escaped.

    Raises:
        TypeError, ValueError, OverflowError, RecursionError: the body holds something that JSON cannot express.
    """
    return msgspec.json.format(_encode_json({"src": src, "dest": dest, "body": body}), indent=0) + b"\n"


def reply_template(src: str, dest: str, type_: str, fields: Mapping[str, Any]) -> bytes:
    """Encode a reply without its two numbers; ``template % (in_reply_to, msg_id)`` is the line.

    Raises:
        TypeError, ValueError, OverflowError, RecursionError: as :func:`encode`.
    """
    line = encode(src, dest, {"type": type_, "in_reply_to": -1, **fields, "msg_id": -1})
    head, _, rest = line.replace(b"%", b"%%").partition(b', "in_reply_to": -1')
    middle, _, tail = rest.rpartition(b', "msg_id": -1')
    return head + b', "in_reply_to": %d' + middle + b', "msg_id": %d' + tail


def _explain(error: Exception) -> str:
    """Return what is wrong, after the name of the field."""
    if isinstance(error, RecursionError):
        return "nested too deep"
    found = re.fullmatch(r"(.*) - at `\$\.?(.*)`", str(error))
    return f"{found[2]}: {found[1]}" if found and found[2] else str(error)
