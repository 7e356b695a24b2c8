"""ENDPOINT strings: those of Twisted, ``clientCA=`` for client certificates, and errors of one line."""

from __future__ import annotations

import ipaddress
import os
import re
import socket
from pathlib import Path
from typing import Any

from twisted.internet.endpoints import AdoptedStreamServerEndpoint, serverFromString
from twisted.internet.interfaces import IAddress, IStreamServerEndpoint
from twisted.python.systemd import ListenFDs

from twisted_node.command._endpoint_errors import explain as explain_error
from twisted_node.command._endpoint_reactors import ClientCertificates, Listening
from twisted_node.errors import MisuseError

__all__ = ["is_local", "is_open_to_all_users", "server_endpoint", "split_endpoint", "wants_client_certificates"]

_CLIENT_CERTIFICATES = "clientCA="
#: The mode of a unix socket whose string gives none, when its clients may stop the node or see its requests.
_PRIVATE_MODE = "mode=600"


def server_endpoint(
    reactor: Any, description: str, option: str = "endpoint", *, private: bool = False
) -> IStreamServerEndpoint:
    """Make a server endpoint.

    Args:
        reactor: what will listen.
        description: any Twisted server endpoint string except ``stdio:``. ``ssl:`` also takes ``clientCA=FILE``, a
            file of PEM certificates; a client must then show a certificate that one of them has signed.
        option: that it was given to, for errors.
        private: whether only the node's own user may connect to a unix socket if the string gives no mode.

    Returns:
        The endpoint. Its errors are of one line that names the option, too.

    Raises:
        MisuseError: the string is wrong; the text is one line.
    """
    parts = split_endpoint(description)

    def explain(error: Exception) -> MisuseError:
        return MisuseError(f"{option} {description}: {explain_error(error, parts)}")

    try:
        return _make_endpoint(Listening(reactor, explain), description, parts, private)
    except Exception as error:
        raise explain(error) from None


def _make_endpoint(reactor: Any, description: str, parts: list[str], private: bool) -> IStreamServerEndpoint:
    kind = parts[0]
    if kind == "stdio":
        raise MisuseError("stdio: is what the node speaks when it is given no endpoint")
    if kind == "unix" and parts[1:2] == [""]:
        raise MisuseError("address is missing")
    if kind == "unix" and private and not _has_mode(parts):
        description += f":{_PRIVATE_MODE}"
    try:
        if description.startswith("systemd:") and (adopted := _adopt_unnamed(reactor, description)) is not None:
            return adopted
        if wants_client_certificates(description):
            return _ssl_with_client_certificates(reactor, description)
        endpoint: IStreamServerEndpoint = serverFromString(reactor, description)
    except (ImportError, NameError):
        # Without pyOpenSSL, Twisted's parsers fail in one of these ways.
        raise MisuseError(f"{kind}: needs the tls extra: pip install 'twisted-node[tls]'") from None
    return endpoint


def split_endpoint(description: str) -> list[str]:
    """Split an ENDPOINT string at its colons, without the ``haproxy:`` that may be before it."""
    parts = re.split(r"(?<!\\):", description)
    while parts[0] == "haproxy" and len(parts) > 1:
        del parts[0]
    return parts


def _has_mode(parts: list[str]) -> bool:
    """Say whether the string of a unix socket gives its mode, by name or in the second place."""
    unnamed = [part for part in parts[1:] if "=" not in part]
    return len(unnamed) > 1 or any(part.startswith("mode=") for part in parts)


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


def is_open_to_all_users(host: IAddress | None) -> bool:
    """Say whether an address that is listened on is a unix socket that every user of this machine may connect to."""
    path = getattr(host, "name", None)
    if not isinstance(path, bytes):
        return False
    try:
        return bool(os.stat(path).st_mode & 0o007)
    except ValueError:
        # A name in the abstract namespace, which has no file and no mode.
        return True
    except OSError:
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
    checking = ClientCertificates(reactor, Path(wanted[-1].removeprefix(_CLIENT_CERTIFICATES)))
    endpoint: IStreamServerEndpoint = serverFromString(checking, ":".join(part for part in parts if part not in wanted))
    return endpoint
