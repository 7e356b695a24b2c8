"""A client of HTTP/2, in memory."""

from __future__ import annotations

from typing import Any

import h2.config
import h2.connection
import h2.events
from hyperframe.frame import Frame, HeadersFrame
from twisted.internet import reactor
from twisted.internet.task import Clock, deferLater

from tests.support.transports import MemoryTransport
from twisted_node.web._site import DrainingSite


class HTTP2Client:
    """One HTTP/2 connection in memory, and what it has heard."""

    def __init__(self, site: DrainingSite, clock: Clock) -> None:
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding=None))
        self.h2.initiate_connection()
        self.transport = MemoryTransport(clock)
        self.transport.negotiatedProtocol = b"h2"  # type: ignore[attr-defined] # as TLS tells it
        self.transport.connect(site.buildProtocol(self.transport.getPeer()))
        self.events: list[Any] = []
        self.flush()

    def flush(self) -> None:
        self.transport.receive(self.h2.data_to_send())

    def ask(self, stream: int, path: str = "/", method: str = "GET", *, whole: bool = True) -> None:
        """Ask on a stream of this number."""
        headers = [(":method", method), (":path", path), (":scheme", "https"), (":authority", "x")]
        self.h2.send_headers(stream, headers, end_stream=whole)
        self.flush()

    def ask_in_spite(self, stream: int, path: str = "/") -> None:
        """Ask as a client that has not heard of GOAWAY yet; having heard it, h2 sends nothing more."""
        frame = HeadersFrame(stream, flags=["END_HEADERS", "END_STREAM"])
        headers = [(":method", "GET"), (":path", path), (":scheme", "https"), (":authority", "x")]
        frame.data = self.h2.encoder.encode(headers)
        self.transport.receive(frame.serialize())

    async def frames(self) -> list[Frame]:
        """The frames that the server has written since the last time."""
        for _ in range(20):
            await deferLater(reactor, 0)
        data, frames = memoryview(self.transport.take()), []
        while data:
            frame, length = Frame.parse_frame_header(data[:9])
            frame.parse_body(data[9 : 9 + length])
            frames.append(frame)
            data = data[9 + length :]
        return frames

    async def listen(self) -> list[Any]:
        """Hear what the server says; Twisted sends from the global reactor, in several turns."""
        for _ in range(20):
            await deferLater(reactor, 0)
            self.events += self.h2.receive_data(self.transport.take())
        return self.events

    async def statuses(self) -> dict[int | None, bytes]:
        """The statuses heard so far, by stream."""
        return {
            event.stream_id: dict(event.headers)[b":status"]
            for event in await self.listen()
            if isinstance(event, h2.events.ResponseReceived)
        }

    def ended(self) -> set[int | None]:
        """The streams that came to their regular end."""
        return {event.stream_id for event in self.events if isinstance(event, h2.events.StreamEnded)}

    def reset(self) -> set[int | None]:
        """The streams that were reset."""
        return {event.stream_id for event in self.events if isinstance(event, h2.events.StreamReset)}

    def goodbyes(self) -> list[h2.events.ConnectionTerminated]:
        """Each GOAWAY that was heard."""
        return [event for event in self.events if isinstance(event, h2.events.ConnectionTerminated)]

    def going_away(self) -> bool:
        """Whether GOAWAY was heard."""
        return bool(self.goodbyes())
