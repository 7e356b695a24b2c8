"""ENDPOINT strings: those of Twisted, ``clientCA=`` for client certificates, and errors of one line."""

from __future__ import annotations

import ipaddress
import os
import re
import socket
from pathlib import Path
from typing import Any

from twisted.internet.endpoints import AdoptedStreamServerEndpoint, serverFromString
from twisted.internet.interfaces import IAddress, IListeningPort, IProtocolFactory, IStreamServerEndpoint
from twisted.python.systemd import ListenFDs

from twisted_node.errors import MisuseError

__all__ = ["is_local", "server_endpoint", "wants_client_certificates"]

_CLIENT_CERTIFICATES = "clientCA="
_END_OF_CERTIFICATE = b"-----END CERTIFICATE-----"


def server_endpoint(reactor: Any, description: str) -> IStreamServerEndpoint:
    """Make a server endpoint.

    Args:
        reactor: what will listen.
        description: any Twisted server endpoint string except ``stdio:``. ``ssl:`` also takes ``clientCA=FILE``, a
            file of PEM certificates; a client must then show a certificate that one of them has signed.

    Raises:
        MisuseError: the string is wrong; the text is one line.
    """
    kind = description.partition(":")[0]
    if kind == "stdio":
        raise MisuseError("stdio: is what the node speaks when it is given no endpoint")
    try:
        if kind == "systemd" and (adopted := _adopt_unnamed(reactor, description)) is not None:
            return adopted
        if wants_client_certificates(description):
            return _ssl_with_client_certificates(reactor, description)
        endpoint: IStreamServerEndpoint = serverFromString(reactor, description)
    except (ImportError, NameError):
        # Without pyOpenSSL, Twisted's parsers fail in one of these ways.
        raise MisuseError(f"{kind}: needs the tls extra: pip install 'twisted-node[tls]'") from None
    except Exception as error:
        if kind == "systemd" and isinstance(error, IndexError):
            raise MisuseError("systemd: needs its sockets (LISTEN_FDS), and a process that stays in front") from None
        # A TypeError begins with the name of the parser's function, which the user has never heard of.
        text = re.sub(r"^\S+\(\) ", "", " ".join(str(error).split()))
        raise MisuseError(text or repr(error)) from None
    return endpoint


def wants_client_certificates(description: str) -> bool:
    """Say whether an ENDPOINT string lets in only clients that show a certificate."""
    return description.startswith("ssl:") and any(
        part.startswith(_CLIENT_CERTIFICATES) for part in description.split(":")
    )


def is_local(host: IAddress | None) -> bool:
    """Say whether an address that is listened on can be reached from this machine only."""
    name = getattr(host, "host", None)
    if not isinstance(name, str):
        return True
    try:
        return ipaddress.ip_address(name.partition("%")[0]).is_loopback
    except ValueError:
        return False


def _adopt_unnamed(reactor: Any, description: str) -> IStreamServerEndpoint | None:
    """Make the endpoint of a ``systemd:`` string from an inherited socket without a name; None if there are no such.

    systemd names its sockets, other parents may not, and Twisted finds only sockets with names.
    """
    try:
        # Twisted removes the variables from os.environ when it is imported, even if it finds no socket.
        entries = Path("/proc/self/environ").read_text(errors="surrogateescape").split("\0")
    except OSError:
        return None
    environment = dict(entry.split("=", 1) for entry in entries if "=" in entry)
    if environment.get("LISTEN_PID") != str(os.getpid()) or "LISTEN_FDNAMES" in environment:
        return None
    # The name that systemd gives to a socket without one.
    environment["LISTEN_FDNAMES"] = ":".join(["unknown"] * int(environment.get("LISTEN_FDS", "0")))
    sockets = ListenFDs.fromEnvironment(environment)
    arguments = description.split(":")[1:]
    positional = [argument for argument in arguments if "=" not in argument]
    named = dict(argument.split("=", 1) for argument in arguments if "=" in argument)
    return _adopt(reactor, sockets, *positional, **named)


def _adopt(
    reactor: Any, sockets: ListenFDs, domain: str, index: str | None = None, name: str | None = None
) -> IStreamServerEndpoint:
    if (index is None) == (name is None):
        raise ValueError("Specify exactly one of descriptor index or name")
    if index is not None:
        descriptor = sockets.inheritedDescriptors()[int(index)]
    else:
        descriptor = sockets.inheritedNamedDescriptors()[str(name)]
    endpoint: IStreamServerEndpoint = AdoptedStreamServerEndpoint(reactor, descriptor, getattr(socket, f"AF_{domain}"))
    return endpoint


def _ssl_with_client_certificates(reactor: Any, description: str) -> IStreamServerEndpoint:
    parts = description.split(":")
    wanted = [part for part in parts if part.startswith(_CLIENT_CERTIFICATES)]
    checking = _ClientCertificates(reactor, Path(wanted[-1].removeprefix(_CLIENT_CERTIFICATES)))
    endpoint: IStreamServerEndpoint = serverFromString(checking, ":".join(part for part in parts if part not in wanted))
    return endpoint


class _ClientCertificates:
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
