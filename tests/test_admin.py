"""The admin endpoint: what it answers, and that it is the last to go and never waits for its own clients."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.error import CannotListenError, ConnectionDone
from twisted.internet.testing import MemoryReactorClock, StringTransportWithDisconnection
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.support import INIT, PATIENCE, RUNNERS, Process, bodies, by_request, connect, message, read_to_end, run
from tests.test_metrics import figures
from twisted_node import Drain, DrainingService
from twisted_node.watch._admin import Admin
from twisted_node.watch._metrics import Metrics

LOCAL = "tcp:0:interface=127.0.0.1"


class Client(StringTransportWithDisconnection):
    """An HTTP client's connection, in memory."""

    aborted = False

    def __init__(self, admin: Admin) -> None:
        peer = IPv4Address("TCP", "192.0.2.1", 40000)
        super().__init__(hostAddress=IPv4Address("TCP", "192.0.2.2", 80), peerAddress=peer)
        protocol = admin.listener.factory.buildProtocol(peer)
        assert protocol is not None
        self.protocol: Any = protocol
        self.protocol.makeConnection(self)

    def get(self, path: str, *headers: str, method: str = "GET") -> tuple[int, dict[str, str], str]:
        """Send one request; return status, headers and body of its answer."""
        self.clear()
        self.protocol.dataReceived(
            "\r\n".join([f"{method} {path} HTTP/1.1", "Host: node:80", *headers, "", ""]).encode()
        )
        head, _, body = self.value().decode().partition("\r\n\r\n")
        first, *lines = head.split("\r\n")
        return int(first.split()[1]), dict(line.split(": ", 1) for line in lines), body

    def abortConnection(self) -> None:
        self.aborted = True
        self.protocol.connectionLost(Failure(ConnectionDone()))


class AdminCase(SynchronousTestCase):
    """A server that serves nothing, and its admin endpoint, in memory."""

    may_drain = False

    def setUp(self) -> None:
        self.reactor: Any = MemoryReactorClock()
        self.drain = Drain(self.reactor, self.reactor.seconds)
        self.service = DrainingService(self.drain, drain_timeout=25)
        endpoint = TCP4ServerEndpoint(self.reactor, 0)
        self.admin = Admin(self.service, endpoint, Metrics(self.service), may_drain=self.may_drain)
        self.admin.startService()

    def start(self) -> Client:
        self.service.startService()
        return Client(self.admin)


