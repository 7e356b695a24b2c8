"""HTTP/1.1, as far as the storms of clients need it."""

from __future__ import annotations

import re

__all__ = ["is_last", "is_whole", "request", "status"]

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)


def request(path: str, *headers: str) -> bytes:
    """Write a request without a body."""
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: localhost", *headers, "", ""]).encode()


def is_whole(response: bytes) -> bool:
    """Say whether a response is there as a whole."""
    head, separator, body = response.partition(b"\r\n\r\n")
    if not separator:
        return False
    if _CHUNKED.search(head):
        return body.endswith(b"0\r\n\r\n")
    length = _LENGTH.search(head)
    return length is not None and len(body) >= int(length[1])


def status(response: bytes) -> int:
    """Return the status of a response."""
    return int(response[9:12])


def is_last(response: bytes) -> bool:
    """Say whether the server says that it closes behind this response."""
    return bool(_CLOSE.search(response.partition(b"\r\n\r\n")[0] + b"\r\n"))
