"""The node: one message in, one answer out."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import LogLevel, formatEvent
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.support.lines import INIT, INIT_OK, bodies, message
from tests.support.logs import capture_logs
from tests.support.memory import House, Sink
from twisted_node.drain import Drain, Phase, Statistics
from twisted_node.errors import ErrorCode, MisuseError, RequestError
from twisted_node.node._handlers import Answer, Fixed, Request
from twisted_node.node._node import Node
from twisted_node.node._outgoing import Identity, Outgoing
from twisted_node.node._plain import PlainBody


class NodeTestCase(SynchronousTestCase):
    """A node in memory, with the handlers that a test gives it."""

    node_id: str | None = "n1"

    def setUp(self) -> None:
        self.house = House(self.node_id)
        self.node, self.drain, self.clock = self.house.node, self.house.drain, self.house.clock
        self.sink = Sink()

    def ask(self, line: bytes) -> bytes:
        """One line in, what comes out at once."""
        self.node.receive(line, self.sink)
        return self.sink.take()

    def answer(self, type_: str = "echo", msg_id: Any = 2, **fields: Any) -> dict[str, Any]:
        """One request in, the body of its one answer."""
        (body,) = bodies(self.ask(message(type_, msg_id, **fields)))
        return body

    def handle(self, answer: Any, type_: str = "echo", **terms: Any) -> list[Request[Any]]:
        """Have requests of a type answered with a value, or by raising it; return those that come."""
        requests: list[Request[Any]] = []

        def handler(request: Request[Any]) -> Answer:
            requests.append(request)
            if isinstance(answer, BaseException):
                raise answer
            given: Answer = answer
            return given

        self.node.handle(type_, **terms)(handler)
        return requests


class InitTests(NodeTestCase):
    """A node that has no name yet."""

    node_id = None

    def test_init(self) -> None:
        """The first init gives the node its name."""
        self.assertEqual(self.ask(INIT), INIT_OK)
        self.assertEqual((self.node.node_id, self.node.node_ids), ("n1", ("n1",)))

    def test_again(self) -> None:
        """The same init again is fine; another name is not, and changes nothing."""
        self.ask(INIT)
        self.assertEqual(self.answer("init", node_id="n1", node_ids=["n1"])["type"], "init_ok")
        self.assertEqual(
            self.ask(message("init", 3, node_id="n2", node_ids=["n2"])),
            b'{"src": "n1", "dest": "c1", "body": {"type": "error", "in_reply_to": 3, "code": 22,'
            b' "text": "node_id: this node is n1", "msg_id": 2}}\n',
        )
        self.assertEqual(self.node.node_ids, ("n1",))

    def test_before(self) -> None:
        """Before init, all else is temporarily unavailable, said in the name that was asked."""
        self.assertEqual(
            self.ask(b'{"src":"c1","dest":"somebody","body":{"type":"tcp_request","msg_id":2}}'),
            b'{"src": "somebody", "dest": "c1", "body": {"type": "error", "in_reply_to": 2, "code": 11,'
            b' "text": "not initialised: send init first", "msg_id": 0}}\n',
        )

    def test_before_init_by_declaration(self) -> None:
        """A handler may serve before init."""
        self.handle({}, before_init=True)
        self.assertEqual(self.answer()["type"], "echo_ok")

    def test_no_name(self) -> None:
        """An init without a node_id is malformed, one with an empty node_id too."""
        self.assertEqual(self.answer("init")["code"], 12)
        self.assertIn("node_id", self.answer("init", node_id="")["text"])
        self.assertIsNone(self.node.node_id)

    def test_while_draining(self) -> None:
        """Init is answered in every phase."""
        self.drain.begin(0)
        self.assertEqual(self.ask(INIT), INIT_OK)

    def test_needs_control(self) -> None:
        """A client without control cannot name the node."""
        self.sink.control = False
        self.assertEqual(self.answer("init", node_id="n1")["code"], 10)
        self.assertIsNone(self.node.node_id)


class CheckTests(NodeTestCase):
    """What is checked before a request is started, in order."""

    def test_no_handler(self) -> None:
        """A type without a handler is not supported."""
        self.assertEqual(
            self.ask(message("nothing")),
            b'{"src": "n1", "dest": "c1", "body": {"type": "error", "in_reply_to": 2, "code": 10,'
            b' "text": "type \'nothing\' is not supported here", "msg_id": 0}}\n',
        )

    def test_long_type(self) -> None:
        """A type that is not supported is not sent back whole."""
        self.assertLess(len(self.ask(message("\0" * 100_000))), 1000)

    def test_control(self) -> None:
        """A handler that needs control is not there for others."""
        requests = self.handle({}, control=True)
        self.sink.control = False
        self.assertEqual(self.answer()["code"], 10)
        self.assertEqual(requests, [])
        self.sink.control = True
        self.assertEqual(self.answer()["type"], "echo_ok")

    def test_msg_id(self) -> None:
        """A msg_id that is no integer is malformed, and is not sent back."""
        self.handle({})
        for wrong in ("x", 1.5, 2.0, True, [1], {"a": 1}):
            body = self.answer("echo", wrong)
            self.assertEqual((body["code"], body["text"]), (12, "msg_id: expected an integer"))
            self.assertNotIn("in_reply_to", body)

    def test_odd_msg_ids(self) -> None:
        """Any integer is a msg_id, whatever its size."""
        self.handle({})
        for right in (0, -1, 2**64, -(2**70)):
            self.assertEqual(self.answer("echo", right)["in_reply_to"], right)

    def test_over_huge_number(self) -> None:
        """A number too large to be read is malformed; the request is answered all the same."""
        self.handle({})
        for number in (b"9" * 5000, b"1e999"):
            line = b'{"src":"c1","dest":"n1","body":{"type":"echo","msg_id":' + number + b"}}"
            (body,) = bodies(self.ask(line))
            self.assertEqual((body["type"], body["code"]), ("error", 12))

    def test_no_msg_id(self) -> None:
        """A request without msg_id is answered without in_reply_to."""
        self.handle({"echo": "hi"})
        self.assertEqual(
            self.ask(b'{"src":"c1","dest":"n1","body":{"type":"echo"}}'),
            b'{"src": "n1", "dest": "c1", "body": {"type": "echo_ok", "echo": "hi", "msg_id": 0}}\n',
        )

    def test_fields(self) -> None:
        """A field that is missing or out of range is named."""

        class Sized(msgspec.Struct):
            size: int

        requests = self.handle({}, body_type=Sized)
        self.assertEqual(self.answer()["text"], "Object missing required field `size`")
        self.assertEqual(self.answer(size="x")["text"], "size: Expected `int`, got `str`")
        self.assertEqual(requests, [])
        self.answer(size=3)
        self.assertEqual(requests[0].body, Sized(3))

    def test_reply(self) -> None:
        """A message that answers one is answered by nobody, however wrong it is."""
        for line in (
            b'{"src":"c1","dest":"n1","body":{"type":"echo_ok","in_reply_to":1}}',
            b'{"src":"c1","dest":"n1","body":{"type":"tcp_request","msg_id":1,"in_reply_to":1}}',
            b'{"src":"c1","dest":"n1","body":{"in_reply_to":"x"}}',
        ):
            self.assertEqual(self.ask(line), b"")

    def test_too_much_in_flight(self) -> None:
        """Beyond max_in_flight, requests are temporarily unavailable; a control message is not."""
        house = House(max_in_flight=2)
        for msg_id in (1, 2):
            self.assertEqual(house.ask(message("tcp_request", msg_id, latency_ms=5)), b"")
        (body,) = bodies(house.ask(message("tcp_request", 3, latency_ms=0)))
        self.assertEqual((body["code"], body["text"]), (11, "too many requests in flight"))
        self.assertIn(b"tcp_drain_status_ok", house.ask(message("tcp_drain_status")))
        house.clock.advance(0.005)
        self.assertIn(b"tcp_request_ok", house.ask(message("tcp_request", 4)))

    def test_order(self) -> None:
        """The checks come in their order: each failing one hides all that follow."""

        class Sized(msgspec.Struct):
            size: int

        house = House(None, max_in_flight=0)
        house.node.handle("sized", Sized)(lambda _: None)

        def code(line: bytes) -> int:
            (body,) = bodies(house.ask(line, control=False))
            found: int = body["code"]
            return found

        unhandled = b'{"src":"c1","body":{"type":"nothing","msg_id":"x"}}'
        self.assertEqual(code(b'{"src":"c1","dest":5,"body":{"type":"nothing"}}'), 12)
        self.assertEqual(code(unhandled), 10)
        self.assertEqual(code(message("init")), 10)
        self.assertEqual(code(message("sized", "x")), 11)
        house.node.node_id = "n1"
        self.assertEqual(bodies(house.ask(message("sized", "x")))[0]["text"], "too many requests in flight")
        house.node.bind(house.drain, max_in_flight=1)
        self.assertEqual(code(message("sized", "x")), 12)
        self.assertIn("msg_id", bodies(house.ask(message("sized", "x")))[0]["text"])
        self.assertIn("size", bodies(house.ask(message("sized")))[0]["text"])
        house.drain.begin(0)
        self.assertEqual(bodies(house.ask(message("sized", "x")))[0]["text"], "the node is shutting down")
        self.assertEqual(code(unhandled), 10)


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


class HandlerTests(NodeTestCase):
    """What handlers may answer."""

    def check_now(self, answer: Any, fields: dict[str, Any]) -> None:
        self.handle(answer)
        self.assertEqual(self.answer(), {"type": "echo_ok", "in_reply_to": 2, **fields, "msg_id": 0})
        self.assertEqual((self.drain.in_flight, self.drain.counts.finished, self.sink.in_flight), (0, 1, 0))

    def test_value(self) -> None:
        """The fields of the reply, between in_reply_to and msg_id."""
        self.check_now({"a": 1, "b": [2]}, {"a": 1, "b": [2]})

    def test_nothing(self) -> None:
        """None, or an empty mapping, is a reply without fields."""
        self.check_now(None, {})

    def test_fired_deferred(self) -> None:
        """A Deferred that has its result already is answered at once."""
        self.check_now(succeed({"a": 1}), {"a": 1})

    def test_coroutine(self) -> None:
        """A coroutine is run."""

        async def answer() -> dict[str, int]:
            return {"a": await succeed(1)}

        self.check_now(answer(), {"a": 1})

    def test_own_type(self) -> None:
        """A type among the fields replaces the usual one."""
        self.handle({"type": "special", "a": 1})
        self.assertEqual(self.answer(), {"type": "special", "in_reply_to": 2, "a": 1, "msg_id": 0})

    def test_fields_do_not_replace_ours(self) -> None:
        """Whom a reply answers, and its own number, are not the handler's to say."""
        self.handle({"in_reply_to": 77, "msg_id": 78, "src": "x"})
        self.assertEqual(self.answer(), {"type": "echo_ok", "in_reply_to": 2, "src": "x", "msg_id": 0})

    def test_later(self) -> None:
        """An answer may come later; until then its request is in flight, for the drain and for its asker."""
        answer: Deferred[dict[str, int]] = Deferred()
        self.handle(answer)
        self.assertEqual(self.ask(message("echo")), b"")
        self.assertEqual((self.drain.in_flight, self.sink.in_flight), (1, 1))
        self.assertEqual(str(self.drain.statistics().oldest[0][0]), "echo 2 from c1")
        answer.callback({"a": 1})
        self.assertEqual(
            self.sink.take(),
            b'{"src": "n1", "dest": "c1", "body": {"type": "echo_ok", "in_reply_to": 2, "a": 1, "msg_id": 0}}\n',
        )
        self.assertEqual((self.drain.in_flight, self.sink.in_flight, self.drain.counts.finished), (0, 0, 1))

    def test_name_without_msg_id(self) -> None:
        """A request without a msg_id is named by what it has."""
        self.handle(Deferred())
        self.ask(b'{"src":"c1","dest":"n1","body":{"type":"echo"}}')
        self.assertEqual(str(self.drain.statistics().oldest[0][0]), "echo from c1")

    def test_name_for_the_log(self) -> None:
        """What a client calls itself cannot forge the log, nor fill it."""
        self.handle(Deferred())
        self.ask(message("echo", src="a\n2026 clean\x1b[2J" + "x" * 900))
        name = str(self.drain.statistics().oldest[0][0])
        self.assertTrue(name.startswith("echo 2 from a�2026 clean�[2Jxxx"), name)
        self.assertTrue(name.isprintable() and len(name) < 130, name)

    def test_request(self) -> None:
        """A handler gets the whole request."""
        requests = self.handle({})
        self.clock.advance(3)
        self.node.observer = lambda *_: None
        self.answer("echo", 5, extra=[1])
        (request,) = requests
        self.assertEqual((request.src, request.dest, request.type, request.msg_id), ("c1", "n1", "echo", 5))
        self.assertEqual(request.body, {"type": "echo", "msg_id": 5, "extra": [1]})
        self.assertIs(request.asker, self.sink)
        self.assertEqual(request.started, 3.0)

    def test_same_request_twice(self) -> None:
        """Equal requests are separate, and have an answer each."""
        answers: list[Deferred[dict[str, int]]] = [Deferred(), Deferred()]
        waiting = iter(answers)
        self.node.handle("echo")(lambda _: next(waiting))
        for _ in range(2):
            self.ask(message("echo"))
        answers[1].callback({"a": 1})
        answers[0].callback({"a": 0})
        self.assertEqual([body["a"] for body in bodies(self.sink.take())], [1, 0])

    def test_counter(self) -> None:
        """Replies are numbered from 0, whatever they are and whoever gets them."""
        self.handle({})
        numbers = []
        for line in (message("echo"), b"junk", message("nothing"), message("echo", "x"), message("tcp_shutdown")):
            numbers += [body["msg_id"] for body in bodies(self.house.ask(line))]
        self.assertEqual(numbers, [0, 1, 2, 3, 4])

    def test_second_handler(self) -> None:
        """A type has one handler; a second one fails where it is registered."""
        self.handle({})
        self.assertRaises(MisuseError, self.node.handle, "echo")
        self.assertRaises(MisuseError, self.node.handle, "init")

    def test_decorator(self) -> None:
        """What is decorated stays what it was."""

        def function(_: Request[Any]) -> None:
            return None

        self.assertIs(Node().handle("echo")(function), function)


