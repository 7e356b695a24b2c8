"""Handshakes that are half done: the client has its side of the connection already, and we do not have ours.

In a TCP handshake the client regards the connection as open before its last packet has reached us, and may send a
request at once. If we close the listener in between, that client is reset. So a listener stays open until no handshake
is half done.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterator
from functools import cache
from math import ceil

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

__all__ = ["BLIND_WAIT", "HandshakeWait", "cookies_sent", "count_half_done"]

_log = Logger()

#: Seconds between two looks. A look takes 3 to 5 milliseconds; a handshake takes as long as a trip to the client.
_BETWEEN_LOOKS = 0.05

#: Seconds to wait for handshakes of which the system does not tell. Most round trips between continents take less.
BLIND_WAIT = 0.2

#: Seconds to wait for handshakes that go by SYN cookies. A client whose handshake found the queue full tries again
#: after three round trips, and again after twice that (RFC 6298, 2.2 and 5.5): with the longest usual round trips, 300
#: milliseconds, both come within three seconds.
_COOKIE_WAIT = 3.0

#: Where Linux keeps its counters of all that is not in the standard for SNMP.
_COUNTERS = "/proc/net/netstat"

#: Linux has it; elsewhere a socket of this family cannot be made.
_AF_NETLINK = getattr(socket, "AF_NETLINK", 16)

# From linux/netlink.h, linux/sock_diag.h and linux/inet_diag.h.
_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_NLM_F_REQUEST_DUMP = 0x1 | 0x300
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
#: The kernel counts its TCP_NEW_SYN_RECV, where a half-done handshake is, with TCP_SYN_RECV.
_TCP_SYN_RECV = 3
_NO_COOKIE = 0xFFFFFFFF

#: The header of each netlink message: length, type, flags, sequence number, port.
_HEADER = struct.Struct("=IHHII")
#: struct inet_diag_req_v2: family, protocol, extensions, states; ports, addresses, interface, cookie.
_REQUEST = struct.Struct("=BBBxI 2s2s 16s16s I II")
#: The beginning of struct inet_diag_msg: family, state, timer, retransmissions; ports, our own address.
_ANSWER = struct.Struct("=BBBB 2s2s 16s")

#: Seconds for the kernel to answer. It does so while it is asked; nobody waits for ever if some other kernel does not.
_ANSWER_TIMEOUT = 0.1


def count_half_done(listening: socket.socket) -> int:
    """Count the half-done handshakes of a listening TCP socket, by Linux's ``sock_diag``. It needs no privilege.

    Args:
        listening: IPv4 or IPv6.

    Raises:
        OSError: the system does not tell.
    """
    address, port = listening.getsockname()[:2]
    own = socket.inet_pton(listening.family, address.partition("%")[0])
    families = [listening.family]
    if listening.family == socket.AF_INET6 and not listening.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY):
        # A handshake over IPv4 counts as such, whatever its listener is.
        families.append(socket.AF_INET)
    return sum(
        not any(own) or found == own.ljust(16, b"\0") for family in families for found in _half_done(family, port)
    )


def _half_done(family: int, port: int) -> Iterator[bytes]:
    """Ask the kernel for the half-done handshakes on a port; yield our own address in each, 16 bytes."""
    request = _REQUEST.pack(
        family, socket.IPPROTO_TCP, 0, 1 << _TCP_SYN_RECV, struct.pack("!H", port), b"", b"", b"", 0, *[_NO_COOKIE] * 2
    )
    header = _HEADER.pack(_HEADER.size + len(request), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST_DUMP, 0, 0)
    with socket.socket(_AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as netlink:
        netlink.settimeout(_ANSWER_TIMEOUT)
        netlink.sendto(header + request, (0, 0))
        while True:
            answers = netlink.recv(65536)
            while answers:
                length, kind, *_ = _HEADER.unpack_from(answers)
                if kind == _NLMSG_DONE:
                    return
                if kind == _NLMSG_ERROR:
                    (number,) = struct.unpack_from("=i", answers, _HEADER.size)
                    raise OSError(-number, "sock_diag")
                yield _ANSWER.unpack_from(answers, _HEADER.size)[-1]
                # Messages begin at multiples of four bytes.
                answers = answers[(length + 3) & ~3 :]


def cookies_sent() -> int:
    """Count the SYN cookies that this machine, or its part that is our network namespace, has ever sent.

    A listener whose queue is full answers with a cookie and keeps no memory of the handshake. It is seen only when the
    client has finished it.

    Returns:
        Their number, or 0 where the system does not tell.
    """
    try:
        # As bytes: to decode them, Python may have to load a module that the process may no longer read.
        with open(_COUNTERS, "rb") as lines:
            names, numbers = (line.split() for line in lines if line.startswith(b"TcpExt:"))
    except (OSError, ValueError):
        return 0
    return int(dict(zip(names, numbers, strict=True)).get(b"SyncookiesSent", 0))


class HandshakeWait:
    """Waits until a listener has no handshake that is half done.

    Args:
        listening: a TCP socket.
        clock: for the time between two looks.
        seconds: to wait at most.
        blind_seconds: to wait where the system does not tell of handshakes.
        cookies: whether some may go by SYN cookies. Nobody can count these, so the wait takes three seconds, or
            ``seconds`` if that is less.
    """

    def __init__(
        self,
        listening: socket.socket,
        clock: IReactorTime,
        seconds: float,
        blind_seconds: float,
        *,
        cookies: bool = False,
    ) -> None:
        #: How many were half done at the last look.
        self.half_done = 0
        self._listening = listening
        self._clock = clock
        self._looks_left = ceil(seconds / _BETWEEN_LOOKS)
        self._looks_for_cookies = ceil(_COOKIE_WAIT / _BETWEEN_LOOKS) if cookies else 0
        self._blind_seconds = min(seconds, blind_seconds)
        self._timer: IDelayedCall | None = None
        self._over: Deferred[None] = Deferred()

    def begin(self) -> Deferred[None]:
        """Look; fires at once if there is nothing to wait for."""
        self._look()
        return self._over

    def end(self) -> None:
        """Wait no longer."""
        if self._timer is not None:
            self._timer.cancel()
            self._finish()

    def _look(self) -> None:
        try:
            self.half_done = count_half_done(self._listening)
        except (OSError, struct.error) as error:
            _say_once(str(error))
            self.half_done = 0
            self._wait(self._blind_seconds, self._finish)
            return
        if self._looks_left and (self.half_done or self._looks_for_cookies > 0):
            self._looks_left -= 1
            self._looks_for_cookies -= 1
            self._wait(_BETWEEN_LOOKS, self._look)
        else:
            self._finish()

    def _wait(self, seconds: float, then: Callable[[], None]) -> None:
        if seconds:
            self._timer = self._clock.callLater(seconds, then)
        else:
            then()

    def _finish(self) -> None:
        self._timer = None
        self._over.callback(None)


@cache
def _say_once(error: str) -> None:
    """Say why handshakes cannot be counted: once, since it is the same for each listener and each stop."""
    _log.info("the system does not tell which handshakes are half done: {error}", error=error)