class AdminTests(AdminCase):
    """What is answered to whom."""

    def test_health(self) -> None:
        """A serving process lives and is ready; a draining one lives, and says why it is not ready."""
        client = self.start()
        self.assertEqual(client.get("/livez")[::2], (200, "ok\n"))
        self.assertEqual(client.get("/readyz")[::2], (200, "ready\n"))
        self.drain.track("slow one", Deferred())
        self.drain.begin(10, "SIGTERM")
        self.assertEqual(client.get("/livez")[::2], (200, "ok\n"))
        self.assertEqual(client.get("/readyz")[::2], (503, "draining: SIGTERM\n"))

    def test_not_started(self) -> None:
        """Before the listeners are bound it is not ready."""
        self.assertEqual(Client(self.admin).get("/readyz")[::2], (503, "not started\n"))

    def test_lame_duck(self) -> None:
        """Readiness fails from the first moment of a lame duck."""
        client = self.start()
        self.service.end("SIGTERM", lame_duck=3)
        self.assertEqual(client.get("/readyz")[::2], (503, "lame_duck: SIGTERM\n"))

    def test_status(self) -> None:
        """The status is JSON, for nobody's cache."""
        status, headers, body = self.start().get("/status")
        self.assertEqual((status, headers["Content-Type"]), (200, "application/json"))
        self.assertEqual(headers["Cache-Control"], "no-store")
        self.assertEqual(json.loads(body)["phase"], "serving")

    def test_metrics(self) -> None:
        """The figures come in the format that is asked for."""
        client = self.start()
        status, headers, body = client.get("/metrics")
        self.assertEqual(status, 200)
        self.assertTrue(headers["Content-Type"].startswith("text/plain; version="), headers)
        self.assertEqual(figures(body)["twisted_node_phase{phase=serving}"], 1)
        _, headers, body = client.get("/metrics", "Accept: application/openmetrics-text; version=1.0.0")
        self.assertTrue(headers["Content-Type"].startswith("application/openmetrics-text"), headers)
        self.assertTrue(body.endswith("# EOF\n"))

    def test_page(self) -> None:
        """The page and its files come with a policy that lets nothing else in, and so do errors."""
        client = self.start()
        for path, kind in (("/", "text/html"), ("/page.js", "text/javascript"), ("/page.css", "text/css")):
            status, headers, _ = client.get(path)
            self.assertEqual((status, headers["Content-Type"]), (200, f"{kind}; charset=utf-8"))
            self.assertIn("default-src 'none'; script-src 'self'", headers["Content-Security-Policy"])
        status, headers, _ = client.get("/nothing")
        self.assertEqual(status, 404)
        self.assertIn("default-src 'none'", headers["Content-Security-Policy"])

    def test_wrong_method(self) -> None:
        """A path says which methods it takes."""
        client = self.start()
        status, headers, _ = client.get("/status", "Content-Length: 0", method="POST")
        self.assertEqual((status, headers["Allow"]), (405, "GET, HEAD"))
        for method in ("GET", "HEAD", "DELETE"):
            status, headers, _ = client.get("/drain", method=method)
            self.assertEqual((status, headers["Allow"]), (405, "POST"))
        self.assertIs(self.drain.refusing, False)

    def test_head(self) -> None:
        """HEAD is answered by the headers alone; on the live view it ends, too."""
        client = self.start()
        self.assertEqual(client.get("/readyz", method="HEAD")[::2], (200, ""))
        status, headers, body = client.get("/events", method="HEAD")
        self.assertEqual((status, headers["Content-Type"], body), (200, "text/event-stream", ""))
        self.assertEqual(client.get("/livez")[0], 200)

    def test_drain_not_allowed(self) -> None:
        """Nobody drains unless that was allowed; the answer says by what."""
        status, _, body = self.start().get("/drain", "Content-Length: 0", method="POST")
        self.assertEqual((status, body), (403, "not allowed: start the node with --admin-drain\n"))
        self.assertIs(self.drain.refusing, False)

    def test_port_taken(self) -> None:
        """A port that cannot be bound makes the start fail."""

        class Taken:
            def listen(self, factory: Any) -> Any:
                raise CannotListenError("", 80, OSError("taken"))

        endpoint: Any = Taken()
        admin = Admin(self.service, endpoint, Metrics(self.service))
        self.assertRaises(CannotListenError, admin.startService)

    def test_stop(self) -> None:
        """Stopping it with an application waits for the server, and closes nothing before."""
        client = self.start()
        work: Deferred[None] = Deferred()
        self.drain.track("slow one", work)
        stopped = [self.admin.stopService(), self.service.stopService()]
        self.assertNoResult(stopped[0])
        self.assertEqual(client.get("/readyz")[0], 503)
        work.callback(None)
        self.successResultOf(stopped[0])
        self.successResultOf(stopped[1])
        self.assertIs(client.connected, False)