class FailureTests(NodeTestCase):
    """Handlers that fail."""

    def check_crash(self, error: type[BaseException]) -> None:
        self.assertEqual(
            self.answer(),
            {"type": "error", "in_reply_to": 2, "code": 13, "text": f"echo failed: {error.__name__}", "msg_id": 0},
        )
        self.assertEqual(len(self.flushLoggedErrors(error)), 1)
        self.assertEqual((self.drain.in_flight, self.drain.counts.finished), (0, 1))

    def test_raises(self) -> None:
        """An exception is logged, and answered crash without its text."""
        self.handle(ValueError("secret"))
        self.check_crash(ValueError)

    def test_exits(self) -> None:
        """So is an attempt to end the process from inside a handler."""
        self.handle(SystemExit(0))
        self.check_crash(SystemExit)

    def test_deferred_fails(self) -> None:
        """So is a failure that comes later."""
        self.handle(fail(ValueError("secret")))
        self.check_crash(ValueError)

    def test_coroutine_raises(self) -> None:
        """So is what a coroutine raises."""

        async def answer() -> None:
            raise ValueError("secret")

        self.handle(answer())
        self.check_crash(ValueError)

    def test_returned_failure(self) -> None:
        """So is a Failure that is returned."""
        self.handle(Failure(ValueError("secret")))
        self.check_crash(ValueError)

    def test_no_mapping(self) -> None:
        """An answer that is no mapping is a crash."""
        self.handle(5)
        self.check_crash(TypeError)

    def test_cannot_be_encoded(self) -> None:
        """An answer that JSON has no words for is a crash, now or later."""
        self.handle({"a": object()})
        self.check_crash(TypeError)
        for value in ("\ud800", {None: 1}):
            answer: Deferred[dict[str, Any]] = Deferred()
            type_ = f"later{value!r}"
            self.handle(answer, type_)
            self.ask(message(type_))
            answer.callback({"a": value})
            self.assertEqual([body["code"] for body in bodies(self.sink.take())], [13])
            self.assertEqual(len(self.flushLoggedErrors(TypeError, UnicodeEncodeError)), 1)

    def test_nested_too_deep(self) -> None:
        """So is one nested too deep."""
        answer: dict[str, Any] = {}
        answer["a"] = answer
        self.handle(answer)
        self.check_crash(RecursionError)

    def test_request_error(self) -> None:
        """A RequestError is answered as it says, and not logged."""
        self.handle(RequestError(ErrorCode.KEY_DOES_NOT_EXIST, "no such key"))
        self.assertEqual(
            self.ask(message("echo")),
            b'{"src": "n1", "dest": "c1", "body": {"type": "error", "in_reply_to": 2, "code": 20,'
            b' "text": "no such key", "msg_id": 0}}\n',
        )

    def test_request_error_later(self) -> None:
        """It may come later, with a code of one's own."""

        async def answer() -> None:
            raise RequestError(1001, "mine")

        self.handle(answer())
        self.assertEqual(self.answer()["code"], 1001)

    def test_any_text(self) -> None:
        """Whatever its text is, its client is answered."""
        path = b"caf\xe9".decode(errors="surrogateescape")
        cases: list[tuple[Any, str]] = [(path, "caf?"), (ValueError("wrong"), "wrong"), (None, "None"), ("é", "é")]
        for number, (text, expected) in enumerate(cases):
            type_ = f"type{number}"
            self.handle(RequestError(1001, text), type_)
            self.assertEqual(self.answer(type_)["text"], expected)

    def test_no_stray_failures(self) -> None:
        """Nothing that fails is left for the garbage collector to complain about."""
        self.handle(fail(RequestError(1001, "mine")))
        self.handle(Deferred(), "cut")
        self.ask(message("echo"))
        self.ask(message("cut"))
        self.drain.begin(0)
        gc.collect()
        self.assertEqual(self.flushLoggedErrors(), [])


