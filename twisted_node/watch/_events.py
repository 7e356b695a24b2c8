"""The live view: the state of the server as server-sent events, each second and when its drain begins and ends."""

from __future__ import annotations

from collections import deque
from typing import Any

import msgspec
from twisted.internet.interfaces import IPushProducer
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure
from twisted.web.http import Request
from zope.interface import implementer

from twisted_node.server import DrainingService, describe
from twisted_node.watch._metrics import Metrics

__all__ = ["Events"]

#: How often the work in flight is sampled, and pictures are sent.
_SECONDS_BETWEEN_SAMPLES = 1.0
#: How many samples are kept: five minutes.
_SAMPLES = 300
#: Milliseconds until a browser connects again when the process has gone.
_RETRY_MS = 2000


class Events:
    """The streams of events to all who watch a server, and its last minutes, for those who begin to watch.

    The first event of a stream is ``history``: how many requests were in flight, sampled each second. The events that
    follow have no name and hold what :func:`~twisted_node.server.describe` returns. The last one is named ``ended``.

    Args:
        service: the server.
        metrics: know the name of the node.
    """

    def __init__(self, service: DrainingService, metrics: Metrics) -> None:
        self._service = service
        self._metrics = metrics
        self._samples: deque[int] = deque(maxlen=_SAMPLES)
        self._streams: set[_Stream] = set()
        self._ended = False
        self._loop = LoopingCall(self._sample)
        self._loop.clock = service.drain.timers

    def start(self) -> None:
        """Begin to take samples."""
        self._loop.start(_SECONDS_BETWEEN_SAMPLES)
        self._service.drain.when_draining().addCallback(self._send_picture)
        self._service.drain.when_drained().addCallback(self._send_picture)

    def watch(self, request: Request) -> None:
        """Send events in answer to a request, until it or the server ends."""
        stream = _Stream(request)
        self._streams.add(stream)
        request.notifyFinish().addErrback(self._left, stream)
        history = msgspec.json.encode({"seconds": _SECONDS_BETWEEN_SAMPLES, "in_flight": list(self._samples)})
        request.write(b"retry: %d\nevent: history\ndata: %b\n\n" % (_RETRY_MS, history))
        stream.send(self._picture())
        if self._ended:
            self.end()

    def end(self) -> None:
        """Send the last event to all streams, and finish them."""
        self._ended = True
        if self._loop.running:
            self._loop.stop()
        last, streams = b"event: ended\n" + self._picture(), list(self._streams)
        self._streams.clear()
        for stream in streams:
            stream.finish(last)

    def _sample(self) -> None:
        self._samples.append(self._service.drain.in_flight)
        self._send_picture()

    def _send_picture(self, _: object = None) -> None:
        if self._streams:
            picture = self._picture()
            for stream in self._streams:
                stream.send(picture)

    def _picture(self) -> bytes:
        return b"data: %b\n\n" % msgspec.json.encode(describe(self._service, node_id=self._metrics.node_id))

    def _left(self, _: Failure, stream: _Stream) -> None:
        self._streams.discard(stream)


@implementer(IPushProducer)
class _Stream:
    """The events of one client. While it does not read, its events are dropped, not kept."""

    def __init__(self, request: Any) -> None:
        self._request = request
        self._paused = False
        request.registerProducer(self, True)

    def send(self, event: bytes) -> None:
        if not self._paused:
            self._request.write(event)

    def finish(self, event: bytes) -> None:
        self._request.unregisterProducer()
        self._request.write(event)
        self._request.finish()

    def pauseProducing(self) -> None:
        self._paused = True

    def resumeProducing(self) -> None:
        self._paused = False

    def stopProducing(self) -> None:
        """Do nothing: ``Request.notifyFinish`` tells of the end."""
