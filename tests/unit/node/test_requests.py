"""One message in, one answer out, in both ways that there are."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, fail, succeed
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.support.lines import bodies, message
from tests.support.memory import House, Sink
from tests.support.node import NodeTestCase
from twisted_node.drain import Drain, Phase, Statistics
from twisted_node.errors import ErrorCode, RequestError
from twisted_node.node._handlers import Answer, Fixed, Request
from twisted_node.node._plain import PlainBody


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

        def make(max_in_flight: int) -> House:
            house = House(None, max_in_flight=max_in_flight)
            house.node.handle("sized", Sized)(lambda _: None)
            return house

        house = make(0)

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
        house = make(1)
        house.node.node_id = "n1"
        self.assertEqual(code(message("sized", "x")), 12)
        self.assertIn("msg_id", bodies(house.ask(message("sized", "x")))[0]["text"])
        self.assertIn("size", bodies(house.ask(message("sized")))[0]["text"])
        house.drain.begin(0)
        self.assertEqual(bodies(house.ask(message("sized", "x")))[0]["text"], "the node is shutting down")
        self.assertEqual(code(unhandled), 10)


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


class How(PlainBody):
    """How a request is to be answered."""

    how: str


HOWS = (
    *("fixed", "spoilt", "fields", "type", "none", "unencodable", "fired", "later", "two", "coroutine"),
    *("duck", "drain", "cut", "hold", "rename", "error", "exit"),
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
            "hold": lambda: drain.track("more", Deferred()),
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
                house.requests.receive_lines(b"".join(chunk), sink)
        else:
            for line in lines:
                house.requests.receive(line[:-1], sink)
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