class DrainingNodeTests(NodeTestCase):
    """A node whose drain has begun."""

    def test_refused(self) -> None:
        """A request of any type is refused, and not started."""
        requests = self.handle({})
        self.drain.begin(10)
        self.assertEqual(
            self.ask(message("echo")),
            b'{"src": "n1", "dest": "c1", "body": {"type": "error", "in_reply_to": 2, "code": 11,'
            b' "text": "the node is shutting down", "msg_id": 0}}\n',
        )
        self.assertEqual((requests, self.drain.counts.refused), ([], 1))

    def test_own_words(self) -> None:
        """A handler may have its requests refused and cut in words of its own."""
        self.handle(Deferred(), refused={"type": "no", "why": 1}, cut={"type": "cut", "why": 2})
        self.ask(message("echo", 1))
        self.drain.begin(1)
        self.assertEqual(self.answer("echo", 2), {"type": "no", "in_reply_to": 2, "why": 1, "msg_id": 0})
        self.clock.advance(1)
        self.assertEqual(bodies(self.sink.take()), [{"type": "cut", "in_reply_to": 1, "why": 2, "msg_id": 1}])

    def test_cut(self) -> None:
        """A request that the deadline cuts is answered once; what its handler says then is dropped."""
        answer: Deferred[dict[str, int]] = Deferred(lambda _: None)
        self.handle(answer)
        self.ask(message("echo"))
        self.drain.begin(1)
        self.clock.advance(1)
        self.assertEqual(
            self.sink.take(),
            b'{"src": "n1", "dest": "c1", "body": {"type": "error", "in_reply_to": 2, "code": 0,'
            b' "text": "cut by the deadline of the shutdown", "msg_id": 0}}\n',
        )
        self.assertEqual(self.sink.in_flight, 0)
        self.assertEqual((answer.called, self.sink.take()), (True, b""))

    def test_coroutine_that_catches(self) -> None:
        """A coroutine that answers when it is cancelled is too late."""

        async def answer() -> dict[str, int]:
            try:
                await Deferred[None]()
            except Exception:
                return {"a": 1}
            return {}

        self.handle(answer())
        self.ask(message("echo"))
        self.drain.begin(0)
        self.assertEqual([body["code"] for body in bodies(self.sink.take())], [0])

    def test_finishes(self) -> None:
        """A request in flight is answered as ever."""
        answer: Deferred[dict[str, int]] = Deferred()
        self.handle(answer)
        self.ask(message("echo"))
        drained = self.drain.begin(1)
        answer.callback({"a": 1})
        self.assertEqual(bodies(self.sink.take())[0]["type"], "echo_ok")
        self.assertIs(self.successResultOf(drained).phase, Phase.DRAINED)

    def test_served_to_the_end(self) -> None:
        """A handler that serves while draining does so, now and later, and after the end."""
        answers: list[Any] = [{"a": 1}, Deferred(), {"a": 3}]
        waiting = iter(answers)
        self.node.handle("echo", while_draining=True)(lambda _: next(waiting))
        self.handle(Deferred(), "work")
        self.ask(message("work"))
        drained = self.drain.begin(10)
        self.assertEqual(self.answer()["a"], 1)
        self.assertEqual(self.ask(message("echo")), b"")
        self.assertEqual(self.drain.in_flight, 2)
        answers[1].callback({"a": 2})
        self.assertEqual(bodies(self.sink.take())[0]["a"], 2)
        self.clock.advance(10)
        self.assertEqual(bodies(self.sink.take())[0]["code"], 0)
        self.assertEqual(self.successResultOf(drained).remaining, 1)
        self.assertEqual(self.answer()["a"], 3)

    def test_questions_are_not_counted(self) -> None:
        """What is served while draining is no work that a drain is about."""
        self.answer("tcp_drain_status")
        self.answer("tcp_shutdown")
        self.assertEqual(self.drain.counts.finished, 0)

    def test_lame_duck(self) -> None:
        """A lame duck serves on."""
        self.handle({})
        self.drain.lame_duck(5, 10)
        self.assertEqual(self.answer()["type"], "echo_ok")


