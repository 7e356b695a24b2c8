"""Everything of Twisted's that has no public way, and that ``server`` needs all the same.

Nothing else in ``server`` uses a private name of Twisted's. ``tests/unit/server/test_twisted.py`` has a test for each
function here, on Twisted's real classes: it fails when Twisted changes what the function relies on.
"""

from __future__ import annotations

import fcntl
import socket
import struct
import sys
import termios
from collections.abc import Callable
from select import POLLIN, poll
from typing import Any

from twisted.internet import tcp, unix
from twisted.internet.abstract import FileDescriptor
from twisted.internet.interfaces import IHalfCloseableProtocol, IHandshakeListener, ISSLTransport
from twisted.protocols.policies import ProtocolWrapper
from zope.interface import alsoProvides

__all__ = [
    "accept_waiting",
    "call_instead_of_close",
    "close_raw",
    "half_close_now",
    "hold_back",
    "is_half_closed",
    "raw_transport",
    "read_waiting",
    "replace_close",
    "restore_close",
    "restore_half_close",
    "take_back_close",
    "unsent_bytes",
    "untaken_bytes",
    "watch_handshake",
    "write_now",
]

#: How often a connection's unread bytes are read before it is closed: 64 KiB each, so a client that floods ends too.
_READS_BEFORE_CLOSE = 16

_ON_LINUX = sys.platform.startswith("linux")
_UNIX = (unix.Server, unix.Client)


def unsent_bytes(transport: Any) -> int:
    """Count the bytes written to a transport that are still in this process; 0 if it cannot be known."""
    raw = raw_transport(transport)
    if not isinstance(raw, FileDescriptor):
        return 0
    # TLS gathers small writes for a turn of the reactor before it encrypts them.
    gathered = getattr(getattr(transport, "_aggregator", None), "_buffer", ())
    return len(raw.dataBuffer) - raw.offset + raw._tempDataLen + sum(len(data) for data in gathered)


def untaken_bytes(transport: Any) -> int:
    """Count the bytes that have left this process, and that the client's kernel has not acknowledged yet.

    Known for TCP on Linux only, and 0 otherwise. (What was written to a unix socket stays there for its reader.)
    """
    raw = raw_transport(transport)
    # The classes of unix sockets are made from those of TCP. (To ask a socket for its family takes longer.)
    if not (_ON_LINUX and isinstance(raw, tcp.Connection) and raw.connected) or isinstance(raw, _UNIX):
        return 0
    count = _ask_kernel(raw, termios.TIOCOUTQ)
    # The kernel counts our FIN as a byte, until it is acknowledged with all that is before it.
    return max(0, count - 1) if raw._writeDisconnected else count


def read_waiting(transport: Any) -> bool:
    """Read what waits in the kernel for a connection, in this turn; its protocol gets it as always.

    Nothing is read while answers pile up because the client does not read them.

    Returns:
        Whether something still waits there.
    """
    raw = raw_transport(transport)
    if not isinstance(raw, FileDescriptor):
        return False
    for _ in range(_READS_BEFORE_CLOSE):
        if raw.disconnected or not _ask_kernel(raw, termios.FIONREAD):
            return False
        if raw.producerPaused:
            break
        # doRead() returns a reason if input has ended or failed. We ignore it: the reactor will read the same again,
        # and acts on it then.
        raw.doRead()
    return True


def restore_half_close(transport: Any, protocol: Any) -> None:
    """Have a client's half-close reach the protocol through ``haproxy:`` too, whose wrapper hides it.

    Through TLS it cannot: there a client that closes its half ends the connection.
    """
    if isinstance(transport, ProtocolWrapper) and not ISSLTransport.providedBy(transport):
        wrapper: Any = transport
        alsoProvides(wrapper, IHalfCloseableProtocol)
        wrapper.readConnectionLost = protocol.readConnectionLost
        wrapper.writeConnectionLost = protocol.writeConnectionLost


def watch_handshake(transport: Any, protocol: Any) -> bool:
    """Have the end of a TLS handshake reach the protocol through ``haproxy:`` too, whose wrapper hides it.

    Args:
        transport: of a connection that is being made.
        protocol: provides ``IHandshakeListener``, which is all that is needed without a wrapper.

    Returns:
        Whether there is a handshake to wait for.
    """
    if not ISSLTransport.providedBy(transport):
        return False
    wrapper: Any = transport
    while isinstance(getattr(wrapper, "transport", None), ProtocolWrapper):
        alsoProvides(wrapper, IHandshakeListener)
        wrapper.handshakeCompleted = protocol.handshakeCompleted
        wrapper = wrapper.transport
    return True


