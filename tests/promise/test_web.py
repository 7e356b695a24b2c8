"""Whatever the moment of the drain, and however the bytes of the requests arrive: one answer each."""

from __future__ import annotations

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.web import WebTests, get

REQUESTS = {
    "now": get("/now"),
    "held": get("/"),
    "body": b"POST /now HTTP/1.1\r\nContent-Length: 5\r\n\r\nGET /",
    "chunked": b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
}


class InvariantTests(WebTests):
    """One connection, its requests in pieces, and a drain."""

    @settings(deadline=None, max_examples=200)
    @given(
        kinds=st.lists(st.sampled_from(sorted(REQUESTS)), min_size=1, max_size=5),
        sizes=st.lists(st.integers(1, 60), min_size=1, max_size=40),
        drain_at=st.integers(0, 20),
        answers=st.lists(st.booleans(), min_size=1, max_size=20),
        cut_short=st.integers(0, 30),
    )
    def test_one_answer_each(
        self, kinds: list[str], sizes: list[int], drain_at: int, answers: list[bool], cut_short: int
    ) -> None:
        """Each request that has been begun gets exactly one response, and only the last may say that it is the last."""
        self.setUp()
        requests = [REQUESTS[kind] for kind in kinds]
        stream = b"".join(requests)[: -cut_short or None]
        transport = self.connect()
        position = step = 0
        ended = None
        while position < len(stream) and not transport.is_closing():
            if step == drain_at:
                ended = self.stop()
                if transport.is_closing():
                    break
            size = sizes[step % len(sizes)]
            transport.receive(stream[position : position + size])
            position += size
            if answers[step % len(answers)]:
                self.answer_one()
            step += 1
        received = min(position, len(stream))
        if ended is None:
            ended = self.stop()
        for _ in range(len(kinds)):
            self.answer_one()
        self.clock.pump([1.1, 1.1, 0])
        output = transport.take()
        # What was begun: its request line had come. (After an answer that says close, nothing is begun.)
        begun = sum(
            start + len(request.partition(b"\r\n")[0]) + 2 <= received for start, request in self.starts(requests)
        )
        responses = re.split(rb"(?=HTTP/1.1 (?:200|503) )", output)[1:]
        self.assertEqual(len(responses), begun)
        for response in responses[:-1]:
            self.assertNotIn(b"Connection: close", response)
        self.assertTrue(transport.closed)
        self.check_ended(ended, cut=0)
        self.assertEqual(self.drain.counts.undelivered, 0)

    def answer_one(self) -> None:
        """Answer the oldest request that is held and not answered."""
        for request in self.resource.requests:
            if not request.finished:
                request.write(b"held")
                request.finish()
                return

    def starts(self, requests: list[bytes]) -> list[tuple[int, bytes]]:
        """Where each request begins in the stream."""
        position, starts = 0, []
        for request in requests:
            starts.append((position, request))
            position += len(request)
        return starts
