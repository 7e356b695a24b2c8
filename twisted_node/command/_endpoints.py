"""ENDPOINT strings: Twisted's own, client certificates besides, and errors in one line."""

from __future__ import annotations

import ipaddress
import os
import re
from pathlib import Path
from typing import Any

from twisted.internet.endpoints import _SystemdParser, serverFromString
from twisted.internet.interfaces import IAddress, IStreamServerEndpoint
from twisted.python.systemd import ListenFDs

from twisted_node.errors import MisuseError

__all__ = ["is_local", "server_endpoint", "wants_client_certificates"]

_CLIENT_CERTIFICATES = "clientCA="
_END_OF_CERTIFICATE = b"-----END CERTIFICATE-----"


def server_endpoint(reactor: Any, description: str) -> IStreamServerEndpoint:
    """Make a server endpoint.

    Args:
        reactor: what will listen.
        description: any Twisted server endpoint string but ``stdio:``. ``ssl:`` takes ``clientCA=FILE`` besides: PEM
            certificates, one of which must have signed the client's own.

    Raises:
        MisuseError: the string says nothing that could be listened to; the text is one line.
    """
    kind = description.partition(":")[0]
    if kind == "stdio":
        raise MisuseError("stdio: is what the node speaks when it is given no endpoint")
    try:
        if kind == "systemd":
            _name_inherited_sockets()
        if wants_client_certificates(description):
            return _ssl_with_client_certificates(reactor, description)
        endpoint: IStreamServerEndpoint = serverFromString(reactor, description)
    except (ImportError, NameError):
        # Twisted's parsers trip over their own missing imports.
        raise MisuseError(f"{kind}: needs the tls extra: pip install 'twisted-node[tls]'") from None
    except Exception as error:
        if kind == "systemd" and isinstance(error, IndexError):
            raise MisuseError("systemd: needs its sockets (LISTEN_FDS), and a process that stays in front") from None
        # Without the name of the function that Twisted called wrongly.
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


def _name_inherited_sockets() -> None:
    """Have Twisted see inherited sockets that have no names; systemd gives them one, other parents may not."""
    try:
        # Twisted looks at the environment when it is imported, and removes what it does not understand.
        entries = Path("/proc/self/environ").read_text(errors="surrogateescape").split("\0")
    except OSError:
        return
    environment = dict(entry.split("=", 1) for entry in entries if "=" in entry)
    if environment.get("LISTEN_PID") == str(os.getpid()) and "LISTEN_FDNAMES" not in environment:
        environment["LISTEN_FDNAMES"] = ":".join(["unknown"] * int(environment.get("LISTEN_FDS", "0")))
        _SystemdParser._sddaemon = ListenFDs.fromEnvironment(environment)


def _ssl_with_client_certificates(reactor: Any, description: str) -> IStreamServerEndpoint:
    from twisted.internet.ssl import Certificate, trustRootFromCertificates

    parts = description.split(":")
    wanted = [part for part in parts if part.startswith(_CLIENT_CERTIFICATES)]
    endpoint: Any = serverFromString(reactor, ":".join(part for part in parts if part not in wanted))
    path = Path(wanted[-1].removeprefix(_CLIENT_CERTIFICATES))
    *certificates, _ = path.read_bytes().split(_END_OF_CERTIFICATE)
    if not certificates:
        raise MisuseError(f"{path}: no certificates in it")
    # Twisted's strings have no words for this; what they build takes it.
    options = endpoint._sslContextFactory
    options.trustRoot = trustRootFromCertificates(
        [Certificate.loadPEM(certificate + _END_OF_CERTIFICATE) for certificate in certificates]
    )
    options.verify = options.requireCertificate = True
    return endpoint  # type: ignore[no-any-return] # Any, to reach its options