def _ask_kernel(raw: FileDescriptor, question: int) -> int:
    """Ask the kernel for a number of bytes; 0 if it cannot tell."""
    try:
        answer = fcntl.ioctl(raw.fileno(), question, bytes(4))
    except (OSError, ValueError):
        return 0
    count: int = struct.unpack("i", answer)[0]
    return count


def raw_transport(transport: Any) -> Any:
    """Find the transport under all its wrappers."""
    while (inner := getattr(transport, "transport", None)) is not None:
        transport = inner
    return transport


def write_now(transport: Any, data: bytes) -> None:
    """Write, in this turn if nothing is queued: that saves the reactor two calls to epoll for each answer."""
    if (
        isinstance(transport, FileDescriptor)
        and transport.connected
        and not transport._tempDataLen
        and transport.offset == len(transport.dataBuffer)
    ):
        sent = transport.writeSomeData(data)
        # An error is found again by the reactor, which knows what to do.
        data = data[sent:] if isinstance(sent, int) else data
    if data:
        transport.write(data)


def hold_back(raw: Any) -> None:
    """Have the kernel send the last bytes of a connection together with our end, in one packet.

    Otherwise a quick client could read its answer, find no end behind it yet, and send its next request into the end.
    TCP on Linux only: a unix socket has no packets.

    Args:
        raw: the transport, without its wrappers; it is half-closed as soon as it has sent everything.
    """
    if _ON_LINUX and isinstance(raw, tcp.Connection) and raw.connected and not isinstance(raw, _UNIX):
        raw.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)


def half_close_now(raw: Any) -> None:
    """Close our half of a connection that has nothing left to send.

    Args:
        raw: the transport, without its wrappers.
    """
    raw.loseWriteConnection()
    if isinstance(raw, FileDescriptor):
        # In this turn of the reactor, not the next: what a client sent in between would stay without an answer.
        raw.doWrite()


def take_back_close(raw: Any) -> bool:
    """Cancel an earlier ``loseConnection()``, which would close as soon as everything has been sent.

    Args:
        raw: the transport, without its wrappers.

    Returns:
        Whether that was possible: it is one of the reactor's, open, and without a producer that still has to send.
    """
    if not isinstance(raw, FileDescriptor) or not raw.connected or raw.producer is not None:
        return False
    raw.__dict__.pop("_postLoseConnection", None)
    raw.disconnecting = False
    raw.startReading()
    return True


def replace_close(transport: Any, lose_connection: Callable[[], object]) -> None:
    """Have a protocol's ``transport.loseConnection()`` call a function of ours; for sockets only.

    The protocol has the transport itself, with all its interfaces, and Twisted tells nobody of that call.

    Args:
        transport: of a connection, with its wrappers.
        lose_connection: is called in the place of the transport's own method.
    """
    if isinstance(raw_transport(transport), FileDescriptor):
        transport.loseConnection = lose_connection


def restore_close(transport: Any) -> None:
    """Undo ``replace_close``: otherwise a cycle of references would keep a lost connection for the collector."""
    transport.__dict__.pop("loseConnection", None)


def call_instead_of_close(raw: Any, call: Callable[[], object]) -> None:
    """Have a transport that was told ``loseConnection()`` call a function when all is sent, and not close.

    Until then everything is as ever: it does not read, and says that it is ``disconnecting``, which a ``LineReceiver``
    looks at between two lines.

    Args:
        raw: the transport, without its wrappers.
        call: is called once.
    """
    if not isinstance(raw, FileDescriptor):
        return

    def sent() -> None:
        del raw._postLoseConnection
        # A producer that is not paused does not hold up a close.
        raw.unregisterProducer()
        raw.disconnecting = False
        call()

    raw._postLoseConnection = sent  # type: ignore[method-assign] # Twisted calls it in the place of a close


def is_half_closed(raw: Any) -> bool:
    """Say whether our half of a connection is closed: ``loseConnection()`` would then close the rest at once.

    Args:
        raw: the transport, without its wrappers.
    """
    return isinstance(raw, FileDescriptor) and bool(raw._writeDisconnected)


def close_raw(raw: Any) -> None:
    """Close a connection, whatever is wrapped around it.

    Args:
        raw: the transport, without its wrappers.
    """
    if isinstance(raw, FileDescriptor):
        # ``startTLS`` gives the transport a ``loseConnection`` of its own, which would wait for the client's
        # close_notify.
        FileDescriptor.loseConnection(raw)
    else:
        raw.loseConnection()


def accept_waiting(port: tcp.Port, at_most: int) -> int:
    """Accept whoever waits in the queue; return how many.

    Args:
        port: listens.
        at_most: how many, even if new ones keep coming.
    """
    waiting = poll()
    waiting.register(port.socket, POLLIN)
    for accepted in range(at_most):
        if not waiting.poll(0):
            return accepted
        # Otherwise Twisted accepts up to 100 at once.
        port.numberAccepts = 1
        port.doRead()
    return at_most
