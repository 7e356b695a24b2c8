"""The phases of a drain: every phase and every event."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import FrozenInstanceError

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from twisted_node.drain import Drain
from twisted_node.drain._phases import NEXT, Event, Phase

S, L, G, D, T = Phase.SERVING, Phase.LAME_DUCK, Phase.DRAINING, Phase.DRAINED, Phase.TIMED_OUT

#: The whole table once more: where each event leads from each phase; None where it cannot happen.
TABLE: dict[Event, dict[Phase, Phase | None]] = {
    Event.LAME_DUCK: {S: L, L: L, G: G, D: D, T: T},
    Event.BEGIN: {S: G, L: G, G: G, D: D, T: T},
    Event.EMPTY: {S: None, L: None, G: D, D: None, T: None},
    Event.DEADLINE: {S: None, L: None, G: T, D: None, T: None},
}


class PhaseTableTests(SynchronousTestCase):
    """The table as it is written."""

    def test_every_phase_and_event(self) -> None:
        """Each event leads from each phase where it should, or cannot happen there."""
        for event in Event:
            for phase in Phase:
                self.assertIs(NEXT[phase].get(event), TABLE[event][phase], (event, phase))

    def test_no_way_back(self) -> None:
        """A drain only goes on: no event leads to an earlier phase."""
        order = {S: 0, L: 1, G: 2, D: 3, T: 3}
        for phase, events in NEXT.items():
            for event, following in events.items():
                self.assertGreaterEqual(order[following], order[phase], event)


class DrainPhaseTests(SynchronousTestCase):
    """The same table, lived through by a real drain."""

    def drain_in(self, phase: Phase) -> tuple[Drain, Clock, Deferred[None]]:
        """A drain in a phase, its clock, and its work in flight."""
        clock, work = Clock(), Deferred[None]()
        drain = Drain(clock, clock.seconds)
        drain.track("work", work).addErrback(lambda _: None)
        ways: dict[Phase, Callable[[], object]] = {
            S: lambda: None,
            L: lambda: drain.lame_duck(5, 10),
            G: lambda: drain.begin(10),
            D: lambda: drain.begin(10),
            T: lambda: drain.begin(0),
        }
        ways[phase]()
        if phase is D:
            work.callback(None)
        self.assertIs(drain.phase, phase)
        return drain, clock, work

    def test_every_phase_and_event(self) -> None:
        """A drain in any phase goes where the table says, and stays where nothing leads on."""
        for phase in Phase:
            for event in Event:
                drain, clock, work = self.drain_in(phase)
                happens: dict[Event, Callable[[], object]] = {
                    Event.LAME_DUCK: lambda drain=drain: drain.lame_duck(5, 10),  # type: ignore[misc] # bound now
                    Event.BEGIN: lambda drain=drain: drain.begin(10),  # type: ignore[misc]
                    Event.EMPTY: lambda work=work: work.called or work.callback(None),  # type: ignore[misc]
                    Event.DEADLINE: lambda clock=clock: clock.advance(10),  # type: ignore[misc]
                }
                happens[event]()
                # In a lame duck, ten seconds bring its drain about, not a deadline.
                expected = G if (phase, event) == (L, Event.DEADLINE) else TABLE[event][phase] or phase
                self.assertIs(drain.phase, expected, (phase, event))

    def test_picture(self) -> None:
        """A picture of a drain cannot be changed."""
        statistics = self.drain_in(G)[0].statistics()
        with self.assertRaises(FrozenInstanceError):
            statistics.finished = 5  # type: ignore[misc] # that is what is shown
