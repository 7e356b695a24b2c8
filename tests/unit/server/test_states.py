"""The states of a connection, of all connections, and of the service: every state and every event."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.support.visitor import Visitor
from twisted_node import Drain, DrainingService
from twisted_node.handover._predecessor import PREDECESSOR, PredecessorEvent
from twisted_node.handover._successor import SUCCESSOR, SuccessorEvent
from twisted_node.server._connections import Connections
from twisted_node.server._shedding import Shedding
from twisted_node.server._states import (
    CONNECTION,
    CONNECTIONS,
    SERVICE,
    ConnectionEvent,
    ConnectionsEvent,
    ConnectionsState,
    ServiceEvent,
    ServiceState,
)

Table = Mapping[Any, Mapping[Any, Any]]

#: Each table once more, a letter for a state in the order of its Enum: where each event leads from each of them.
#: A dot is an event that cannot happen there.
EXPECTED: dict[str, tuple[Table, str, dict[Any, str]]] = {
    "connection": (
        CONNECTION,
        "NTFG",
        {ConnectionEvent.HEARD: "TTFG", ConnectionEvent.FINISH: "FFFG", ConnectionEvent.LOST: "GGGG"},
    ),
    "connections": (
        CONNECTIONS,
        "OSDFIG",
        {
            ConnectionsEvent.LAME_DUCK: "SS....",
            ConnectionsEvent.DRAIN: "DF....",
            ConnectionsEvent.FINISH: "..FFI.",
            ConnectionsEvent.LOSE_PATIENCE: "...IIG",
            ConnectionsEvent.END_IS_DUE: "...GGG",
        },
    ),
    "service": (
        SERVICE,
        "SLDOCGRE",
        {
            ServiceEvent.LAME_DUCK: "LL......",
            ServiceEvent.DRAIN: "DD......",
            ServiceEvent.GO_ON: "..O.....",
            ServiceEvent.CLOSE: "..CC....",
            ServiceEvent.END_IS_DUE: "....G...",
            ServiceEvent.EMPTY: "....RR..",
            ServiceEvent.STOPPED: "......E.",
        },
    ),
    "successor": (
        SUCCESSOR,
        "SFXG",
        {SuccessorEvent.READY: "G...", SuccessorEvent.FAIL: "F...", SuccessorEvent.EXIT: "SX.G"},
    ),
    "predecessor": (PREDECESSOR, "SDG", {PredecessorEvent.GO: "D..", PredecessorEvent.LOST: "GG."}),
}


class StateTableTests(SynchronousTestCase):
    """The tables as they are written."""

    def test_every_state_and_event(self) -> None:
        """Each event leads from each state where it should, or cannot happen there."""
        for name, (table, letters, expected) in EXPECTED.items():
            letter = dict(zip(table, letters, strict=True))
            for event, row in expected.items():
                leads = "".join(letter.get(events.get(event), ".") for events in table.values())
                self.assertEqual(leads, row, f"{name}: {event}")

    def test_whole(self) -> None:
        """No state and no event is left out."""
        for name, (table, _, expected) in EXPECTED.items():
            for members in (table, expected):
                every: type[Enum] = type(next(iter(members)))
                self.assertEqual(list(members), list(every), name)

    def test_no_way_back(self) -> None:
        """A life only goes on: no event leads to an earlier state."""
        for name, (table, _, _) in EXPECTED.items():
            order = list(table)
            for state, events in table.items():
                for event, following in events.items():
                    self.assertGreaterEqual(order.index(following), order.index(state), f"{name}: {event}")


class ConnectionLifeTests(SynchronousTestCase):
    """The table of a connection, lived through by real ones."""

    def test_every_state_and_event(self) -> None:
        """Each event leads a real connection from each state to where the table says."""
        for state, events in CONNECTION.items():
            for event, following in events.items():
                visitor = Visitor.in_state(Connections(Clock()), state)
                self.assertIs(visitor.connection.state, state)
                {
                    ConnectionEvent.HEARD: visitor.connection.heard,
                    ConnectionEvent.FINISH: visitor.connection.finish,
                    ConnectionEvent.LOST: visitor.leave,
                }[event]()
                self.assertIs(visitor.connection.state, following, (state, event))


class ConnectionsLifeTests(SynchronousTestCase):
    """The table of all connections, lived through."""

    def live(self, *way: ConnectionsEvent) -> None:
        """From open to the grace; what cannot happen raises, and changes nothing."""
        clock = Clock()
        connections = Connections(clock)
        drain = Drain(clock, clock.seconds)
        visitor = Visitor(connections, owed=True)
        told = {
            ConnectionsEvent.LAME_DUCK: lambda: connections.begin_lame_duck(Shedding(drain, lambda: 0.5)),
            ConnectionsEvent.DRAIN: connections.begin_drain,
            ConnectionsEvent.FINISH: connections.finish,
            ConnectionsEvent.LOSE_PATIENCE: connections.lose_patience,
            ConnectionsEvent.END_IS_DUE: connections.begin_grace,
        }
        for next_event in way:
            state = connections.state
            for event, tell in told.items():
                if event not in CONNECTIONS[state]:
                    self.assertRaises(KeyError, tell)
                    self.assertIs(connections.state, state)
            told[next_event]()
            self.assertIs(connections.state, CONNECTIONS[state][next_event])
        self.assertIs(connections.state, ConnectionsState.GRACE)
        visitor.leave()

    def test_all_states(self) -> None:
        """Without a lame duck a server drains first; after one it finishes connections as soon as it drains."""
        event = ConnectionsEvent
        self.live(event.DRAIN, event.FINISH, event.LOSE_PATIENCE, event.END_IS_DUE)
        self.live(event.LAME_DUCK, event.LAME_DUCK, event.DRAIN, event.FINISH, event.END_IS_DUE)
        self.live(event.LAME_DUCK, event.DRAIN, event.LOSE_PATIENCE, event.FINISH, event.END_IS_DUE)

    def test_timers(self) -> None:
        """No timer runs before the finish, and none after the last connection is gone."""
        clock = Clock()
        connections = Connections(clock)
        visitor = Visitor(connections, asking=True, asks_again_within=0.5)
        connections.begin_drain()
        self.assertEqual(clock.getDelayedCalls(), [])
        clock.advance(0.05)
        connections.finish()
        self.assertNotEqual(clock.getDelayedCalls(), [])
        visitor.leave()
        self.assertEqual(clock.getDelayedCalls(), [])


class ServiceLifeTests(SynchronousTestCase):
    """The table of the service, lived through by real ones."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.drain = Drain(self.clock, self.clock.seconds)
        self.seen: list[ServiceState] = []

    def service(self, **options: Any) -> DrainingService:
        return DrainingService(self.drain, drain_timeout=10, linger=0.5, **options)

    def see(self, service: DrainingService, state: ServiceState) -> None:
        self.assertIs(service.state, state)
        self.seen.append(state)

    def test_longest_way(self) -> None:
        """With a lame duck, and a client that stays to the deadline, a service goes through nearly all states."""
        service = self.service(lame_duck=1)
        stopping: Deferred[None] = Deferred()
        service.stop_after_drain(lambda: stopping)
        visitor = Visitor(service.connections, owed=True)
        work: Deferred[None] = Deferred()
        self.drain.track("work", work)
        self.see(service, ServiceState.SERVING)
        service.stopService()
        self.see(service, ServiceState.LAME_DUCK)
        service.stopService()
        self.clock.advance(1)
        self.see(service, ServiceState.DRAINING)
        work.callback(None)
        self.see(service, ServiceState.CLOSING)
        self.clock.advance(10)
        self.see(service, ServiceState.GRACE)
        visitor.leave()
        self.see(service, ServiceState.STOPPING_THE_REST)
        stopping.callback(None)
        self.see(service, ServiceState.ENDED)
        self.assertEqual(set(ServiceState) - set(self.seen), {ServiceState.GOING_ON})
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_going_on(self) -> None:
        """A drain that somebody else began does not end a service that was not told to end."""
        service = self.service(ends_with_drain=False)
        self.drain.begin(5)
        self.see(service, ServiceState.GOING_ON)
        service.end("standard input ended")
        self.see(service, ServiceState.ENDED)
