"""Annotations for arguments that a zope interface describes.

mypy knows which classes implement a zope interface only with the plugin of mypy-zope. A user's program is checked
without it, and would be told that neither ``Clock`` nor ``TCP4ServerEndpoint`` nor ``Factory`` is what is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from twisted.internet.interfaces import IProtocolFactory
    from twisted.internet.protocol import Factory

__all__ = ["AnyClock", "AnyEndpoint", "AnyFactory"]

#: Provides ``IReactorTime``: the reactor, or ``twisted.internet.task.Clock``.
AnyClock: TypeAlias = Any
#: Provides ``IStreamServerEndpoint``.
AnyEndpoint: TypeAlias = Any
#: Provides ``IProtocolFactory``; nearly all are made from Twisted's ``Factory``.
AnyFactory: TypeAlias = "IProtocolFactory | Factory[Any]"
