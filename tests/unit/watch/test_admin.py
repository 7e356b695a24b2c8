"""The admin endpoint: what it answers, and that it is the last to go and never waits for its own clients."""

from __future__ import annotations

import json
import os
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError

from tests.support.admin import figures
from tests.support.admin_client import AdminCase, AdminClient
from twisted_node import Node
from twisted_node._version import VERSION
from twisted_node.testing import MemoryEndpoint
from twisted_node.watch._admin import Admin
from twisted_node.watch._metrics import Metrics


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

    def test_privileges(self) -> None:
        """Only a TCP port is bound before privileges are dropped; any other endpoint waits for the start."""
        endpoint = MemoryEndpoint()
        admin = Admin(self.service, endpoint, Metrics(self.service))
        admin.privilegedStartService()
        self.assertIs(admin.listener.host, None)

    def test_not_started(self) -> None:
        """Before the listeners are bound it is not ready."""
        self.assertEqual(AdminClient(self.admin).get("/readyz")[::2], (503, "not started\n"))

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

    def test_who(self) -> None:
        """The status says which process answers and for how long it has served, and its node's name once it has one."""
        self.assertIs(json.loads(AdminClient(self.admin).get("/status")[2])["uptime_s"], None)
        client = self.start()
        self.reactor.advance(2.5)
        status = json.loads(client.get("/status")[2])
        told = [status[name] for name in ("pid", "version", "node_id", "uptime_s")]
        self.assertEqual(told, [os.getpid(), VERSION, None, 2.5])
        node = Node()
        self.metrics.watch(node)
        node.node_id = "n7"
        self.assertEqual(json.loads(client.get("/status")[2])["node_id"], "n7")
        client.get("/events")
        self.assertIn('"node_id":"n7"', client.value().decode())

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

    def watch(self) -> AdminClient:
        client = AdminClient(self.admin)
        status, headers, _ = client.get("/events")
        self.assertEqual((status, headers["Content-Type"]), (200, "text/event-stream"))
        return client

    def events(self, client: AdminClient) -> list[str]:
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
        stuck = AdminClient(self.admin)
        stuck.loseConnection = lambda: None  # type: ignore[method-assign] # it is never flushed
        self.service.end("because")
        self.assertEqual(self.events(self.watch()), ["history", "drained", "ended drained"])
        stuck.abortConnection()


class AdminDrainTests(AdminCase):
    """A drain that may be begun by HTTP."""

    may_drain = True

    def post(self, path: str, *headers: str) -> tuple[int, str]:
        return AdminClient(self.admin).get(path, "Content-Length: 0", *headers, method="POST")[::2]

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
        for text in ("soon", "-1", "nan", "inf", "86401", "1&timeout=2"):
            status, body = self.post(f"/drain?timeout={text}")
            self.assertEqual(status, 400, text)
            self.assertIn("timeout: expected seconds from 0 to 86400", body)
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
        status, _ = self.post("/drain", "Origin: http://192.0.2.2:80", "Sec-Fetch-Site: same-origin")
        self.assertEqual(status, 202)
