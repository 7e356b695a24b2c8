"""What a service is put together from, checked where it is given: an error names the argument and what was expected."""

from __future__ import annotations

from typing import Any
from weakref import WeakSet

from twisted.internet.endpoints import SSL4ServerEndpoint, TCP4ServerEndpoint, TCP6ServerEndpoint
from twisted.internet.interfaces import IProtocolFactory, IStreamServerEndpoint
from twisted.logger import Logger

from twisted_node.drain import Drain
from twisted_node.errors import MisuseError
from twisted_node.handover._twisted import innermost_endpoint
from twisted_node.server._connections import IDrainingFactory

__all__ = ["binds_tcp", "check_drain", "check_endpoint_and_factory"]

_log = Logger()

#: The drains that have their service.
_taken: WeakSet[Drain] = WeakSet()


def check_drain(drain: object) -> None:
    """Check a service's drain, and remember that it has its service.

    Raises:
        MisuseError: it is no drain, or another service has it.
    """
    if not isinstance(drain, Drain):
        raise MisuseError(f"drain: expected a Drain, got {drain!r}")
    if drain in _taken:
        raise MisuseError("drain: expected one for this service alone, got one that another service has")
    _taken.add(drain)


def check_endpoint_and_factory(endpoint: object, factory: object) -> None:
    """Check what a service is to listen with; a plain Site is warned of.

    Raises:
        MisuseError: the one is no server endpoint, or the other no factory.
    """
    if isinstance(endpoint, str):
        raise MisuseError(
            f"endpoint: expected a server endpoint, got text: serverFromString(reactor, {endpoint!r}) makes one of it"
        )
    if not IStreamServerEndpoint.providedBy(endpoint):
        raise MisuseError(f"endpoint: expected a server endpoint, got {endpoint!r}")
    if not IProtocolFactory.providedBy(factory):
        raise MisuseError(f"factory: expected a protocol factory, got {factory!r}")
    _warn_of_plain_site(factory)


def _warn_of_plain_site(factory: Any) -> None:
    """Warn of a factory for HTTP that does not drain by request, though one that does could take its place.

    Args:
        factory: what a service was given. Its classes are told by their names: twisted.web need not be installed whole.
    """
    while (inner := getattr(factory, "wrappedFactory", None)) is not None:
        factory = inner
    if not IDrainingFactory.providedBy(factory) and any(
        (cls.__module__, cls.__name__) == ("twisted.web.http", "HTTPFactory") for cls in type(factory).__mro__
    ):
        _log.warn(
            "{factory} is drained by connection: clients that keep theirs open hold up the end, until the deadline; "
            "twisted_node.web.DrainingSite is drained by request",
            factory=factory,
        )


def binds_tcp(endpoint: Any) -> bool:
    """Say whether an endpoint binds a TCP port, which may need a privilege that the process gives up later."""
    return isinstance(innermost_endpoint(endpoint), (TCP4ServerEndpoint, TCP6ServerEndpoint, SSL4ServerEndpoint))
