"""A stand-in for the reactor while an endpoint listens: it listens with the sockets that a predecessor handed on.

So it works with any endpoint that asks a reactor to listen, however it is wrapped. A socket is found by the address as
it is asked for: port 0 stays 0, and of several the first goes first.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from twisted.internet import tcp, unix
from twisted.internet.interfaces import IListeningPort, IProtocolFactory
from zope.interface import directlyProvides, providedBy

from twisted_node.handover._inheritance import Inheritance
from twisted_node.handover._twisted import leave_path_alone, listen_with, reactor_of

__all__ = ["Adopting", "adopting"]


class Adopting:
    """A reactor, as far as an endpoint needs one to listen.

    Args:
        reactor: what listens.
        inheritance: the sockets that a predecessor handed on.
    """

    def __init__(self, reactor: Any, inheritance: Inheritance) -> None:
        self._reactor = reactor
        self._inheritance = inheritance
        #: The address that was asked for, as a text to compare; None if none was.
        self.asked: str | None = None
        #: The descriptor that was asked for, if it was one that somebody else had opened.
        self.descriptor: int | None = None
        #: Whether its socket came from a predecessor.
        self.adopted = False
        #: The path of a unix socket, and whether it has a lock.
        self.path = b""
        self.locked = False
        directlyProvides(self, providedBy(reactor))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def listenTCP(self, port: int, factory: IProtocolFactory, backlog: int = 50, interface: str = "") -> IListeningPort:
        """Listen; the arguments are those of ``IReactorTCP.listenTCP``."""
        if (listening := self._take("tcp", interface, port)) is None:
            opened: IListeningPort = self._reactor.listenTCP(port, factory, backlog, interface)
            return opened
        return listen_with(tcp.Port(port, factory, backlog, interface, self._reactor), listening)

    def listenSSL(
        self, port: int, factory: IProtocolFactory, contextFactory: Any, backlog: int = 50, interface: str = ""
    ) -> IListeningPort:
        """Listen; the arguments are those of ``IReactorSSL.listenSSL``."""
        if (listening := self._take("tcp", interface, port)) is None:
            opened: IListeningPort = self._reactor.listenSSL(port, factory, contextFactory, backlog, interface)
            return opened
        from twisted.protocols.tls import TLSMemoryBIOFactory

        over_tls = TLSMemoryBIOFactory(contextFactory, False, factory)
        return listen_with(tcp.Port(port, over_tls, backlog, interface, self._reactor), listening)

    def listenUNIX(
        self,
        address: str | bytes,
        factory: IProtocolFactory,
        backlog: int = 50,
        mode: int = 0o666,
        wantPID: bool = False,
    ) -> IListeningPort:
        """Listen; the arguments are those of ``IReactorUNIX.listenUNIX``."""
        self.path = os.fsencode(address)
        self.locked = bool(wantPID)
        if (listening := self._take("unix", os.fsdecode(address))) is None:
            opened: IListeningPort = self._reactor.listenUNIX(address, factory, backlog, mode, wantPID)
            return opened
        port = unix.Port(self.path, factory, backlog, mode, self._reactor)
        # The path is our predecessor's until it is our turn.
        leave_path_alone(port, shared=True)
        return listen_with(port, listening)

    def adoptStreamPort(self, fileDescriptor: int, addressFamily: int, factory: IProtocolFactory) -> IListeningPort:
        """Listen; the arguments are those of ``IReactorSocket.adoptStreamPort``."""
        self.descriptor = fileDescriptor
        port: IListeningPort = self._reactor.adoptStreamPort(fileDescriptor, addressFamily, factory)
        return port

    def _take(self, *asked: str | int) -> socket.socket | None:
        self.asked = json.dumps(asked)
        listening = self._inheritance.take(self.asked)
        self.adopted = listening is not None
        return listening


@contextmanager
def adopting(endpoint: Any, inheritance: Inheritance) -> Iterator[Adopting | None]:
    """Stand in for the reactor of an endpoint; None if it cannot be found.

    Args:
        endpoint: listens meanwhile.
        inheritance: the sockets that a predecessor handed on.
    """
    if (place := reactor_of(endpoint)) is None:
        yield None
        return
    holder, name, reactor = place
    stand_in = Adopting(reactor, inheritance)
    setattr(holder, name, stand_in)
    try:
        yield stand_in
    finally:
        setattr(holder, name, reactor)
