"""The promise at a distance: a connection that was made on its client's side is answered, or told that it is not."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import threading
from dataclasses import dataclass

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.support.delay_line import FAR, FAR6, DelayLine, why_not
from tests.support.paths import ROOT
from tests.support.processes import RUNNERS, Process, unmeasured

#: What a client may say of a connection; any other word means that it was lost.
FINE = {"answered", "told", "refused"}

#: An endpoint for IPv4 and IPv6.
IPV6 = r"tcp:0:interface=\:\:"

#: An ordinary user, but for the right to read all files: the tests may stand where only root may look. It has no
#: privilege that has to do with the network.
NOBODY = [
    *("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"),
    *("--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search"),
]


@dataclass(frozen=True)
class Case:
    """One way to stop a server under a storm."""

    kind: str
    endpoint: str = "tcp:0"
    address: str = FAR
    user: str = "root"
    #: How many of the clients make requests that take a while.
    slow: int = 0
    clients: int = 50


@dataclass(frozen=True)
class Stop:
    """What came of it."""

    outcomes: dict[str, int]
    status: int
    log: str

    @property
    def lost(self) -> dict[str, int]:
        """How many connections were lost, by how they ended."""
        return {outcome: count for outcome, count in self.outcomes.items() if outcome not in FINE}


def stop_under_storm(line: DelayLine, case: Case) -> Stop:
    """Start a server, let the storm loose on it, and stop it.

    Raises:
        AssertionError: something did not start or end.
    """
    server = (
        [*RUNNERS["twistd"], "--listen", case.endpoint]
        if case.kind == "node"
        else [sys.executable, "-m", "tests.support.far_site", case.endpoint]
    )
    user = NOBODY if case.user == "nobody" else []
    # Coverage would write its data as somebody who may not.
    options = {"stdin": subprocess.DEVNULL, "env": unmeasured({**os.environ, "PYTHONPATH": str(ROOT)}), "cwd": ROOT}
    process = Process(*line.command("far"), *user, *server, **options)
    storm: Process | None = None
    try:
        port = process.wait_for_log(r"listening on \S+:(\d+)\n")[1]
        program = [sys.executable, str(ROOT / "tests" / "support" / "far_storm.py")]
        arguments = [case.address, port, case.kind, str(case.clients), str(case.slow)]
        storm = Process(*line.command("near"), *program, *arguments)
        if storm.read_line() != b"ready\n":
            raise AssertionError(f"the storm did not begin: {storm.log}")
        # Any moment of a client's is to be met.
        threading.Event().wait(random.uniform(0.1, 0.3))
        process.signal()
        status = process.wait()
        outcomes = json.loads(storm.read_line())
        storm.wait()
    finally:
        process.end()
        if storm is not None:
            storm.end()
    return Stop(outcomes, status, process.log)


class DistanceTests(SynchronousTestCase):
    """Stops under clients at a distance, each of which makes a new connection for every request."""

    def check(self, round_trip: float, *cases: Case) -> None:
        """Nothing is lost, and the status says so."""
        reason = why_not()
        if reason is None and shutil.which("setpriv") is None:
            reason = "there is no setpriv command"
        if reason is not None:
            raise SkipTest(reason)
        with DelayLine(round_trip) as line:
            for case in cases:
                stop = stop_under_storm(line, case)
                print(f"{round_trip} s, {case}: {stop.outcomes}")
                self.assertEqual(stop.lost, {}, f"{case}\n{stop.log}")
                self.assertEqual(stop.status, 0, stop.log)
                self.assertGreaterEqual(stop.outcomes["answered"], case.clients)
                self.assertEqual(stop.outcomes["refused"], case.clients)

    def test_node(self) -> None:
        """A node, 40 ms away, with nothing in flight and with something, over IPv4 and IPv6."""
        self.check(0.04, Case("node"), Case("node", IPV6, FAR6, slow=5))

    def test_node_of_an_ordinary_user(self) -> None:
        """The same, without privileges."""
        self.check(0.04, Case("node", user="nobody"), Case("node", IPV6, FAR6, "nobody", slow=5))

    def test_site(self) -> None:
        """A site, 40 ms away, with nothing in flight and with something, over IPv6 and IPv4."""
        self.check(0.04, Case("site", IPV6, FAR6), Case("site", slow=5))

    def test_site_of_an_ordinary_user(self) -> None:
        """The same, without privileges."""
        self.check(0.04, Case("site", IPV6, FAR6, "nobody"), Case("site", user="nobody", slow=5))

    def test_another_continent(self) -> None:
        """Clients 150 ms away; over IPv4 to a listener for both."""
        self.check(0.15, Case("node", IPV6), Case("site", user="nobody"), Case("node", user="nobody", slow=5))

    def test_more_clients_than_the_queue_has_room_for(self) -> None:
        """The kernel answers most of 200 clients with SYN cookies, which it does not keep in mind."""
        self.check(0.15, Case("node", clients=200), Case("node", user="nobody", clients=200))
