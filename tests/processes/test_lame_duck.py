"""A lame duck as a real process, under clients that it sends away."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from tests.support.certificates import Certificates
from tests.support.patience import PATIENCE
from tests.support.polite import PoliteBrowser, PoliteClient
from tests.support.processes import Process
from tests.support.programs import find
from tests.support.servers import ANY_PORT, ServerTestCase

#: Seconds.
LAME_DUCK = 2.0

#: Answers after so many ms as the query says; its lame duck and its endpoint are its arguments.
SITE = """
import sys
from twisted.internet import reactor
from twisted.internet.endpoints import serverFromString
from twisted.internet.task import deferLater
from twisted.logger import globalLogBeginner, textFileLogObserver
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET
from twisted_node import Drain, DrainingService, own_process
from twisted_node.web import DrainingSite

class Wait(Resource):
    isLeaf = True
    def render_GET(self, request):
        print("asked", file=sys.stderr, flush=True)
        def answer():
            request.write(b"ok")
            request.finish()
        reactor.callLater(int(request.args[b"ms"][0]) / 1000, answer)
        return NOT_DONE_YET

globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stderr)], redirectStandardIO=False)
drain = Drain(reactor)
service = DrainingService(drain, lame_duck=float(sys.argv[1]))
service.listen(serverFromString(reactor, sys.argv[2]), DrainingSite(Wait(), drain=drain))
own_process(service, reactor)
service.startService()
reactor.run()
"""


class LameDuckTests(ServerTestCase):
    """A lame duck of 2 s, and another server that takes its place."""

    def wait_site(self, endpoint: str = ANY_PORT) -> tuple[Process, int]:
        return self.start(sys.executable, "-c", SITE, str(LAME_DUCK), endpoint)

    def check(self, clients: list[PoliteClient], process: Process) -> None:
        """Stop the first server under its clients: none of them notices, and they go one after the other."""
        for client in clients:
            client.start()
            self.addCleanup(client.finish)
        for client in clients:
            # The slow ones have a request in flight then. Those that rest may begin later.
            self.assertTrue(client.pause > 1 or client.has_asked.wait(PATIENCE))
        process.signal()
        began = time.monotonic()
        self.assertEqual(process.wait(), 0)
        took = time.monotonic() - began
        for client in clients:
            client.finish()
        counts: Counter[str] = sum((client.counts for client in clients), Counter())
        self.assertEqual([client.failure for client in clients], [None] * len(clients))
        self.assertEqual(set(counts), {"answered"}, counts)
        self.assertRegex(process.log, r"\b0 refused")
        self.assertGreaterEqual(took, LAME_DUCK)
        left = [client.left_at - began for client in clients if client.pause < 0.1 and not client.latency_ms]
        # They do not all go at once, and none waits for the end: it asks too often for that.
        self.assertGreater(max(left) - min(left), 0.01, left)
        self.assertLess(max(left), LAME_DUCK, left)

    def test_node(self) -> None:
        """Clients of a node that ask one request at a time, and look for the end of input first, are never refused."""
        (first, port), (_, other) = self.node("--lame-duck", str(LAME_DUCK)), self.node()
        self.check(self.clients(PoliteClient, (port, other)), first)

    def test_node_over_tls(self) -> None:
        """Nor with TLS, where close_notify is the end."""
        certificates = Certificates(Path(self.mktemp()))
        endpoint = f"ssl:0:interface=127.0.0.1:privateKey={certificates.server}:certKey={certificates.server}"
        first, port = self.node("--lame-duck", str(LAME_DUCK), endpoint=endpoint)
        _, other = self.node(endpoint=endpoint)
        self.check(self.clients(PoliteClient, (port, other), context=certificates.client_context()), first)

    def test_site(self) -> None:
        """Nor those of a site, over HTTP/1."""
        (first, port), (_, other) = self.wait_site(), self.wait_site()
        self.check(self.clients(PoliteBrowser, (port, other)), first)

    def clients(self, kind: type[PoliteClient], ports: tuple[int, int], **options: object) -> list[PoliteClient]:
        """Some that ask often, some that rest, and some that always have a request of 0.7 s in flight."""
        terms = [(0, 0.01)] * 4 + [(0, 1.5)] * 4 + [(700, 0.001)] * 3
        return [kind(ports, latency_ms=ms, pause=pause, **options) for ms, pause in terms]  # type: ignore[arg-type]


class HTTP2LameDuckTests(ServerTestCase):
    """A site over TLS that is a lame duck of 2 s, under clients of HTTP/2 with several streams in flight."""

    def setUp(self) -> None:
        super().setUp()
        certificates = Certificates(Path(self.mktemp()))
        pem = certificates.server
        endpoint = f"ssl:0:interface=127.0.0.1:privateKey={pem}:certKey={pem}"
        self.authority = str(certificates.authority)
        self.process, self.port = self.start(sys.executable, "-c", SITE, str(LAME_DUCK), endpoint)

    def run_under_lame_duck(self, *command: str) -> str:
        """Run a client, and stop the server meanwhile; return what the client says, which has succeeded."""
        with subprocess.Popen(
            [find(command[0]), *command[1:]], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as client:
            self.addCleanup(client.kill)
            self.process.wait_for_log("asked")
            self.process.signal()
            output, _ = client.communicate(timeout=PATIENCE)
        self.assertEqual(client.returncode, 0, output)
        self.assertEqual(self.process.wait(), 0)
        self.assertRegex(self.process.log, r"\b0 refused")
        return output

    def url(self, query: str) -> str:
        return f"https://127.0.0.1:{self.port}/?{query}"

    def test_nghttp(self) -> None:
        """Nghttp's ten streams in flight are all answered, and GOAWAY says before the last that any may be."""
        urls = [self.url(f"ms={1600 + 40 * number}") for number in range(10)]
        output = self.run_under_lame_duck("nghttp", "-nv", "--no-dep", *urls)
        self.assertEqual(len(re.findall(r":status: 200", output)), len(urls), output)
        self.assertNotIn("RST_STREAM", output)

    def test_curl(self) -> None:
        """Curl goes on with five transfers at a time on connections of its own choice, and fails none."""
        output = self.run_under_lame_duck(
            *["curl", "-sS", "--http2", "--cacert", self.authority, "--parallel", "--parallel-max", "5"],
            *["-w", "%{http_version} %{http_code}\n", "-o", "/dev/null", self.url("ms=90&n=[1-60]")],
        )
        self.assertEqual(re.findall(r"^\d\S* \d+$", output, re.MULTILINE), ["2 200"] * 60, output)
