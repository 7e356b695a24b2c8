"""What goes wrong: our own misuse, and the peer's fault, which carries the reply to send."""

from __future__ import annotations

from enum import IntEnum

__all__ = ["DrainTimeout", "Draining", "ErrorCode", "HandoverError", "MisuseError", "NodeError", "RequestError"]


class ErrorCode(IntEnum):
    """Maelstrom's error codes; those marked definite promise that the request had no effect.

    Source: jepsen-io/maelstrom, ``doc/protocol.md`` and ``resources/errors.edn``.
    """

    #: Indefinite: no answer in time.
    TIMEOUT = 0
    #: Definite: there is no such node.
    NODE_NOT_FOUND = 1
    #: Definite: no handler for this type.
    NOT_SUPPORTED = 10
    #: Definite: not at this time (before ``init``, while draining, too much in flight).
    TEMPORARILY_UNAVAILABLE = 11
    #: Definite: a field is missing or out of range.
    MALFORMED_REQUEST = 12
    #: Indefinite: the handler failed.
    CRASH = 13
    #: Definite: given up.
    ABORT = 14
    #: Definite: no such key.
    KEY_DOES_NOT_EXIST = 20
    #: Definite: the key is there already.
    KEY_ALREADY_EXISTS = 21
    #: Definite: a condition of the request does not hold.
    PRECONDITION_FAILED = 22
    #: Definite: a conflicting transaction won.
    TXN_CONFLICT = 30


class NodeError(Exception):
    """The base of everything that this package raises on purpose."""


class MisuseError(NodeError):
    """The program used this package wrongly; nothing has changed by it."""


class Draining(NodeError):
    """New work was offered to a drain that takes none any more."""


class DrainTimeout(NodeError):
    """The work was cut, by the deadline of its drain or by an impatient second signal."""


class HandoverError(NodeError):
    """No other process has taken the place of this one, which goes on as before.

    Args:
        why: one line.
        code: one of :class:`ErrorCode`: given up (14), if another process was started; not now (11); not while this
            process is run as it is (22); or not on standard input (10).
    """

    def __init__(self, why: str, code: ErrorCode = ErrorCode.ABORT) -> None:
        super().__init__(why)
        self.code = code


class RequestError(NodeError):
    """A request failed; its client is answered ``{"type": "error", "code": code, "text": text}``.

    Args:
        code: one of :class:`ErrorCode`, or 1000 and up for your own.
        text: one sentence for the person who reads the client's log.
    """

    def __init__(self, code: int, text: str) -> None:
        super().__init__(code, text)
        self.code = int(code)
        # A text that cannot be encoded (lone surrogates) could not be sent: such characters become "?".
        self.text = str(text).encode(errors="replace").decode()
