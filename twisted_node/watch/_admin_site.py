"""What the admin endpoint answers: its paths."""

from __future__ import annotations

from collections.abc import Callable, Collection
from importlib import resources
from typing import Any

import msgspec
from prometheus_client.exposition import choose_encoder
from twisted.web.http import Request
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from twisted_node._seconds import read_seconds
from twisted_node.drain import Phase
from twisted_node.server import DrainingService, describe
from twisted_node.watch._admin_access import header, is_from_own_page, is_known_host
from twisted_node.watch._admin_request import PLAIN, AdminRequest
from twisted_node.watch._events import Events
from twisted_node.watch._metrics import Metrics

__all__ = ["site"]

_JSON = "application/json"

#: The page's files, by path.
_PAGE = {
    "": ("page.html", "text/html; charset=utf-8"),
    "page.css": ("page.css", "text/css; charset=utf-8"),
    "page.js": ("page.js", "text/javascript; charset=utf-8"),
}


class _QuietSite(Site):
    """A site without an access log: health checks every few seconds would fill it."""

    noisy = False

    def log(self, request: Request) -> None:
        """Do nothing."""


def site(
    service: DrainingService, events: Events, metrics: Metrics, *, may_drain: bool, hosts: Collection[str]
) -> Site:
    """Make the site of a server.

    Args:
        service: the server.
        events: what ``/events`` streams.
        metrics: the figures that ``/metrics`` shows; they know the name of the node, too.
        may_drain: whether ``/drain`` begins a drain.
        hosts: the names that browsers may call the site by, beside ``localhost`` and addresses.
    """
    root = _Root(hosts)
    files = resources.files("twisted_node.watch") / "page"
    for path, (name, content_type) in _PAGE.items():
        root.put(path, _Answers(content_type, _same((files / name).read_bytes())))
    root.open_to_all("livez", _Answers(PLAIN, lambda _: b"ok\n"))
    root.open_to_all("readyz", _Answers(PLAIN, lambda request: _readiness(service, request)))
    root.put("status", _Answers(_JSON, lambda _: _status(service, metrics)))
    root.open_to_all("metrics", _Answers(PLAIN, lambda request: _figures(metrics, request)))
    root.put("events", _Streams(events))
    root.put("drain", _Drains(service, metrics, may_drain))
    return _QuietSite(root, requestFactory=AdminRequest, reactor=service.clock)


class _Root(Resource):
    """All paths.

    Args:
        hosts: the names that browsers may call the site by, beside ``localhost`` and addresses.
    """

    def __init__(self, hosts: Collection[str]) -> None:
        super().__init__()
        self._hosts = hosts
        self._guarded: set[bytes] = set()

    def put(self, path: str, child: Resource) -> None:
        """Add a path for those who call the site by a known name."""
        self._guarded.add(path.encode())
        self.putChild(path.encode(), child)

    def open_to_all(self, path: str, child: Resource) -> None:
        """Add a path that shows no names of requests; balancers and Prometheus ask for it by any name."""
        self.putChild(path.encode(), child)

    def getChildWithDefault(self, path: bytes, request: Request) -> Any:
        if path in self._guarded and not is_known_host(request, self._hosts):
            return _Misdirected()
        return super().getChildWithDefault(path, request)


class _Misdirected(Resource):
    """The answer to a request that was meant for another server, to whatever name it was sent."""

    isLeaf = True

    def render(self, request: Request) -> bytes:
        request.setResponseCode(421)
        request.setHeader("Content-Type", PLAIN)
        return b"misdirected: Host is no name of this node; --admin-host NAME allows a name\n"


class _Path(Resource):
    """One path. Methods that it does not take are answered 405; Twisted answers 501 to those that it does not know."""

    methods: tuple[bytes, ...] = (b"GET", b"HEAD")

    def render(self, request: Request) -> Any:
        if request.method in self.methods:
            return super().render(request)
        request.setResponseCode(405)
        request.setHeader("Allow", b", ".join(self.methods))
        request.setHeader("Content-Type", PLAIN)
        return b"method not allowed\n"


class _Answers(_Path):
    """A path that is answered at once."""

    def __init__(self, content_type: str, answer: Callable[[Request], bytes]) -> None:
        super().__init__()
        self._content_type = content_type
        self._answer = answer

    def render_GET(self, request: Request) -> Any:
        request.setHeader("Content-Type", self._content_type)
        return self._answer(request)


class _Streams(_Path):
    """The live view: the answer to GET goes on until the server ends."""

    def __init__(self, events: Events) -> None:
        super().__init__()
        self._events = events

    def render_HEAD(self, request: Request) -> bytes:
        request.setHeader("Content-Type", "text/event-stream")
        return b""

    def render_GET(self, request: Request) -> int:
        self.render_HEAD(request)
        self._events.watch(request)
        return NOT_DONE_YET


class _Drains(_Path):
    """Begins a drain, or joins the one that has begun."""

    methods = (b"POST",)

    def __init__(self, service: DrainingService, metrics: Metrics, allowed: bool) -> None:
        super().__init__()
        self._service = service
        self._metrics = metrics
        self._allowed = allowed

    def render_POST(self, request: Request) -> bytes:
        request.setHeader("Content-Type", PLAIN)
        if not self._allowed:
            request.setResponseCode(403)
            return b"not allowed: start the node with --admin-drain\n"
        if not is_from_own_page(request):
            request.setResponseCode(403)
            return b"not allowed: the request comes from a page of another site\n"
        asked = request.args.get(b"timeout", [])
        try:
            timeout = _read_timeout(asked) if asked else self._service.drain_timeout
        except ValueError as error:
            request.setResponseCode(400)
            return f"timeout: {error}\n".encode()
        self._service.drain.begin(timeout, f"POST /drain from {request.getClientIP() or 'this machine'}")
        request.setResponseCode(202)
        request.setHeader("Content-Type", _JSON)
        return _status(self._service, self._metrics)


def _same(content: bytes) -> Callable[[Request], bytes]:
    return lambda _: content


def _readiness(service: DrainingService, request: Request) -> bytes:
    statistics = service.drain.statistics(oldest=0)
    if statistics.phase is Phase.SERVING and service.running:
        return b"ready\n"
    request.setResponseCode(503)
    if statistics.phase is Phase.SERVING:
        return b"not started\n"
    return f"{statistics.phase.value}: {statistics.reason}\n".encode()


def _status(service: DrainingService, metrics: Metrics) -> bytes:
    return msgspec.json.format(msgspec.json.encode(describe(service, node_id=metrics.node_id))) + b"\n"


def _figures(metrics: Metrics, request: Request) -> bytes:
    try:
        encode, content_type = choose_encoder(header(request, b"accept"))
    except (TypeError, ValueError):
        # The library fails at a version that is no number.
        encode, content_type = choose_encoder("")
    request.setHeader("Content-Type", content_type)
    figures: bytes = encode(metrics.registry)
    return figures


def _read_timeout(asked: list[bytes]) -> float:
    # Given more than once, it is no number, and the error shows all of them.
    return read_seconds(b", ".join(asked).decode(errors="replace"))