class EventsTests(AdminCase):
    """Those who watch."""

    def watch(self) -> Client:
        client = Client(self.admin)
        status, headers, _ = client.get("/events")
        self.assertEqual((status, headers["Content-Type"]), (200, "text/event-stream"))
        return client

    def events(self, client: Client) -> list[str]:
        """The kinds of the events received, and the phases of the pictures."""
        kinds, kind = [], ""
        for line in client.value().decode().splitlines():
            if line.startswith("event: "):
                kind = line.removeprefix("event: ")
            elif line.startswith("data: "):
                data = json.loads(line.removeprefix("data: "))
                kinds.append(" ".join(filter(None, [kind, data.get("phase", "")])))
                kind = ""
        return kinds

    def test_from_serving_to_gone(self) -> None:
        """First come the last minutes, then a picture every second and at every turn, then the end."""
        self.start()
        self.reactor.pump([1] * 3)
        client = self.watch()
        self.assertIn(b'"in_flight":[0,0,0,0]', client.value())
        self.reactor.advance(1)
        work: Deferred[None] = Deferred()
        self.drain.track("slow one", work)
        self.drain.begin(10)
        work.callback(None)
        self.assertEqual(
            self.events(client),
            ["history", "serving", "serving", "draining", "drained", "ended drained"],
        )
        self.assertTrue(client.value().endswith(b"0\r\n\r\n"), "the answer has ended as HTTP wants it")
        self.assertIs(client.connected, False)

    def test_memory_is_bounded(self) -> None:
        """A process that has lived for long keeps the last five minutes."""
        self.start()
        self.reactor.pump([1] * 400)
        history = next(line for line in self.watch().value().splitlines() if b'"in_flight":[' in line)
        self.assertEqual(history.count(b","), 300)

    def test_leaving(self) -> None:
        """One who has left is written to no more."""
        self.start()
        client = self.watch()
        client.loseConnection()
        client.clear()
        self.reactor.advance(3)
        self.assertEqual(client.value(), b"")

    def test_slow_reader(self) -> None:
        """Who does not read misses pictures, which are not kept; at the end, nobody waits for them."""
        self.start()
        client = self.watch()
        client.loseConnection = lambda: None  # type: ignore[method-assign] # it is never flushed
        producer: Any = client.producer
        producer.pauseProducing()
        client.clear()
        self.reactor.pump([1] * 5)
        self.assertEqual(client.value(), b"")
        producer.resumeProducing()
        self.reactor.advance(1)
        self.assertIn(b"serving", client.value())
        producer.pauseProducing()
        ended = self.service.end("because")
        self.assertNoResult(ended)
        self.reactor.advance(0.25)
        self.assertIs(client.aborted, True)
        self.successResultOf(ended)

    def test_too_late(self) -> None:
        """Who comes in the very last moment still gets the last word."""
        self.start()
        stuck = Client(self.admin)
        stuck.loseConnection = lambda: None  # type: ignore[method-assign] # it is never flushed
        self.service.end("because")
        self.assertEqual(self.events(self.watch()), ["history", "drained", "ended drained"])
        stuck.abortConnection()


class AdminDrainTests(AdminCase):
    """A drain that may be begun by HTTP."""

    may_drain = True

    def post(self, path: str, *headers: str) -> tuple[int, str]:
        return Client(self.admin).get(path, "Content-Length: 0", *headers, method="POST")[::2]

    def test_drain(self) -> None:
        """One request begins the drain, with its deadline; the answer is the status."""
        self.start()
        self.drain.track("slow one", Deferred())
        status, body = self.post("/drain?timeout=7.5")
        self.assertEqual(status, 202)
        picture = json.loads(body)
        self.assertEqual((picture["phase"], picture["left_ms"]), ("draining", 7500))
        self.assertEqual(picture["reason"], "POST /drain from 192.0.2.1")

    def test_again(self) -> None:
        """The same drain is joined: a later request may bring the deadline nearer, never push it away."""
        self.start()
        self.drain.track("slow one", Deferred())
        self.assertEqual(json.loads(self.post("/drain")[1])["left_ms"], 25_000)
        self.assertEqual(json.loads(self.post("/drain?timeout=5")[1])["left_ms"], 5_000)
        self.assertEqual(json.loads(self.post("/drain?timeout=60")[1])["left_ms"], 5_000)

    def test_bad_timeout(self) -> None:
        """A timeout that is none is named, and nothing happens."""
        self.start()
        for text in ("soon", "-1", "nan", "inf", "3601", "1&timeout=2"):
            status, body = self.post(f"/drain?timeout={text}")
            self.assertEqual(status, 400, text)
            self.assertIn("timeout: expected seconds from 0 to 3600", body)
        self.assertIs(self.drain.refusing, False)

    def test_pages_of_others(self) -> None:
        """A page from elsewhere cannot drain the server by way of its reader's browser."""
        self.start()
        self.drain.track("slow one", Deferred())
        for header in (
            "Origin: http://elsewhere",
            "Origin: null",
            "Sec-Fetch-Site: cross-site",
            "Sec-Fetch-Site: same-site",
        ):
            status, body = self.post("/drain", header)
            self.assertEqual((status, body), (403, "not allowed: the request comes from a page of another site\n"))
        self.assertIs(self.drain.refusing, False)
        status, _ = self.post("/drain", "Origin: http://node:80", "Sec-Fetch-Site: same-origin")
        self.assertEqual(status, 202)


