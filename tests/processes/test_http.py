"""``examples/site.tac`` as a real process, under clients that nobody here wrote."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

from twisted.trial.unittest import TestCase

from tests.support.patience import PATIENCE, wait_until
from tests.support.processes import heed_signals
from tests.support.programs import find
from tests.support.site import start_site
from tests.support.sockets import connect, read_to_end


class HttpSiteTests(TestCase):
    """Each test has a process of its own."""

    def setUp(self) -> None:
        heed_signals(self)
        self.process, self.port = start_site()
        self.addCleanup(self.process.end)

    def url(self, ms: int) -> str:
        return f"http://127.0.0.1:{self.port}/?ms={ms}"

    def start(self, program: str, *arguments: str) -> subprocess.Popen[str]:
        """Start a client."""
        client = subprocess.Popen(
            [find(program), *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.addCleanup(client.communicate)
        self.addCleanup(client.kill)
        return client

    def pause(self, seconds: float) -> None:
        """Let the processes get on with it; nothing could tell us that a server has read what was sent."""
        threading.Event().wait(seconds)

    def wait_for_established(self, count: int) -> None:
        """Wait until so many connections to the site are made."""
        local = f"0100007F:{self.port:04X}"

        def established() -> int:
            lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
            return sum(line[1] == local and line[3] == "01" for line in lines)

        wait_until(lambda: established() >= count)

    def test_curl(self) -> None:
        """A request of curl's in flight is answered, as the last of its connection; the exit status is 0."""
        curl = self.start("curl", "-si", "--max-time", "10", self.url(2000))
        self.wait_for_established(1)
        # Its few bytes come right behind the connection.
        self.pause(0.7)
        self.process.signal()
        output, _ = curl.communicate(timeout=PATIENCE)
        self.assertTrue(output.startswith("HTTP/1.1 200 OK"), output)
        self.assertIn("Connection: close", output)
        self.assertTrue(output.endswith("ok"), output)
        self.assertEqual(self.process.wait(), 0)

    def test_curl_refused(self) -> None:
        """A second request of curl's, on the connection of the first, is refused; a new connection is too."""
        busy = connect(self.port)
        self.addCleanup(busy.close)
        busy.sendall(b"GET /?ms=5000 HTTP/1.1\r\nHost: x\r\n\r\n")
        curl = self.start("curl", "-si", "--rate", "30/m", self.url(0), self.url(1))
        self.wait_for_established(2)
        self.pause(0.7)
        self.process.signal()
        output, _ = curl.communicate(timeout=PATIENCE)
        self.assertEqual(re.findall(r"HTTP/1.1 (\d+)", output), ["200", "503"], output)
        self.assertRegex(output, "Retry-After: 2[0-5]\n")
        with self.assertRaises(ConnectionRefusedError):
            connect(self.port)
        self.assertIn(b"200 OK", read_to_end(busy))
        busy.close()
        self.assertEqual(self.process.wait(), 0)

    def test_apache_bench(self) -> None:
        """ApacheBench's requests in flight all come to their end, with all their bytes."""
        # It opens one connection on which it asks nothing, and takes its end for an answer: hence -l, and it may not
        # read the last real one.
        bench = self.start("ab", "-l", "-q", "-n", "30", "-c", "30", "-s", "10", self.url(2000))
        # One goes first; then all others go together.
        self.wait_for_established(20)
        self.pause(0.7)
        self.process.signal()
        output, _ = bench.communicate(timeout=PATIENCE)
        self.assertRegex(output, r"Complete requests: +30\n")
        self.assertRegex(output, r"Failed requests: +0\n")
        self.assertRegex(output, r"HTML transferred: +(58|60) bytes\n")
        self.assertNotIn("Non-2xx", output)
        self.assertEqual(self.process.wait(), 0)
        self.assertEqual(self.process.log.count('ms=2000 HTTP/1.0" 200 2'), 30)

    def test_wrk(self) -> None:
        """The client wrk, which never rests, loses no request: no connection ends without the answer."""
        wrk = self.start("wrk", "-t", "1", "-c", "24", "-d", "2s", "--timeout", "5s", self.url(20))
        self.wait_for_established(24)
        self.pause(0.5)
        self.process.signal()
        self.assertEqual(self.process.wait(), 0)
        output, _ = wrk.communicate(timeout=PATIENCE)
        # Its writes fail on each connection that is refused; it goes on trying.
        errors = re.search(r"Socket errors: connect \d+, read (\d+), write \d+, timeout (\d+)", output)
        assert errors is not None, output
        self.assertEqual(errors.groups(), ("0", "0"), output)

    def test_half_sent_and_pipelined(self) -> None:
        """On real sockets: half a request is completed and served, and all that were pipelined are answered."""
        half, pipelined = connect(self.port), connect(self.port)
        for client in (half, pipelined):
            self.addCleanup(client.close)
        half.sendall(b"GET /?ms=0 HTTP/1.1\r\nHo")
        pipelined.sendall(b"GET /?ms=2000 HTTP/1.1\r\nHost: x\r\n\r\n" * 3)
        self.pause(0.7)
        self.process.signal()
        self.process.wait_for_log("draining")
        half.sendall(b"st: x\r\n\r\n")
        self.assertIn(b"200 OK", read_to_end(half))
        self.assertEqual(re.findall(rb"HTTP/1.1 (\d+)", read_to_end(pipelined)), [b"200", b"503", b"503"])
        for client in (half, pipelined):
            client.close()
        self.assertEqual(self.process.wait(), 0)

    def test_deadline(self) -> None:
        """A second signal cuts: the client is told 503, and the exit status 1 tells of it."""
        busy = connect(self.port)
        self.addCleanup(busy.close)
        busy.sendall(b"GET /?ms=60000 HTTP/1.1\r\nHost: x\r\n\r\n")
        self.pause(0.7)
        self.process.signal()
        self.process.wait_for_log("draining.*GET / from 127.0.0.1")
        self.pause(0.6)
        self.process.signal(signal.SIGINT)
        self.assertIn(b"503 Service Unavailable", read_to_end(busy))
        busy.close()
        self.assertEqual(self.process.wait(), 1)


class WebImportTests(TestCase):
    """What is not asked for is not imported."""

    def test_no_web(self) -> None:
        """Neither the package nor the command's plugin imports twisted.web."""
        program = (
            "import sys, twisted_node, twisted_node.command._service, twisted_node.server._tracking\n"
            "print([name for name in sys.modules if name.startswith('twisted.web')])"
        )
        result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        self.assertEqual(result.stdout, "[]\n")
