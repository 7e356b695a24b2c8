"""The states of an HTTP exchange: every state and every event."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from tests.support.transports import MemoryTransport
from tests.support.web import WebTests, get, statuses
from twisted_node.web._exchange import NEXT, Event, Exchange, State

R, S, N, C, E = State.RECEIVING, State.SERVING, State.REFUSED, State.CUT, State.OVER

#: The whole table once more: where each event leads from each state; None where it cannot happen.
TABLE: dict[Event, dict[State, State | None]] = {
    Event.RECEIVED: {R: S, S: None, N: N, C: C, E: E},
    Event.REFUSED: {R: N, S: None, N: N, C: C, E: E},
    Event.DEADLINE: {R: C, S: C, N: None, C: None, E: None},
    Event.ENDED: {R: E, S: E, N: N, C: C, E: E},
    Event.LOST: {R: E, S: E, N: N, C: C, E: E},
}


class TableTests(SynchronousTestCase):
    """The table as it is written."""

    def test_every_state_and_event(self) -> None:
        """Each event leads from each state where it should, or cannot happen there."""
        for event in Event:
            for state in State:
                self.assertIs(NEXT[state].get(event), TABLE[event][state], (event, state))

    def test_ends(self) -> None:
        """Nothing leads out of the last three states, and nothing leads back."""
        order = {R: 0, S: 1, N: 2, C: 2, E: 2}
        for state, events in NEXT.items():
            for event, following in events.items():
                if order[state] == 2:
                    self.assertIs(following, state, event)
                self.assertGreaterEqual(order[following], order[state], event)


class ExchangeStateTests(WebTests):
    """The same table, lived through by exchanges of a draining site."""

    def exchange_in(self, state: State) -> tuple[Exchange, MemoryTransport]:
        """An exchange in a state while draining, and its connection."""
        transport = self.ask(b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\n" if state in (R, N) else get())
        (name,) = [name for name, _ in self.drain.statistics().oldest]
        assert isinstance(name, Exchange)
        self.stop()
        ways: dict[State, Callable[[], object]] = {
            R: lambda: None,
            S: lambda: None,
            N: name.refuse,
            C: self.drain.cut_in_flight,
            E: self.resource.answer,
        }
        ways[state]()
        self.assertIs(name.state, state)
        return name, transport

    def happen(self, event: Event, exchange: Exchange, transport: MemoryTransport) -> None:
        """Make an event happen, as the connection, the drain or the transport does."""
        ways: dict[Event, Callable[[], object]] = {
            Event.RECEIVED: exchange.received,
            Event.REFUSED: exchange.refuse,
            Event.DEADLINE: self.drain.cut_in_flight,
            Event.ENDED: exchange.end,
            Event.LOST: transport.leave,
        }
        ways[event]()

    def test_every_state_and_event(self) -> None:
        """An exchange goes where the table says; the drain cuts none that has ended."""
        for state in State:
            for event in Event:
                self.setUp()
                exchange, transport = self.exchange_in(state)
                following = TABLE[event][state]
                if following is None and event is not Event.DEADLINE:
                    self.assertRaises(KeyError, self.happen, event, exchange, transport)
                else:
                    self.happen(event, exchange, transport)
                self.assertIs(exchange.state, following or state, (event, state))

    def test_counts(self) -> None:
        """Each exchange is counted once, by the state in which it ended."""
        expected = {R: (0, 0, 0), S: (0, 0, 0), N: (0, 1, 0), C: (0, 0, 1), E: (1, 0, 0)}
        for state in State:
            self.setUp()
            exchange, transport = self.exchange_in(state)
            counts = self.drain.counts
            self.assertEqual((counts.finished, counts.refused, counts.cut), expected[state], state)
            transport.leave()
            exchange.end()
            refused_and_cut = expected[state][1:]
            self.assertEqual((counts.refused, counts.cut), refused_and_cut, state)
            self.assertEqual(counts.undelivered, int(state is S), state)
            self.assertEqual(counts.finished, int(state in (R, S, E)), state)

    def test_answers(self) -> None:
        """An exchange that is refused, or cut before its answer has begun, is answered 503, and never served."""
        for state in (N, C):
            self.setUp()
            exchange, transport = self.exchange_in(state)
            self.assertEqual(statuses(transport.take()), [503])
            exchange.request.process()
            self.assertFalse(exchange.received())
            self.assertEqual(len(self.resource.requests), int(state is C))
            self.assertEqual(transport.take(), b"")

    def test_late_answer(self) -> None:
        """What a resource writes after its exchange was cut is dropped."""
        exchange, transport = self.exchange_in(C)
        transport.take()
        exchange.request.write(b"too late")
        exchange.request.finish()
        self.assertEqual(transport.take(), b"")

    def test_memory(self) -> None:
        """A request that was answered is freed at once, without the garbage collector."""
        self.ask()
        request = weakref.ref(self.resource.requests[0])
        gc.disable()
        self.addCleanup(gc.enable)
        self.resource.answer()
        self.resource.requests.clear()
        self.assertIsNone(request())
