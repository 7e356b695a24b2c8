"""``examples/site.tac`` is stopped under HTTP client libraries that everybody uses, in a loop over kept connections.

Nothing is slow there, so each stop comes between two requests of a connection. A client may be refused, or told 503;
any other error would be a request that was lost on a connection closed at the wrong moment.
"""

from __future__ import annotations

import random
import subprocess
import sys
import threading

from twisted.trial.unittest import SynchronousTestCase

from tests.support.paths import ROOT
from tests.support.patience import PATIENCE
from tests.support.site import start_site

STOPS = 3
PROGRAMS = ROOT / "tests" / "support" / "http_clients"
PYTHON = (sys.executable, str(PROGRAMS / "python_client.py"))
NODE = ("node", str(PROGRAMS / "node_client.mjs"))


class ClientTests(SynchronousTestCase):
    """One library each; its clients pause up to 0.3 s between two requests."""

    def start(self, *command: str) -> subprocess.Popen[str]:
        """Start a client; it says on its first line that it is under way."""
        client = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.addCleanup(client.wait)
        self.addCleanup(client.kill)
        assert client.stdout is not None
        self.addCleanup(client.stdout.close)
        return client

    def stop_under(self, *commands: tuple[str, ...]) -> list[subprocess.Popen[str]]:
        """Stop the site at some moment under clients; return them, and how they ended."""
        process, port = start_site()
        self.addCleanup(process.end)
        url = f"http://127.0.0.1:{port}/"
        clients = [self.start(*(part.replace("URL", url) for part in command)) for command in commands]
        for client in clients:
            assert client.stdout is not None
            self.assertIn(client.stdout.readline(), ("ready\n", "200\n"))
        threading.Event().wait(random.uniform(0, 0.3))
        process.signal()
        self.assertEqual(process.wait(), 0)
        for client in clients:
            client.wait(PATIENCE)
        return clients

    def check(self, *command: str) -> None:
        """Under one library, no request is lost."""
        for _ in range(STOPS):
            for client in self.stop_under((*command, "GET", "URL"), (*command, "POST", "URL")):
                assert client.stdout is not None
                self.assertEqual((client.stdout.read(), client.returncode), ("", 0))

    def test_requests(self) -> None:
        """Requests, with a session in each thread."""
        self.check(*PYTHON, "requests")

    def test_urllib3(self) -> None:
        """urllib3, without retries."""
        self.check(*PYTHON, "urllib3")

    def test_httpx(self) -> None:
        """httpx, with a client in each thread."""
        self.check(*PYTHON, "httpx")

    def test_aiohttp(self) -> None:
        """aiohttp, with a session in each task."""
        self.check(*PYTHON, "aiohttp")

    def test_node_agent(self) -> None:
        """Node's ``http.Agent``, with ``keepAlive``."""
        self.check(*NODE, "agent")

    def test_node_fetch(self) -> None:
        """Node's ``fetch``, whose pool keeps connections that it seldom uses."""
        self.check(*NODE, "fetch")

    def test_curl(self) -> None:
        """Curl, with many requests over one connection; its only error is that it is refused in the end."""
        # On standard error, since standard output is buffered.
        status = ("--silent", "--output", "/dev/null", "--write-out", "%{stderr}%{http_code}\n")
        curl = ("/bin/sh", "-c", 'exec curl "$@" 2>&1', "curl", "--fail-early", *status)
        refused = 7
        commands = [
            (*curl, "--rate", rate, *data, "URL?[1-1000]")
            for rate in ("4/s", "7/s", "13/s", "29/s")
            for data in ((), ("--data", "x=1"))
        ]
        for _ in range(STOPS):
            for client in self.stop_under(*commands):
                self.assertEqual(client.returncode, refused)
