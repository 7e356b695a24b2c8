"""Who may ask the admin endpoint: not a page of another site, by way of its reader's browser.

A page can have its own name resolved to this machine's address (DNS rebinding). Its requests then come from the same
origin as the page itself, and only their ``Host`` shows that they were not meant for this server.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection
from typing import TYPE_CHECKING

from twisted.internet.address import UNIXAddress

if TYPE_CHECKING:
    # At run time it would cost those their time who have no admin endpoint.
    from twisted.web.http import Request

__all__ = ["header", "is_from_own_page", "is_known_host", "read_host"]

#: A name or an address in brackets, and perhaps a port.
_HOST = re.compile(r"(?:\[([^\[\]]*)\]|([^\[\]:]*))(?::[0-9]*)?")
_NAME = re.compile(r"[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?")


def read_host(text: str) -> str:
    """Read a name that browsers may call the endpoint by.

    Args:
        text: a host name, or an address, as browsers send it; perhaps with a port, which does not matter.

    Returns:
        The name alone, in lower case.

    Raises:
        ValueError: it is none; the text says what was expected.
    """
    name = _name(text)
    if not (_NAME.fullmatch(name) or _is_address(name)):
        raise ValueError(f"expected a host name such as node.example, got {text!r}")
    return name


def is_known_host(request: Request, hosts: Collection[str]) -> bool:
    """Say whether a request was meant for this server.

    Args:
        request: one without ``Host``, or from a unix socket, comes from no browser and is let in.
        hosts: the names that are allowed beside ``localhost`` and all addresses; each was returned by
            :func:`read_host`.
    """
    if isinstance(request.getHost(), UNIXAddress):
        return True
    names = [_name(value.decode("latin-1")) for value in request.requestHeaders.getRawHeaders(b"host", [])]
    return all(name == "localhost" or name in hosts or _is_address(name) for name in names)


def is_from_own_page(request: Request) -> bool:
    """Say whether a request was not made by a page of another site.

    Browsers say where a request comes from, in one of these headers; programs send neither.
    """
    if header(request, b"sec-fetch-site") not in ("", "same-origin", "none"):
        return False
    origin = header(request, b"origin")
    return not origin or origin.partition("://")[2] == header(request, b"host")


def header(request: Request, name: bytes) -> str:
    """Return the value of a header, whatever bytes are in it; empty if it is missing."""
    values = request.requestHeaders.getRawHeaders(name, [b""])
    return values[-1].decode("latin-1")


def _name(host: str) -> str:
    match = _HOST.fullmatch(host)
    if match is not None:
        host = match[2] if match[1] is None else match[1]
    return host.lower().removesuffix(".")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