def ports(process: Process, count: int) -> list[int]:
    """Wait for so many ports; that of --admin is the first."""
    return process.ports(count)


def curl(port: int, path: str, *options: str) -> tuple[int, str]:
    """Ask as an operator does; return the status and the body."""
    result = subprocess.run(
        ["curl", "-sS", "-w", "\n%{http_code}", *options, f"http://127.0.0.1:{port}{path}"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    body, _, status = result.stdout.rpartition("\n")
    return int(status), body


class ProcessTests(SynchronousTestCase):
    """The command with --admin, as a process."""

    def start(self, *options: str) -> Process:
        process = Process(*RUNNERS["python"], "--admin", LOCAL, "--listen", LOCAL, *options)
        self.addCleanup(process.end)
        return process

    def test_figures_match(self) -> None:
        """What curl reads is what a client has counted."""
        process = self.start("--admin-drain")
        admin, port = ports(process, 2)
        with connect(port) as client:
            for number in range(5):
                client.sendall(message("tcp_request", number))
            client.sendall(message("tcp_request", 5, latency_ms="soon") + message("tcp_nonsense", 6) + b"junk\n")
            client.sendall(message("tcp_request", 7, latency_ms=60_000) + message("tcp_drain_status", 8))
            reader = client.makefile("rb")
            for _ in range(9):
                reader.readline()
            found = figures(curl(admin, "/metrics")[1])
            self.assertEqual(found["twisted_node_requests_in_flight"], 1)
            self.assertEqual(found["twisted_node_connections"], 1)
            self.assertEqual(found["twisted_node_requests_total{outcome=ok,type=tcp_request}"], 5)
            self.assertEqual(found["twisted_node_requests_total{outcome=error,type=tcp_request}"], 1)
            self.assertEqual(found["twisted_node_requests_total{outcome=ok,type=tcp_drain_status}"], 1)
            self.assertEqual(found["twisted_node_unreadable_lines_total"], 1)
            self.assertEqual(found["twisted_node_request_duration_seconds_count{type=tcp_request}"], 6)
            self.assertEqual(curl(admin, "/drain?timeout=0.5", "-X", "POST")[0], 202)
            client.sendall(message("tcp_request", 9))
            late, cut = (by_request(bodies(reader.readline())).popitem() for _ in range(2))
            self.assertEqual((late[0], late[1]["error"]), (9, "server_shutting_down"))
            found = figures(curl(admin, "/metrics")[1])
            self.assertEqual(found["twisted_node_requests_total{outcome=refused,type=tcp_request}"], 1)
            self.assertEqual((cut[0], cut[1]["error"]), (7, "drain_timeout"))
            found = figures(curl(admin, "/metrics")[1])
            self.assertEqual(found["twisted_node_requests_total{outcome=cut,type=tcp_request}"], 1)
            self.assertGreater(found["twisted_node_drain_duration_seconds"], 0.49)
        self.assertEqual(process.wait(), 1)

    def test_the_last_to_go(self) -> None:
        """It answers while the server's last connection is closing, and its own clients delay nothing."""
        process = self.start("--linger", "10")
        admin, port = ports(process, 2)
        with connect(port) as client, connect(admin) as idle, connect(admin) as half, connect(admin) as stream:
            stream.sendall(b"GET /events HTTP/1.1\r\nHost: node\r\n\r\n")
            idle.sendall(b"GET /livez HTTP/1.1\r\nHost: node\r\n\r\n")
            half.sendall(b"GET /liv")
            client.sendall(message("tcp_request", 1, latency_ms=300))
            self.assertEqual(curl(admin, "/readyz"), (200, "ready\n"))
            process.signal()
            self.assertEqual(by_request(bodies(read_to_end(client)))[1]["type"], "tcp_request_ok")
            # The process lingers for a client that does not close its side.
            status, text = curl(admin, "/status")
            self.assertEqual((status, json.loads(text)["phase"]), (200, "drained"))
            self.assertEqual(curl(admin, "/readyz"), (503, "drained: SIGTERM\n"))
            client.close()
            self.assertEqual(process.wait(), 0)
            events = read_to_end(stream)
            self.assertIn(b"event: ended\ndata: ", events)
            self.assertTrue(events.endswith(b"0\r\n\r\n"))
            self.assertTrue(read_to_end(idle).endswith(b"ok\n"))
            self.assertEqual(read_to_end(half), b"")

    def test_on_standard_input(self) -> None:
        """A node on standard input can be watched too; a drain begun by HTTP leaves it answering until input ends."""
        process = Process(*RUNNERS["python"], "--admin", LOCAL, "--admin-drain")
        self.addCleanup(process.end)
        process.send(INIT)
        process.read_line()
        self.assertEqual(curl(process.port(), "/drain", "-X", "POST")[0], 202)
        self.assertEqual(curl(process.port(), "/readyz"), (503, "drained: POST /drain from 127.0.0.1\n"))
        process.send(message("tcp_drain_status", 2))
        self.assertEqual(bodies(process.read_line())[0]["status"], "drained")
        process.close_input()
        self.assertEqual(process.wait(), 0)

    def test_warning(self) -> None:
        """An endpoint that lets other machines stop the node is warned of."""
        process = Process(*RUNNERS["python"], "--admin", "tcp:0", "--admin-drain")
        self.addCleanup(process.end)
        process.wait_for_log("control endpoints that other machines can reach")
        process.close_input()
        self.assertEqual(process.wait(), 0)

    def check_refused(self, *options: str, line: str) -> None:
        result = run(*options, lines=b"")
        self.assertEqual((result.returncode, result.stdout, result.stderr.decode()), (1, b"", f"node: {line}\n"))

    def test_wrong_options(self) -> None:
        """What cannot be met is said in one line."""
        self.check_refused("--admin-drain", line="--admin-drain: needs --admin")
        self.check_refused("--admin=nonsense:", line="--admin nonsense:: Unknown endpoint type: 'nonsense'")
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            result = run(f"--admin=tcp:{port}:interface=127.0.0.1", lines=b"")
        self.assertEqual(result.returncode, 1)
        self.assertRegex(result.stderr.decode(), rf"node: Couldn't listen on 127.0.0.1:{port}: [^\n]*\n$")

    def run_python(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", program, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    def test_missing_extra(self) -> None:
        """Without prometheus-client, one line says which extra is missing."""
        program = "import sys; sys.modules['prometheus_client'] = None; from twisted_node import run; run()"
        result = self.run_python(program, "--admin", LOCAL)
        self.assertEqual(result.returncode, 1)
        self.assertEqual(result.stderr, "node: --admin: needs the admin extra: pip install 'twisted-node[admin]'\n")

    def test_not_paid_for(self) -> None:
        """Without --admin, neither twisted.web nor prometheus-client is imported, from the start to the end."""
        program = (
            "import atexit, sys; from twisted_node.command._run import run\n"
            "atexit.register(lambda: print(*sys.modules, file=sys.stderr))\n"
            "run()"
        )
        for options, expected in ([], False), (["--admin", LOCAL], True):
            result = self.run_python(program, *options)
            self.assertEqual(result.returncode, 0)
            imported = result.stderr.split()
            self.assertIn("twisted_node.server._service", imported)
            for name in ("twisted.web", "prometheus_client", "twisted_node.watch._admin"):
                self.assertIs(name in imported, expected, name)
