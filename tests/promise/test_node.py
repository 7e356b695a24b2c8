"""The promise, against any interleaving of what can happen."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.support.lines import bodies, message
from tests.support.memory import House, LineClient
from twisted_node.drain import Phase, Statistics
from twisted_node.errors import RequestError
from twisted_node.node._handlers import Request
from twisted_node.server._service import DrainingService
from twisted_node.server._shutdown import MAX_GRACE

#: Seconds; several that are equal, so that things fall together.
SECONDS = st.sampled_from([0, 0.001, 0.5, 1, 1, 2, 3, 10])
ORDER = {Phase.SERVING: 0, Phase.LAME_DUCK: 1, Phase.DRAINING: 2, Phase.DRAINED: 3, Phase.TIMED_OUT: 3}


def fail_quietly(work: Deferred[Any]) -> None:
    """Fail in a way that nobody logs."""
    work.errback(RequestError(1000, "on purpose"))


class Promise(RuleBasedStateMachine):
    """A server on a clock, its clients, and what can happen to them.

    A request counts as sent if its connection had not been closed by the server before, even by half.
    """

    works: Bundle[Deferred[Any]] = Bundle("works")

    def __init__(self) -> None:
        super().__init__()
        self.house = House()
        self.drain, self.clock = self.house.drain, self.house.clock
        self.clients: list[LineClient] = []
        self.owners: dict[int, LineClient] = {}
        self.answers: dict[int, int] = {}
        self.phase = Phase.SERVING
        self.late_questions = False
        self.ends: list[Statistics] = []

    @initialize(linger=SECONDS, ends_with_drain=st.booleans())
    def start(self, linger: float, ends_with_drain: bool) -> None:
        self.service = DrainingService(self.drain, drain_timeout=5, linger=linger, ends_with_drain=ends_with_drain)
        self.house.connections = self.service.connections
        self.service.when_ended().addCallback(self.ends.append)
        for type_ in ("held", "question"):
            self.house.node.handle(type_, while_draining=type_ == "question")(self.hold)
        self.house.node.handle("stubborn")(self.be_stubborn)
        self.connect()
        self.service.startService()

    def hold(self, _: Request[Any]) -> Deferred[Any]:
        self.work: Deferred[Any] = Deferred(fail_quietly)
        return self.work

    async def be_stubborn(self, request: Request[Any]) -> Any:
        try:
            return await self.hold(request)
        except RequestError:
            return await self.hold(request)

    @property
    def open_clients(self) -> list[LineClient]:
        return [
            client
            for client in self.clients
            if not client.transport.half_closed
            and not client.transport.closed
            and not client.protocol.connection.input_ended
        ]

    def send(self, client: LineClient, type_: str, **fields: Any) -> None:
        msg_id = len(self.owners) + 1
        self.owners[msg_id] = client
        self.answers[msg_id] = 0
        client.send(message(type_, msg_id, **fields))

    def pick(self, data: st.DataObject) -> LineClient:
        return data.draw(st.sampled_from(self.open_clients))

    # What clients do.

    @precondition(lambda self: not self.drain.refusing)
    @rule()
    def connect(self) -> None:
        self.clients.append(self.house.connect(control=True))

    @precondition(lambda self: self.open_clients)
    @rule(data=st.data(), latency=SECONDS)
    def request(self, data: st.DataObject, latency: float) -> None:
        self.send(self.pick(data), "tcp_request", latency_ms=latency * 1000)

    @precondition(lambda self: self.open_clients)
    @rule(target=works, data=st.data(), type_=st.sampled_from(["held", "question", "stubborn"]))
    def request_held(self, data: st.DataObject, type_: str) -> Deferred[Any]:
        self.work = Deferred(fail_quietly)
        self.late_questions |= self.drain.ended and type_ == "question"
        self.send(self.pick(data), type_)
        # If it was refused, nobody else looks at it.
        self.work.addErrback(lambda _: None)
        return self.work

    @precondition(lambda self: self.open_clients)
    @rule(data=st.data(), latency=SECONDS)
    def request_in_two_halves(self, data: st.DataObject, latency: float) -> None:
        client, msg_id = self.pick(data), len(self.owners) + 1
        line = message("tcp_request", msg_id, latency_ms=latency * 1000)
        client.send(line[:20])
        if client in self.open_clients:
            self.owners[msg_id], self.answers[msg_id] = client, 0
            client.send(line[20:])

    @precondition(lambda self: self.open_clients)
    @rule(data=st.data(), timeout=SECONDS)
    def shut_down(self, data: st.DataObject, timeout: float) -> None:
        self.send(self.pick(data), "tcp_shutdown", drain_timeout_ms=timeout * 1000)

    @precondition(lambda self: self.open_clients)
    @rule(data=st.data())
    def ask_for_status(self, data: st.DataObject) -> None:
        self.send(self.pick(data), "tcp_drain_status")

    @precondition(lambda self: self.open_clients)
    @rule(data=st.data())
    def begin_a_line(self, data: st.DataObject) -> None:
        # Nothing else can follow on this connection but the end of the line.
        client = self.pick(data)
        client.send(b'{"src"')
        client.send(b"\n")

    @precondition(lambda self: self.open_clients)
    @rule(data=st.data())
    def close_half(self, data: st.DataObject) -> None:
        self.pick(data).close_half()

    @precondition(lambda self: self.clients)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        client = data.draw(st.sampled_from(self.clients))
        self.collect()
        client.leave()

    # What the work does.

    @rule(work=consumes(works), fails=st.booleans())
    def finish(self, work: Deferred[Any], fails: bool) -> None:
        if not work.called:
            if fails:
                fail_quietly(work)
            else:
                work.callback({"a": 1})

    @rule(work=works)
    def cancel(self, work: Deferred[Any]) -> None:
        work.cancel()

    # What the operator and time do.

    @rule(timeout=SECONDS)
    def begin(self, timeout: float) -> None:
        self.drain.begin(timeout)

    @rule(delay=SECONDS, timeout=SECONDS)
    def be_a_lame_duck(self, delay: float, timeout: float) -> None:
        self.drain.lame_duck(delay, timeout)

    @rule(lame_duck=SECONDS)
    def stop(self, lame_duck: float) -> None:
        self.service.end("a signal", lame_duck=lame_duck)

    @rule()
    def cut(self) -> None:
        self.service.cut("a second signal")

    @rule()
    def cut_in_flight(self) -> None:
        self.drain.cut_in_flight()

    @rule(seconds=SECONDS)
    def wait(self, seconds: float) -> None:
        until = self.clock.seconds() + seconds
        # As a reactor does it: every timer when it is due.
        while (due := [call.getTime() for call in self.clock.getDelayedCalls()]) and min(due) <= until:
            self.clock.advance(max(0.0, min(due) - self.clock.seconds()))
        self.clock.advance(max(0.0, until - self.clock.seconds()))

    # What must hold at any moment.

    def collect(self) -> None:
        for client in self.clients:
            for body in bodies(client.take()):
                if "in_reply_to" in body:
                    assert self.owners[body["in_reply_to"]] is client, body
                    self.answers[body["in_reply_to"]] += 1

    @invariant()
    def never_two_answers(self) -> None:
        self.collect()
        assert all(count <= 1 for count in self.answers.values()), self.answers

    @invariant()
    def counts_are_right(self) -> None:
        self.collect()
        waiting = sum(client.protocol._in_flight for client in self.clients)
        assert self.drain.in_flight == waiting >= 0
        answered, undelivered = sum(self.answers.values()), self.drain.counts.undelivered
        assert answered + undelivered + waiting == len(self.owners), (answered, undelivered, waiting)
        assert all(client.protocol._in_flight >= 0 for client in self.clients)

    @invariant()
    def phases_only_go_on(self) -> None:
        assert ORDER[self.drain.phase] >= ORDER[self.phase]
        self.phase = self.drain.phase

    @invariant()
    def ends_by_its_deadline(self) -> None:
        now = self.clock.seconds()
        if self.drain.deadline is not None and now >= self.drain.deadline:
            assert self.drain.ended
        if self.service.ends_by is not None and now > self.service.ends_by + MAX_GRACE:
            assert self.ends
        assert len(self.ends) <= 1

    def teardown(self) -> None:
        if not hasattr(self, "service"):
            return
        self.service.stopService()
        self.wait(5 + MAX_GRACE)
        self.collect()
        self.never_two_answers()
        assert len(self.ends) == 1, self.clock.getDelayedCalls()
        assert len(self.service.connections) == 0
        # What was taken after the drain's end is waited for by its client only, and that may have gone.
        left = self.drain.in_flight
        assert not left or self.late_questions
        assert self.clock.getDelayedCalls() == [], self.clock.getDelayedCalls()
        for msg_id, count in self.answers.items():
            # Whoever left may have left before its answer; whoever stayed has it, and all are accounted for.
            assert count == 1 or self.owners[msg_id].transport.closed, msg_id
        assert sum(self.answers.values()) + self.drain.counts.undelivered + left == len(self.owners)


class PromiseTests(SynchronousTestCase):
    """One answer a request, whatever happens."""

    def test_any_interleaving(self) -> None:
        """Exactly one answer a request or one undelivered, counters that fit, and an end by the deadline."""
        run_state_machine_as_test(Promise, settings=settings(deadline=None, max_examples=100, stateful_step_count=40))
