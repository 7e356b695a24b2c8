"""Clients whose answers are in the kernel when their server ends: delivered, or counted as cut."""

from __future__ import annotations

import socket
import subprocess
import time

from tests.support.lines import message
from tests.support.processes import Process
from tests.support.servers import ServerTestCase
from tests.support.sockets import read_to_end

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"

#: Bytes of an answer that the kernel of the server takes as a whole, and the client's does not.
SIZE = 1_000_000
#: Bytes that the client's kernel takes.
BUFFER = 65_536

#: To a node, whose answers are as many bytes.
REQUESTS = 5_000

LINGER = 0.3


class SlowReaderTests(ServerTestCase):
    """The server has written all; its client has not read it."""

    def assert_waits(self, process: Process) -> None:
        """A process is still there long after the linger."""
        with self.assertRaises(subprocess.TimeoutExpired):
            process.popen.wait(LINGER * 4)

    def ask_site(self, *, drain_timeout: float) -> tuple[Process, socket.socket]:
        """A client with an answer on its way, which it does not read."""
        process, port = self.site(size=SIZE, drain_timeout=drain_timeout, linger=LINGER)
        client = self.connect(port, buffer=BUFFER)
        client.sendall(GET)
        self.assertEqual(client.recv(8), b"HTTP/1.1")
        return process, client

    def ask_node(self) -> tuple[Process, socket.socket]:
        """A client of a node with many answers on their way."""
        process, port = self.node("--linger", str(LINGER))
        client = self.connect(port, buffer=BUFFER)
        client.sendall(b"".join(message("tcp_request", n, src="s" * 100) for n in range(REQUESTS)))
        self.assertEqual(client.recv(1), b"{")
        return process, client

    def test_site(self) -> None:
        """A client of a site that reads late, and asks again in between, still gets its whole answer."""
        process, client = self.ask_site(drain_timeout=25)
        process.signal()
        self.assert_waits(process)
        # Had the server closed, this would meet a reset, which destroys what is on its way.
        client.sendall(GET)
        self.assertGreater(len(read_to_end(client)), SIZE)
        client.close()
        self.assertEqual(process.wait(), 0, process.log)

    def test_node(self) -> None:
        """So does a client of a node that has asked a lot."""
        process, client = self.ask_node()
        process.signal()
        self.assert_waits(process)
        client.sendall(message("tcp_request", REQUESTS))
        self.assertEqual(read_to_end(client).count(b"\n"), REQUESTS)
        client.close()
        self.assertEqual(process.wait(), 0, process.log)

    def test_client_that_never_reads(self) -> None:
        """One that does not read by the deadline counts as cut, by name; it is not reset, and can still read."""
        process, client = self.ask_site(drain_timeout=1)
        asked = time.monotonic()
        process.signal()
        self.assertEqual(process.wait(), 1, process.log)
        took = time.monotonic() - asked
        self.assertGreaterEqual(took, 1)
        host, port = client.getsockname()
        self.assertIn(f" that their clients did not read: connection from {host}:{port}\n", process.log)
        self.assertGreater(len(read_to_end(client)), SIZE)

    def test_client_that_has_half_closed(self) -> None:
        """One that has sent all it will send cannot cause a reset: its answer is left to the kernel."""
        process, client = self.ask_node()
        client.shutdown(socket.SHUT_WR)
        process.signal()
        self.assertEqual(process.wait(), 0, process.log)
        self.assertEqual(read_to_end(client).count(b"\n"), REQUESTS)

    def test_client_that_is_gone(self) -> None:
        """One that is gone is waited for no longer, and nothing counts as cut."""
        process, client = self.ask_site(drain_timeout=25)
        process.signal()
        self.assert_waits(process)
        client.close()
        self.assertEqual(process.wait(), 0, process.log)


class ClosedByItselfTests(ServerTestCase):
    """The server has written all and closed the connection by itself; its client has not read it, and speaks again."""

    def check(self, process: Process, client: socket.socket, question: bytes, least: int) -> None:
        """Ask, stop the server while the answer is in the kernels, speak again, and get the whole answer."""
        client.sendall(question)
        self.assertEqual(len(client.recv(8)), 8)
        # Long enough for all to have left the server.
        time.sleep(LINGER / 2)
        process.signal()
        time.sleep(LINGER * 4)
        client.sendall(question)
        self.assertGreaterEqual(len(read_to_end(client)) + 8, least)
        client.close()
        self.assertEqual(process.wait(), 0, process.log)

    def test_site(self) -> None:
        """A site closes behind an answer that is the last by HTTP/1.0 or at the client's wish."""
        for question in (b"GET / HTTP/1.0\r\n\r\n", b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"):
            process, port = self.site(size=SIZE, linger=LINGER)
            self.check(process, self.connect(port, buffer=BUFFER), question, SIZE)

    def test_malformed_request(self) -> None:
        """And behind the 400 to a request that is malformed, with a whole answer before it."""
        process, port = self.site(size=SIZE, linger=LINGER)
        self.check(process, self.connect(port, buffer=BUFFER), GET + b"nonsense\r\n\r\n", SIZE + 20)

    def test_protocol(self) -> None:
        """A protocol of which nothing is known closes when it likes."""
        process, port = self.lines(size=SIZE, linger=LINGER)
        self.check(process, self.connect(port, buffer=BUFFER), b"bye\r\n", SIZE)

    def test_protocol_in_the_drain(self) -> None:
        """Also while the drain waits for it."""
        process, port = self.lines(size=SIZE, linger=LINGER)
        client = self.connect(port, buffer=BUFFER)
        client.sendall(b"hello\r\n")
        self.assertEqual(len(client.recv(8)), 8)
        process.signal()
        time.sleep(LINGER)
        client.sendall(b"bye\r\n")
        time.sleep(LINGER * 4)
        client.sendall(b"and another thing\r\n")
        self.assertEqual(len(read_to_end(client)) + 8, 2 * SIZE)
        client.close()
        self.assertEqual(process.wait(), 0, process.log)

    def test_client_that_never_reads(self) -> None:
        """One that has not read it by the deadline counts as cut, once."""
        process, port = self.lines(size=SIZE, drain_timeout=1, linger=LINGER)
        client = self.connect(port, buffer=BUFFER)
        client.sendall(b"bye\r\n")
        self.assertEqual(len(client.recv(8)), 8)
        process.signal()
        self.assertEqual(process.wait(), 1, process.log)
        self.assertIn("1 cut", process.log)
        self.assertEqual(len(read_to_end(client)) + 8, SIZE)


class ResetTests(ServerTestCase):
    """A protocol of which nothing is known, cut by the deadline."""

    def test_reset(self) -> None:
        """Its client gets all that was written, and then a reset: it must not take that for the end."""
        process, port = self.lines(size=SIZE, drain_timeout=0.5, linger=LINGER)
        client = self.connect(port)
        client.sendall(b"hello\r\n")
        process.signal()
        count = 0
        with self.assertRaises(ConnectionResetError):
            while chunk := client.recv(65536):
                count += len(chunk)
        self.assertEqual(count, SIZE)
        self.assertEqual(process.wait(), 1, process.log)
