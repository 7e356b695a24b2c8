"""Shutting the door of a listening TCP socket: no new connection begins, and those that have begun still come through.

Linux can do it in two ways. With CAP_NET_ADMIN a socket filter drops each SYN, the packet that asks for a
connection. Without it, a decoy takes them: a second socket on the same address, whose queue is full, so that the kernel
drops what it gets. Elsewhere the queue is only made as short as it can be.
"""

from __future__ import annotations

import errno
import socket
import struct
import sys
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from ctypes import addressof, create_string_buffer

from twisted.logger import Logger

__all__ = ["LONGEST_QUEUE", "Door"]

_log = Logger()

_ON_LINUX = sys.platform.startswith("linux")

# Options of Linux that Python has no name for. From asm-generic/socket.h:
_SO_ATTACH_FILTER = 26
_SO_ATTACH_REUSEPORT_CBPF = 51
_SO_DETACH_REUSEPORT_BPF = 68
# From linux/in.h and linux/in6.h: packets that have passed too many routers are dropped.
_IP_MINTTL = 21
_IPV6_MINHOPCOUNT = 73

#: The largest number of routers that a packet may still pass. Hosts begin with 64 or 128.
_MAX_TTL = 255

#: Seconds that our own connection to the decoy may take. It never leaves this machine.
_FILL_TIMEOUT = 0.05

#: Room in the queue behind a door that is shut: the most that Linux gives by default (net.core.somaxconn, since 5.4).
LONGEST_QUEUE = 4096

#: Where a classic BPF program finds the IP header (SKF_NET_OFF of linux/filter.h).
_IP_HEADER = 0xFFF00000

# Classic BPF programs. An instruction is code, jump if true, jump if false, operand.

#: The filter: drop what has SYN and not ACK, let everything else pass. Offsets count from the TCP header.
_DROP_SYN = (
    (0x30, 0, 0, 13),  # load the byte with the TCP flags
    (0x54, 0, 0, 0x12),  # keep SYN and ACK
    (0x15, 0, 1, 0x02),  # SYN alone?
    (0x06, 0, 0, 0),  # drop
    (0x06, 0, 0, 0xFFFFFFFF),  # pass
)

#: The choice between the two sockets while the decoy is filled: all goes to the second one that listened, the decoy.
_ALL_TO_DECOY = ((0x06, 0, 0, 1),)

#: The choice from then on: what has SYN and not ACK goes to the decoy, all else to the first, the listener. What
#: belongs to a handshake that has begun finds its socket without this program; an ACK that comes here answers a SYN
#: cookie. IPv6 extension headers are not followed: clients send none.
_SYN_TO_DECOY = (
    (0x30, 0, 0, _IP_HEADER),  # load the byte with the IP version
    (0x74, 0, 0, 4),  # its upper half
    (0x15, 0, 3, 4),  # IPv4?
    (0xB1, 0, 0, _IP_HEADER),  # then skip as many bytes as its header has,
    (0x50, 0, 0, _IP_HEADER + 13),  # and load the byte with the TCP flags
    (0x05, 0, 0, 1),
    (0x30, 0, 0, _IP_HEADER + 40 + 13),  # IPv6: its header has 40 bytes
    (0x54, 0, 0, 0x12),  # keep SYN and ACK
    (0x15, 0, 1, 0x02),  # SYN alone?
    (0x06, 0, 0, 1),  # the decoy
    (0x06, 0, 0, 0),  # the listener
)


