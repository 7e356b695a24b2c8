"""What a node tells of its requests, and of lines that it cannot read."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.logger import LogLevel, formatEvent

from tests.support.lines import bodies, message
from tests.support.logs import capture_logs
from tests.support.node import NodeTestCase
from twisted_node.errors import RequestError


class UnreadableTests(NodeTestCase):
    """Lines that name nobody to answer."""

    def setUp(self) -> None:
        super().setUp()
        self.log = capture_logs(self)

    @property
    def warnings(self) -> list[str]:
        return [formatEvent(event) for event in self.log if event["log_level"] is LogLevel.warn]

    def test_on_a_socket(self) -> None:
        """On a socket it can only be the client's: it is told, in answer to nothing."""
        self.assertEqual(
            self.ask(b"hello"),
            b'{"src": "n1", "dest": "", "body": {"type": "error", "code": 12,'
            b' "text": "JSON is malformed: invalid character (byte 0)", "msg_id": 0}}\n',
        )

    def test_on_a_router(self) -> None:
        """Where others read too, nobody is told; the line is logged and counted."""
        self.sink.routes = True
        self.assertEqual(self.ask(b"hello"), b"")
        self.assertEqual(self.node.unreadable_lines, 1)
        self.assertEqual(self.warnings, ["unreadable line, 1 so far: JSON is malformed: invalid character (byte 0)"])

    def test_junk_for_ever(self) -> None:
        """Junk costs a log line every five seconds, and no more."""
        self.sink.routes = True
        for _ in range(1000):
            self.ask(b"junk")
        self.assertEqual(len(self.warnings), 1)
        self.clock.advance(5)
        self.ask(b"")
        self.assertEqual(self.warnings[1:], ["unreadable line, 1001 so far: Input data was truncated"])

    def test_long_source(self) -> None:
        """A src too long to keep is not readable."""
        self.assertEqual(
            bodies(self.ask(message("echo", src="x" * 2000)))[0]["text"], "src: longer than 1024 characters"
        )

    def test_faulty_message(self) -> None:
        """A message that is wrong but names somebody is answered to them, and is no unreadable line."""
        (body,) = bodies(self.ask(b'{"src":"c1","dest":"n1","body":{"msg_id":7}}'))
        self.assertEqual((body["code"], body["in_reply_to"]), (12, 7))
        self.assertEqual((self.node.unreadable_lines, self.warnings), (0, []))


class ObserverTests(NodeTestCase):
    """Whoever watches a node's requests."""

    def setUp(self) -> None:
        super().setUp()
        self.seen: list[tuple[str, str, float]] = []
        self.node.observer = lambda *event: self.seen.append(event)

    def test_outcomes(self) -> None:
        """It is told of each request that ended: how, and after how long."""
        self.handle({}, "now")
        self.handle(RequestError(1001, "no"), "wrong")
        answer: Deferred[None] = Deferred()
        self.handle(answer, "later")
        self.handle(Deferred(), "cut")
        for type_ in ("now", "wrong", "later", "cut"):
            self.ask(message(type_))
        self.clock.advance(2)
        answer.callback(None)
        self.drain.begin(1)
        self.ask(message("now"))
        self.clock.advance(1)
        self.assertEqual(
            self.seen,
            [
                ("now", "ok", 0.0),
                ("wrong", "error", 0.0),
                ("later", "ok", 2.0),
                ("now", "refused", 0.0),
                ("cut", "cut", 3.0),
            ],
        )

    def test_not_started(self) -> None:
        """What was never a request is not told: its type could be anything."""
        self.ask(b"junk")
        self.ask(message("nothing"))
        self.assertEqual(self.seen, [])

    def test_unencodable(self) -> None:
        """An answer that could not be sent is an error."""
        self.handle({"a": object()})
        self.ask(message("echo"))
        self.assertEqual(self.seen, [("echo", "error", 0.0)])
        self.flushLoggedErrors(TypeError)

    def test_wrong_observer(self) -> None:
        """An observer that raises is logged, and takes no answer from anybody."""

        def observer(*_: object) -> None:
            raise ValueError("no")

        self.node.observer = observer
        self.handle({})
        self.assertEqual(self.answer()["type"], "echo_ok")
        self.drain.begin(1)
        self.assertEqual(self.answer()["code"], 11)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 2)
