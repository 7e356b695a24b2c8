"""Stand-ins for the reactor, as far as an endpoint needs one to listen.

What Twisted makes of an ENDPOINT string reaches the reactor as arguments of its public methods. There it is changed
where the string cannot say what is wanted.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.interfaces import IListeningPort, IProtocolFactory
from zope.interface import directlyProvides, providedBy

from twisted_node.errors import MisuseError

__all__ = ["ClientCertificates", "Listening"]

_END_OF_CERTIFICATE = b"-----END CERTIFICATE-----"


class Listening:
    """A reactor that says why it cannot listen, and makes unix sockets with their mode from the first moment.

    Args:
        reactor: what listens.
        explain: makes the error that is raised of the one that has happened.
    """

    def __init__(self, reactor: Any, explain: Callable[[Exception], MisuseError]) -> None:
        self._reactor = reactor
        self._explain = explain
        directlyProvides(self, providedBy(reactor))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def listenTCP(self, *arguments: Any, **options: Any) -> IListeningPort:
        """Listen; the arguments are those of ``IReactorTCP.listenTCP``."""
        return self._listen(self._reactor.listenTCP, *arguments, **options)

    def listenSSL(self, *arguments: Any, **options: Any) -> IListeningPort:
        """Listen; the arguments are those of ``IReactorSSL.listenSSL``."""
        return self._listen(self._reactor.listenSSL, *arguments, **options)

    def adoptStreamPort(self, *arguments: Any, **options: Any) -> IListeningPort:
        """Listen; the arguments are those of ``IReactorSocket.adoptStreamPort``."""
        return self._listen(self._reactor.adoptStreamPort, *arguments, **options)

    def listenUNIX(self, *arguments: Any, mode: int = 0o666, **options: Any) -> IListeningPort:
        """Listen; the arguments are those of ``IReactorUNIX.listenUNIX``."""
        # Twisted sets the mode after it has bound the path; until then anybody could connect.
        before = os.umask(0o777 & ~mode)
        try:
            return self._listen(self._reactor.listenUNIX, *arguments, mode=mode, **options)
        finally:
            os.umask(before)

    def _listen(self, listen: Callable[..., IListeningPort], *arguments: Any, **options: Any) -> IListeningPort:
        try:
            return listen(*arguments, **options)
        except Exception as error:
            raise self._explain(error) from error


class ClientCertificates:
    """A reactor, as far as an ``ssl:`` endpoint needs one, whose TLS servers want certificates of their clients.

    Twisted's endpoint strings cannot ask for this. What they make of a string goes to the reactor, as arguments of the
    public ``listenSSL``.

    Args:
        reactor: what listens.
        path: of a file with the certificates, one of which must have signed the client's own.

    Raises:
        MisuseError: there is no certificate in the file.
    """

    def __init__(self, reactor: Any, path: Path) -> None:
        from twisted.internet.ssl import Certificate, trustRootFromCertificates

        *certificates, _ = path.read_bytes().split(_END_OF_CERTIFICATE)
        if not certificates:
            raise MisuseError(f"{path}: no certificates in it")
        self._reactor = reactor
        self._trust_root = trustRootFromCertificates(
            [Certificate.loadPEM(certificate + _END_OF_CERTIFICATE) for certificate in certificates]
        )

    def listenSSL(self, port: int, factory: IProtocolFactory, contextFactory: Any, **options: Any) -> IListeningPort:
        """Listen; the options are those of ``IReactorSSL.listenSSL``."""
        contextFactory.trustRoot = self._trust_root
        contextFactory.verify = contextFactory.requireCertificate = True
        listening: IListeningPort = self._reactor.listenSSL(port, factory, contextFactory, **options)
        return listening
