"""What the admin endpoint answers: its paths, and the headers of all its answers."""

from __future__ import annotations

from collections.abc import Callable
from importlib import resources
from typing import Any
from urllib.parse import urlsplit

import msgspec
from prometheus_client.exposition import choose_encoder
from twisted.web.http import Request
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from twisted_node._seconds import read_seconds
from twisted_node.drain import Phase
from twisted_node.server import DrainingService, describe
from twisted_node.watch._events import Events
from twisted_node.watch._metrics import Metrics

__all__ = ["site"]

_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';"
    " img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

_PLAIN = "text/plain; charset=utf-8"
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


def site(service: DrainingService, events: Events, metrics: Metrics, *, may_drain: bool) -> Site:
    """Make the site of a server.

    Args:
        service: the server.
        events: what ``/events`` streams.
        metrics: the figures that ``/metrics`` shows.
        may_drain: whether ``/drain`` begins a drain.
    """
    root = _Root()
    files = resources.files("twisted_node.watch") / "page"
    for path, (name, content_type) in _PAGE.items():
        root.put(path, _Answers(content_type, _same((files / name).read_bytes())))
    root.put("livez", _Answers(_PLAIN, lambda _: b"ok\n"))
    root.put("readyz", _Answers(_PLAIN, lambda request: _readiness(service, request)))
    root.put("status", _Answers(_JSON, lambda _: _status(service)))
    root.put("metrics", _Answers(_PLAIN, lambda request: _figures(metrics, request)))
    root.put("events", _Streams(events))
    root.put("drain", _Drains(service, may_drain))
    return _QuietSite(root, reactor=service.clock)


class _Root(Resource):
    """All paths; sets the headers of every answer, errors too."""

    def put(self, path: str, child: Resource) -> None:
        self.putChild(path.encode(), child)

    def getChildWithDefault(self, path: bytes, request: Request) -> Any:
        for name, value in _HEADERS.items():
            request.setHeader(name, value)
        return super().getChildWithDefault(path, request)


class _Path(Resource):
    """One path. Methods that it does not take are answered 405; Twisted answers 501 to those that it does not know."""

    methods: tuple[bytes, ...] = (b"GET", b"HEAD")

    def render(self, request: Request) -> Any:
        if request.method in self.methods:
            return super().render(request)
        request.setResponseCode(405)
        request.setHeader("Allow", b", ".join(self.methods))
        request.setHeader("Content-Type", _PLAIN)
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

    def __init__(self, service: DrainingService, allowed: bool) -> None:
        super().__init__()
        self._service = service
        self._allowed = allowed

    def render_POST(self, request: Request) -> bytes:
        request.setHeader("Content-Type", _PLAIN)
        if not self._allowed:
            request.setResponseCode(403)
            return b"not allowed: start the node with --admin-drain\n"
        if not _is_same_origin(request):
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
        return _status(self._service)


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


def _status(service: DrainingService) -> bytes:
    return msgspec.json.format(msgspec.json.encode(describe(service))) + b"\n"


def _figures(metrics: Metrics, request: Request) -> bytes:
    encode, content_type = choose_encoder(request.getHeader("Accept") or "")
    request.setHeader("Content-Type", content_type)
    figures: bytes = encode(metrics.registry)
    return figures


def _is_same_origin(request: Request) -> bool:
    """Say whether a request was not made by a page of another site.

    Browsers say where a request comes from, in one of these headers; programs send neither.
    """
    if request.getHeader("Sec-Fetch-Site") not in (None, "same-origin", "none"):
        return False
    origin = request.getHeader("Origin")
    return origin is None or urlsplit(origin).netloc == request.getHeader("Host")


def _read_timeout(asked: list[bytes]) -> float:
    # Given more than once, it is no number, and the error shows all of them.
    return read_seconds(b", ".join(asked).decode(errors="replace"))