class Door:
    """The door of one listening TCP socket.

    Args:
        listening: listens, and nobody else holds it.
        cookies: whether some of the handshakes that have begun may go by SYN cookies.
    """

    def __init__(self, listening: socket.socket, *, cookies: bool = False) -> None:
        self._listening = listening
        self._cookies = cookies
        #: Whether no new connection can begin.
        self.is_shut = False
        # What is closed behind the listening socket.
        self._behind = ExitStack()

    def shut(self) -> None:
        """Let no new connection begin. If that is not possible, make the queue as short as it can be, and log why."""
        try:
            if not _ON_LINUX:
                raise OSError(errno.EOPNOTSUPP, "not on this system")
            try:
                _attach(self._listening, _SO_ATTACH_FILTER, _DROP_SYN)
            except OSError:
                self._put_up_decoy()
            # Many handshakes may end at once. One that finds the queue full is tried again only much later.
            self._listening.listen(LONGEST_QUEUE)
        except OSError as error:
            _log.info("new connections cannot be held off while a listener closes: {error}", error=error)
            with suppress(OSError):
                self._listening.listen(0)
        else:
            self.is_shut = True

    def remove(self) -> None:
        """Clear away what kept the door shut; call it as soon as the listening socket is closed, not before."""
        self._behind.close()

    def _put_up_decoy(self) -> None:
        """Have another socket get all the SYNs, and drop them.

        Raises:
            OSError: it is not possible: the address is shared with other processes, perhaps.
        """
        listening = self._listening
        if listening.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT):
            raise OSError(errno.EADDRINUSE, "SO_REUSEPORT was set: other processes may listen on the address too")
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            with ExitStack() as behind:
                _open_decoy(listening, behind, self._cookies)
                self._behind = behind.pop_all()
        except OSError:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 0)
            raise


def _open_decoy(listening: socket.socket, behind: ExitStack, cookies: bool) -> None:
    """Open a decoy for a listening socket.

    Args:
        listening: shares its address.
        behind: closes what was opened.
        cookies: whether the listening socket may have sent SYN cookies.
    """
    decoy = behind.enter_context(socket.socket(listening.family, listening.type))
    # Without this, bind() fails while the listener has open connections on the address.
    decoy.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    decoy.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    # From its first moment the decoy drops what does not come from us: until a program is attached it gets every other
    # SYN, and until its queue is full it would take the first.
    decoy.setsockopt(socket.IPPROTO_IP, _IP_MINTTL, _MAX_TTL)
    if listening.family == socket.AF_INET6:
        decoy.setsockopt(socket.IPPROTO_IPV6, _IPV6_MINHOPCOUNT, _MAX_TTL)
        only_ipv6 = listening.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
        decoy.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only_ipv6)
    decoy.bind(listening.getsockname())
    decoy.listen(0)
    _attach(decoy, _SO_ATTACH_REUSEPORT_CBPF, _ALL_TO_DECOY)
    with ExitStack() as for_a_moment:
        if cookies:
            # The kernel accepts a returning SYN cookie only if the socket has sent cookies lately. Sockets that share
            # an address also share that record, and it started afresh when the decoy joined. So we make the decoy send
            # one cookie: a first connection stays half done and takes the room in the queue, and the next one, which is
            # to fill the queue, gets a cookie.
            decoy.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 1)
            in_the_way = for_a_moment.enter_context(_fill(decoy))
            # It ends in a reset, which undoes the handshake.
            in_the_way.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        behind.enter_context(_fill(decoy))
    _attach(decoy, _SO_ATTACH_REUSEPORT_CBPF, _SYN_TO_DECOY)
    behind.callback(_take_down, decoy)


def _fill(decoy: socket.socket) -> socket.socket:
    """Fill the decoy's queue, which has room for one connection, so that it can take no other.

    The TTL check keeps out everybody but a client that sends with the largest TTL; the full queue keeps out that one.
    """
    filler = socket.socket(decoy.family, decoy.type)
    filler.settimeout(_FILL_TIMEOUT)
    filler.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, _MAX_TTL)
    if decoy.family == socket.AF_INET6:
        filler.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, _MAX_TTL)
    # This can fail, for example without a loopback interface. Then the queue stays empty, and the TTL check alone still
    # keeps out all clients that do not send with the largest TTL.
    with suppress(OSError):
        filler.connect(decoy.getsockname())
    return filler


def _attach(to: socket.socket, option: int, program: Sequence[tuple[int, int, int, int]]) -> None:
    """Attach a classic BPF program to a socket."""
    instructions = create_string_buffer(b"".join(struct.pack("HBBI", *instruction) for instruction in program))
    to.setsockopt(socket.SOL_SOCKET, option, struct.pack("HL", len(program), addressof(instructions)))


def _take_down(decoy: socket.socket) -> None:
    """End what a decoy does for all who have it."""
    with suppress(OSError):
        # Others who share the address by now would go on obeying the program.
        decoy.setsockopt(socket.SOL_SOCKET, _SO_DETACH_REUSEPORT_BPF, 0)
        # A child that was forked meanwhile has a copy, which would go on listening.
        decoy.shutdown(socket.SHUT_RDWR)
