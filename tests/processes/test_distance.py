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
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from benchmarks.delay_line import FAR, FAR6, DelayLine, why_not
from tests.support.certificates import Certificates
from tests.support.ordinary_user import nobody
from tests.support.paths import ROOT
from tests.support.processes import RUNNERS, Process, unmeasured

#: What a client may say of a connection; any other word means that it was lost.
FINE = {"answered", "told", "refused"}

#: An endpoint for IPv4 and IPv6.
IPV6 = r"tcp:0:interface=\:\:"


@dataclass(frozen=True)
class Case:
    """One way to stop a server under a storm."""

    kind: str
    endpoint: str = "tcp:0"
    address: str = FAR
    user: str = "root"
    tls: bool = False
    #: How many of the clients make requests that take a while.
    slow: int = 0
    clients: int = 50
    #: In seconds, of the node.
    linger: int = 1


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


def stop_under_storm(line: DelayLine, case: Case, pem: Path) -> Stop:
    """Start a server, let the storm loose on it, and stop it.

    Args:
        line: to the server.
        case: which server, and which clients.
        pem: certificate and key of a server with TLS.

    Raises:
        AssertionError: something did not start or end.
    """
    endpoint = f"ssl:0:privateKey={pem}:certKey={pem}" if case.tls else case.endpoint
    server = (
        [*RUNNERS["twistd"], "--listen", endpoint, "--linger", str(case.linger)]
        if case.kind == "node"
        else [sys.executable, "-m", "tests.support.far_site", endpoint]
    )
    user = nobody(pem) if case.user == "nobody" else []
    # Coverage would write its data as somebody who may not.
    options = {"stdin": subprocess.DEVNULL, "env": unmeasured({**os.environ, "PYTHONPATH": str(ROOT)}), "cwd": ROOT}
    process = Process(*line.command("far"), *user, *server, **options)
    storm: Process | None = None
    try:
        port = process.wait_for_log(r"listening on \S+:(\d+)\n")[1]
        program = [sys.executable, str(ROOT / "tests" / "support" / "far_storm.py")]
        arguments = [case.address, port, case.kind, str(case.clients), str(case.slow), *["tls"] * case.tls]
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
        pem = Certificates(Path(self.mktemp()).absolute()).server
        with DelayLine(round_trip) as line:
            for case in cases:
                stop = stop_under_storm(line, case, pem)
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

    def test_tls(self) -> None:
        """Clients whose first request goes with the last message of a TLS handshake; an ordinary user's servers."""
        self.check(0.04, Case("node", user="nobody", tls=True), Case("site", user="nobody", tls=True, slow=5))

    def test_another_continent_over_tls(self) -> None:
        """The same, 150 ms away."""
        self.check(0.15, Case("node", user="nobody", tls=True), Case("site", user="nobody", tls=True))

    def test_another_continent(self) -> None:
        """Clients 150 ms away; over IPv4 to a listener for both."""
        self.check(0.15, Case("node", IPV6), Case("site", user="nobody"), Case("node", user="nobody", slow=5))

    def test_more_clients_than_the_queue_has_room_for(self) -> None:
        """The kernel answers most of 200 clients with SYN cookies, which it does not keep in mind."""
        # One whose last packet found the queue full sends it again after up to two seconds.
        self.check(0.15, Case("node", clients=200, linger=3), Case("node", user="nobody", clients=200, linger=3))