class GoneTests(NodeTestCase):
    """A client that has gone."""

    def test_undelivered(self) -> None:
        """Its request runs on, and its answer is dropped and counted."""
        answer: Deferred[dict[str, int]] = Deferred()
        self.handle(answer)
        self.ask(message("echo"))
        self.sink.gone = True
        self.assertEqual(self.drain.in_flight, 1)
        answer.callback({})
        self.assertEqual((self.sink.output, self.drain.in_flight), (b"", 0))
        self.assertEqual((self.drain.counts.undelivered, self.drain.counts.finished), (1, 1))
        self.assertEqual(self.answer_of_another()["msg_id"], 0)

    def answer_of_another(self) -> dict[str, Any]:
        (body,) = bodies(self.house.ask(message("tcp_drain_status")))
        return body

    def test_cut(self) -> None:
        """What the deadline cuts is cut, whether its client is there or not."""
        self.handle(Deferred())
        self.ask(message("echo"))
        self.sink.gone = True
        self.drain.begin(0)
        self.assertEqual((self.drain.counts.undelivered, self.drain.counts.cut, self.sink.output), (1, 1, b""))


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


class TypedTests(SynchronousTestCase):
    """Types that a coroutine's author relies on."""

    def test_async_handler(self) -> None:
        """An async function is a handler."""
        house = House()

        @house.node.handle("double")
        async def double(request: Request[dict[str, int]]) -> dict[str, int]:
            return {"value": request.body["value"] * 2}

        (body,) = bodies(house.ask(message("double", value=21)))
        self.assertEqual(body, {"type": "double_ok", "in_reply_to": 2, "value": 42, "msg_id": 0})


