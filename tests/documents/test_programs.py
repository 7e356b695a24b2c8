"""The programs in the documents run as they stand, but for the port."""

from __future__ import annotations

import re
import sys
import threading
from pathlib import Path

from twisted.trial.unittest import TestCase

from tests.support.certificates import Certificates
from tests.support.documents import programs
from tests.support.paths import BIN, ROOT
from tests.support.processes import Process
from tests.support.sockets import connect, connect_unix, read_to_end
from twisted_node import DrainingService

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


class WebDocumentTests(TestCase):
    """``docs/web.md``, program by program; the first is an extract."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.extract, self.tac, self.script, _, self.endpoints, self.asyncio = programs("web.md")

    def start(self, program: str, *command: str) -> Process:
        """Start a program on a free port, its standard output on standard error."""
        path = self.folder / "program"
        path.write_text(program.replace('"tcp:8080"', '"tcp:0:interface=127.0.0.1"'))
        process = Process("/bin/sh", "-c", 'exec "$@" >&2', "sh", *command, path.name, cwd=self.folder)
        self.addCleanup(process.end)
        return process

    def check(self, process: Process, *, in_flight: bool = False) -> None:
        """It serves, and drains: a request in flight is answered, an idle connection closed; the exit status is 0."""
        client = connect(process.port())
        self.addCleanup(client.close)
        client.sendall(GET)
        if in_flight:
            # Nothing tells that it was read.
            threading.Event().wait(0.1)
        else:
            self.assertIn(b"200 OK", client.recv(65536))
        process.signal()
        output = read_to_end(client)
        client.close()
        self.assertEqual(b"200 OK" in output, in_flight)
        self.assertEqual(process.wait(), 0)
        self.assertIn(f"{int(in_flight)} in flight", process.log)
        self.assertIn("clean: ", process.log)

    def test_extract(self) -> None:
        """The first program, in a .tac that has its resource and its application."""
        given = (
            "from twisted.application.service import Application\n"
            "from twisted.web.static import File\n"
            "application, resource = Application('site'), File('.')\n"
        )
        self.check(self.start(given + self.extract, str(BIN / "twistd"), "-n", "--pidfile=", "-y"))

    def test_tac(self) -> None:
        """The .tac, under twistd."""
        self.check(self.start(self.tac, str(BIN / "twistd"), "-n", "--pidfile=", "-y"))

    def test_script(self) -> None:
        """The script with ``reactor.run``."""
        self.check(self.start(self.script, sys.executable))

    def test_script_by_itself(self) -> None:
        """The script that keeps its process to itself drains all the same."""
        (trigger,) = re.findall(r"`(reactor\.addSystemEventTrigger.*?)`", (ROOT / "docs" / "web.md").read_text())
        self.check(self.start(self.script.replace("own_process(service, reactor)", trigger), sys.executable))

    def test_asyncio(self) -> None:
        """The program on the asyncio reactor; its requests take 0.3 s."""
        self.check(self.start(self.asyncio, sys.executable), in_flight=True)

    def test_endpoints(self) -> None:
        """Several endpoints of one service: TLS, haproxy and a unix socket."""
        Certificates(self.folder)
        program = self.endpoints.replace("ssl:8443", "ssl:0").replace("haproxy:tcp:8081", "haproxy:tcp:0")
        # The end of the script before.
        end = self.script[self.script.index("own_process(service") :]
        log = self.script[self.script.index("globalLogBeginner.begin") :].partition("\n")[0]
        imports = self.script[: self.script.index("\n\nglobalLogBeginner")]
        process = self.start(f"{imports}\n{log}\n{program}\n{end}", sys.executable)
        process.wait_for_log(r"(listening on (?s:.*)){3}")
        ports = [int(port) for port in re.findall(r"listening on [\d.]+:(\d+)", process.log)]
        proxied = connect(ports[1])
        proxied.sendall(b"PROXY TCP4 192.0.2.7 127.0.0.1 4711 80\r\n" + GET)
        local = connect_unix(str(self.folder / "site.sock"))
        local.sendall(GET)
        for client in (proxied, local):
            self.assertIn(b"200 OK", client.recv(65536))
            client.close()
        process.signal()
        self.assertEqual(process.wait(), 0)
        self.assertEqual((self.folder / "access.log").read_text().count('"GET / HTTP/1.1" 200'), 2)


class AnyFactoryDocumentTests(TestCase):
    """``docs/any-factory.md``; its classes are tested with the tracking of connections."""

    def test_echo(self) -> None:
        """Any factory is taken as it is."""
        names: dict[str, object] = {}
        exec(compile(programs("any-factory.md")[0], "any-factory.md", "exec"), names)
        self.assertIsInstance(names["service"], DrainingService)
