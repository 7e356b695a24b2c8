"""Sockets whose handshakes a test holds half done, on the loopback interface and without any privilege."""

from __future__ import annotations

import socket
from typing import Any

__all__ = ["connected", "is_held_off", "listening", "postpone"]

#: Seconds after which something that should have happened has not.
_PATIENCE = 10

#: Seconds in which a connection on this machine is made, if anything makes it.
_MOMENT = 0.05


def listening(address: Any = ("127.0.0.1", 0), *, dual_stack: bool = False, reuse_port: bool = False) -> socket.socket:
    """A socket that listens as Twisted's do."""
    made = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if made.family == socket.AF_INET6:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not dual_stack)
    if reuse_port:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    made.bind(address)
    made.listen(50)
    made.setblocking(False)
    return made


def postpone(listener: socket.socket) -> None:
    """Have handshakes stay half done until the client has sent something: its side is made, and the listener's is not.

    On Linux; the listener learns nothing of them until then.
    """
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 10)


def connected(address: Any, *, ttl: int | None = None, timeout: float = _PATIENCE) -> socket.socket:
    """A client that has connected.

    Raises:
        OSError: it cannot.
    """
    client = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
    client.settimeout(timeout)
    if ttl is not None:
        client.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)
        if client.family == socket.AF_INET6:
            client.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, ttl)
    try:
        client.connect(address)
    except OSError:
        client.close()
        raise
    client.settimeout(_PATIENCE)
    return client


def is_held_off(address: Any, *, ttl: int | None = None) -> bool:
    """Whether a connection to an address is neither made nor refused."""
    try:
        connected(address, ttl=ttl, timeout=_MOMENT).close()
    except TimeoutError:
        return True
    return False