class PlainRequest(PlainBody):
    """What is read together with its message."""

    count: int = 0


class How(PlainBody):
    """How a request is to be answered."""

    how: str


HOWS = (
    *("fixed", "spoilt", "fields", "type", "none", "unencodable", "fired", "later", "two", "coroutine"),
    *("duck", "drain", "cut", "rename", "error", "exit"),
)


async def coroutine() -> dict[str, int]:
    """Answer as a coroutine."""
    return {"a": 1}


def figures(drain: Drain) -> Statistics:
    """The statistics of a drain, with texts for names."""
    statistics = drain.statistics()
    return replace(statistics, oldest=tuple((str(name), age) for name, age in statistics.oldest))


class TwoWaysTests(SynchronousTestCase):
    """The short way, for a chunk of plain requests, and the long way, for any line."""

    def serve(self, hows: list[str], max_in_flight: int, *, at_once: bool, gone: bool) -> tuple[Any, ...]:
        """Answer requests in different manners; return all that can be seen of it."""
        house, sink = House(max_in_flight=max_in_flight), Sink()
        sink.gone = gone
        node, drain = house.node, house.drain
        fixed, spoilt = Fixed(a=1), Fixed(values=[1])
        spoilt["values"].append(object())
        seen: list[Any] = []
        node.observer = lambda *event: seen.append(event)
        answers: dict[str, Callable[[], Answer]] = {
            "fixed": lambda: fixed,
            "spoilt": lambda: spoilt,
            "fields": lambda: {"a": 1},
            "type": lambda: {"type": "b"},
            "none": lambda: None,
            "unencodable": lambda: {"a": object()},
            "fired": lambda: succeed({"a": 1}),
            "later": Deferred,
            "two": lambda: drain.track("more", Deferred()),
            "coroutine": coroutine,
        }
        acts: dict[str, Callable[[], object]] = {
            "duck": lambda: drain.lame_duck(5, 5),
            "drain": lambda: drain.begin(5),
            "cut": lambda: drain.begin(0),
            "rename": lambda: setattr(node, "node_id", "n2"),
        }

        @node.handle("how", How)
        def how(request: Request[How]) -> Answer:
            seen.append((str(request), request.dest, request.started, figures(drain)))
            if request.body.how == "error":
                raise RequestError(1000, "no")
            if request.body.how == "exit":
                raise SystemExit
            if request.body.how in acts:
                acts[request.body.how]()
                return fixed
            return answers[request.body.how]()

        lines = [message("how", number, src=f"c{number % 2}", how=how) for number, how in enumerate(hows)]
        if at_once:
            # In two chunks: the second may find requests in flight.
            for chunk in lines[:2], lines[2:]:
                node.receive_lines(b"".join(chunk), sink)
        else:
            for line in lines:
                node.receive(line[:-1], sink)
        house.clock.advance(1)
        self.flushLoggedErrors()
        return sink.output, sink.in_flight, figures(drain), seen

    @given(st.lists(st.sampled_from(HOWS)), st.sampled_from([1, 3, 100_000]), st.booleans())
    @settings(deadline=None)
    def test_two_ways_are_equal(self, hows: list[str], max_in_flight: int, gone: bool) -> None:
        """Whatever the handlers do, both ways give the same lines, counts, statistics and events."""
        self.assertEqual(
            self.serve(hows, max_in_flight, at_once=True, gone=gone),
            self.serve(hows, max_in_flight, at_once=False, gone=gone),
        )


class UnboundTests(SynchronousTestCase):
    """A node that is not bound to a drain yet."""

    def test_misuse(self) -> None:
        """What needs a drain says that the node has none."""
        node = Node("n1")
        uses: list[Callable[[], object]] = [
            lambda: node.drain,
            lambda: node.clock,
            lambda: node.calls,
            node.start,
            lambda: node.send("n2", {"type": "read"}),
            lambda: node.rpc("n2", {"type": "read"}),
            lambda: node.receive_lines(b"\n", Sink()),
            lambda: node.receive(b"", Sink()),
        ]
        for use in uses:
            error = self.assertRaises(MisuseError, use)
            self.assertEqual(str(error), "the node is not bound to a drain yet: call its bind method first")

    def test_known_before(self) -> None:
        """Its name, and what it counts, are there from the beginning."""
        node = Node()
        self.assertEqual((node.node_id, node.node_ids), (None, ()))
        self.assertEqual((node.observer, node.unreadable_lines), (None, 0))


class PlainHandlerTests(SynchronousTestCase):
    """Requests that take the short way, as those of a chunk do that are all plain."""

    def setUp(self) -> None:
        """Handle plain requests."""
        self.house = House()
        nothing = Fixed()

        @self.house.node.handle("count", PlainRequest)
        def count(request: Request[PlainRequest]) -> Answer:
            if request.body.count < 0:
                raise RequestError(1000, "below 0")
            if request.body.count > 100:
                raise ZeroDivisionError
            return nothing if request.body.count == 0 else {"value": request.body.count}

    def ask(self, *counts: int) -> list[Any]:
        """Ask in one chunk; the answers' types, or codes."""
        sink = Sink()
        lines = b"".join(message("count", number, count=count) for number, count in enumerate(counts))
        self.house.node.receive_lines(lines, sink)
        return [body.get("code", body["type"]) for body in bodies(sink.output)]

    def test_answers(self) -> None:
        """Each gets its answer, in order, whatever its handler does."""
        self.assertEqual(self.ask(0, 1, -1, 101, 0), ["count_ok", "count_ok", 1000, 13, "count_ok"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_observed(self) -> None:
        """The observer hears of each of them."""
        events: list[tuple[str, str]] = []
        self.house.node.observer = lambda type_, outcome, _: events.append((type_, outcome))
        self.ask(0, 1, -1)
        self.assertEqual(events, [("count", "ok"), ("count", "ok"), ("count", "error")])

    def test_limit_within_a_chunk(self) -> None:
        """The limit holds within a chunk too, though a handler has more than its own request in flight."""
        house = House(max_in_flight=3)

        @house.node.handle("two", PlainRequest)
        def two(request: Request[PlainRequest]) -> Answer:
            house.drain.track("more", Deferred())
            return Deferred()

        sink = Sink()
        house.node.receive_lines(b"".join(message("two", number) for number in range(3)), sink)
        self.assertEqual([body["code"] for body in bodies(sink.output)], [11])
        self.assertEqual(house.drain.in_flight, 4)

    def test_many_clients(self) -> None:
        """What is kept encoded for clients does not grow for ever, and is right for each."""
        outgoing = Outgoing(Identity("n1"), self.house.drain)
        nothing = Fixed()
        for number in range(2500):
            sink = Sink()
            outgoing.fixed_reply(f"c{number}", 1, sink, "count_ok", nothing)
            self.assertIn(f'"dest": "c{number}"'.encode(), sink.output)
        self.assertLessEqual(len(outgoing._templates), 1000)

    def test_fixed(self) -> None:
        """An answer that is always the same may not say what the node says."""
        self.assertRaises(MisuseError, lambda: Fixed(msg_id=1, value=2))

    def test_fixed_that_json_cannot_say(self) -> None:
        """Such an answer is refused where it is made: later it would cost others their answers."""
        for value in (object(), "\ud800", {"deep": {1, object()}}):
            self.assertRaises(MisuseError, lambda value=value: Fixed(value=value))

    def test_fixed_for_two_types(self) -> None:
        """An answer that is always the same may serve several types, each under its own name."""
        house, done = House(), Fixed(result="done")
        for type_ in ("one", "two"):
            house.node.handle(type_, PlainRequest)(lambda _: done)
        sink = Sink()
        house.node.receive_lines(message("one", 1) + message("two", 2) + message("one", 3), sink)
        self.assertEqual([body["type"] for body in bodies(sink.output)], ["one_ok", "two_ok", "one_ok"])

    def test_fixed_that_was_changed(self) -> None:
        """An answer that was spoilt later is a crash of its own request alone."""
        house, spoilt, good = House(), Fixed(values=[1]), Fixed()
        spoilt["values"].append(object())
        house.node.handle("spoilt", PlainRequest)(lambda _: spoilt)
        house.node.handle("good", PlainRequest)(lambda _: good)
        sink = Sink()
        house.node.receive_lines(message("good", 1) + message("spoilt", 2) + message("good", 3), sink)
        self.assertEqual([body.get("code", "ok") for body in bodies(sink.output)], ["ok", 13, "ok"])
        self.assertEqual(house.drain.counts.finished, 3)
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 1)

    def test_fixed_for_a_client_that_is_gone(self) -> None:
        """What nobody reads any more is counted, and takes no number."""
        sink = Sink()
        sink.gone = True
        self.house.node.receive_lines(message("count", 1) + message("count", 2), sink)
        self.assertEqual((sink.output, self.house.drain.counts.undelivered), (b"", 2))

    def test_fixed_after_another_name(self) -> None:
        """A node that is given another name speaks in that."""
        sink = Sink()
        self.house.node.receive_lines(message("count", 1), sink)
        self.house.node.node_id = "n2"
        self.house.node.receive_lines(message("count", 1), sink)
        self.assertIn(b'{"src": "n2"', sink.output.splitlines()[1])

    def test_fixed_is_a_copy(self) -> None:
        """What it was made from may change; it does not."""
        values = [1]
        fixed = Fixed(values=values)
        values.append(2)
        self.assertEqual(dict(fixed), {"values": [1]})
