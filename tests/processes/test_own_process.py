"""Programs that own their process: their files, their children, and mistakes in putting them together."""

from __future__ import annotations

import gzip
import os
import signal
import socket
import sys
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.support.paths import BIN, ROOT
from tests.support.processes import Process, heed_signals
from tests.support.signals import pause
from tests.support.sockets import connect, read_to_end

PROGRAM = """
import atexit, gzip, multiprocessing, os, sys, tempfile, time
from twisted.internet import reactor
from twisted.internet.endpoints import serverFromString
from twisted.logger import globalLogBeginner, textFileLogObserver
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET
from twisted_node import Drain, DrainingService, own_process
from twisted_node.web import DrainingSite

audit = open("audit.log", "w")
archive = gzip.open("archive.gz", "wb")

class Witness:
    def __del__(self):
        print("the finaliser ran", file=audit)

witness = Witness()
atexit.register(os.write, 2, b"an exit hook ran\\n")

def sleep_in_child():
    os.write(2, b"child %d\\n" % os.getpid())
    time.sleep(600)

class Root(Resource):
    isLeaf = True
    def render_GET(self, request):
        if request.path == b"/fork":
            multiprocessing.get_context("fork").Process(target=sleep_in_child, daemon=True).start()
        elif request.path == b"/hang":
            os.write(2, b"hanging\\n")
            return NOT_DONE_YET
        print("order 1", file=audit)
        archive.write(b"order 1\\n")
        return b"ok"

drain = Drain(reactor)
service = DrainingService(drain, drain_timeout=2)
listener = service.listen(
    serverFromString(reactor, "tcp:0:interface=127.0.0.1"), DrainingSite(Root(), drain=drain)
)
own_process(service, reactor)
"""
#: What no module of the program holds: the reactor does, or it holds itself.
HOLDER = """
class Holder:
    pass

class LateWitness:
    def __del__(self):
        self.log.write("another finaliser ran\\n")

reactor.holder = holder = Holder()
holder.log = open("held.log", "w")
holder.archive = gzip.open("held.gz", "wb")
holder.text = gzip.open("text.gz", "wt")
holder.temporary = tempfile.NamedTemporaryFile(dir=".", prefix="temporary")
holder.log.write("order 1\\n")
holder.archive.write(b"order 1\\n")
holder.text.write("order 1\\n")
alone = LateWitness()
alone.itself, alone.log = alone, holder.log
del holder, alone
"""
SCRIPT = (
    PROGRAM
    + """
globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stderr)])
service.startService()
reactor.run()
"""
)
TAC = (
    PROGRAM
    + """
from twisted.application.service import Application
application = Application("site")
service.setServiceParent(application)
"""
)

#: Its log goes to standard output.
TWISTD = ("sh", "-c", 'exec "$@" >&2', "sh", str(BIN / "twistd"), "-n", "--pidfile=")


class OwnProcessTestCase(SynchronousTestCase):
    """Starts programs in a folder of their own."""

    def setUp(self) -> None:
        heed_signals(self)
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        self.environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    def start(self, *command: str) -> Process:
        process = Process(*command, cwd=self.folder, env=self.environment)
        self.addCleanup(process.end)
        return process

    def start_script(self, text: str = SCRIPT) -> Process:
        return self.start(sys.executable, "-c", text)

    def start_tac(self, text: str = TAC) -> Process:
        (self.folder / "site.tac").write_text(text)
        return self.start(*TWISTD, "-y", "site.tac")

    def get(self, process: Process, path: str) -> socket.socket:
        client = connect(process.port())
        self.addCleanup(client.close)
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        return client


class TeardownTests(OwnProcessTestCase):
    """What the program has open when the service has ended."""

    def check(self, process: Process, status: int) -> None:
        self.assertEqual(process.wait(), status, process.log)
        self.assertIn("an exit hook ran", process.log)
        self.assertNotIn("Traceback", process.log)
        self.assertEqual((self.folder / "audit.log").read_text(), "order 1\nthe finaliser ran\n")
        self.assertEqual(gzip.decompress((self.folder / "archive.gz").read_bytes()), b"order 1\n")

    def test_files_and_finalisers(self) -> None:
        """Open files are written to the end, exit hooks and finalisers run, and the status is 0, however it is run."""
        for start in (self.start_script, self.start_tac):
            process = start()
            client = self.get(process, "/")
            self.assertIn(b"ok", client.recv(1000))
            process.signal()
            self.check(process, 0)

    def test_cut(self) -> None:
        """The same when something was cut, and the status is 1."""
        for start in (self.start_script, self.start_tac):
            process = start()
            self.assertIn(b"ok", self.get(process, "/").recv(1000))
            client = self.get(process, "/hang")
            process.wait_for_log("hanging")
            process.signal()
            self.assertIn(b"503", read_to_end(client))
            self.check(process, 1)

    def test_held(self) -> None:
        """So it is with what only an object holds that itself is held by a library, or by itself alone."""
        for start, text in ((self.start_script, SCRIPT), (self.start_tac, TAC)):
            process = start(text.replace("drain = Drain(reactor)", HOLDER + "drain = Drain(reactor)"))
            self.assertIn(b"ok", self.get(process, "/").recv(1000))
            self.assertEqual(len(list(self.folder.glob("temporary*"))), 1)
            process.signal()
            self.check(process, 0)
            self.assertEqual((self.folder / "held.log").read_text(), "order 1\nanother finaliser ran\n")
            for name in ("held.gz", "text.gz"):
                self.assertEqual(gzip.decompress((self.folder / name).read_bytes()), b"order 1\n")
            self.assertEqual(list(self.folder.glob("temporary*")), [])

    def test_stuck_finaliser(self) -> None:
        """A finaliser that never ends does not hold the process."""
        stuck = "service.drain_timeout = 0.2\nWitness.__del__ = lambda self: time.sleep(600)\n"
        process = self.start_script(SCRIPT.replace("service.startService()", stuck + "service.startService()"))
        process.port()
        process.signal()
        self.assertEqual(process.wait(), 1, process.log)
        self.assertIn("Timeout", process.log)


class ChildTests(OwnProcessTestCase):
    """A child that was forked while the program served."""

    def test_multiprocessing(self) -> None:
        """It ends by the signal that its parent's exit hook sends, and the parent with status 0."""
        process = self.start_script()
        self.assertIn(b"ok", self.get(process, "/fork").recv(1000))
        child = int(process.wait_for_log(r"child (\d+)")[1])
        process.signal()
        self.assertEqual(process.wait(), 0, process.log)
        self.assertNotIn("not ended in time", process.log)
        self.assertRaises(ProcessLookupError, os.kill, child, 0)

    def test_port(self) -> None:
        """It does not hold the port: another may listen there once the parent has gone, however it went."""
        process = self.start_script()
        port = process.port()
        self.assertIn(b"ok", self.get(process, "/fork").recv(1000))
        child = int(process.wait_for_log(r"child (\d+)")[1])
        self.addCleanup(os.kill, child, signal.SIGKILL)
        process.signal(signal.SIGKILL)
        process.popen.wait()
        with socket.socket() as another:
            another.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            another.bind(("127.0.0.1", port))
            another.listen()


class FrozenTests(OwnProcessTestCase):
    """A process that is stopped for a while, as by a snapshot of its container."""

    def test_beyond_the_deadline(self) -> None:
        """What was due meanwhile is answered before the watchdog ends the process."""
        process = self.start_script(SCRIPT.replace("drain_timeout=2", "drain_timeout=0.5"))
        client = self.get(process, "/hang")
        process.wait_for_log("hanging")
        process.signal()
        process.wait_for_log("draining")
        process.signal(signal.SIGSTOP)
        pause(2.5)
        process.signal(signal.SIGCONT)
        self.assertIn(b"503", read_to_end(client))
        self.assertEqual(process.wait(), 1)


class PrivilegesTests(OwnProcessTestCase):
    """Twistd gives up its privileges between the two steps of a start."""

    def test_low_port(self) -> None:
        """A TCP port is bound before, once; by a .tac and by the command, whose admin endpoint does the same."""
        if os.getuid():
            raise SkipTest("only root has privileges to give up")
        (self.folder / "site.tac").write_text(TAC.replace("tcp:0", "tcp:87"))
        self.folder.chmod(0o777)
        node = ["node", "--listen", "tcp:88:interface=127.0.0.1", "--admin", "tcp:89:interface=127.0.0.1"]
        for arguments, ports in ((["-y", "site.tac"], [87]), (node, [88, 89])):
            process = self.start(*TWISTD, "--uid=65534", "--gid=65534", *arguments)
            for port in ports:
                process.wait_for_log(rf":{port}\n|Errno")
                self.assertNotIn("Errno", process.log)
                connect(port).close()
            process.signal()
            self.assertEqual(process.wait(), 0, process.log)

    def test_unix_path(self) -> None:
        """A unix path is made by the later user, who can remove it at the end; where it cannot, that is told."""
        user, group = (os.getuid(), os.getgid()) if os.getuid() else (65534, 65534)
        # A Python that only root can read loads its codecs for the TCP port, which is bound before.
        twistd = (*TWISTD, f"--uid={user}", f"--gid={group}", "node", "--listen", "tcp:0:interface=127.0.0.1")
        for name, mode in (("open", 0o777), ("shut", 0o555)):
            (self.folder / name).mkdir()
            (self.folder / name).chmod(mode)
        process = self.start(*twistd, "--listen", "unix:open/node", "--control", "unix:open/control")
        process.wait_for_log("listening on open/control")
        made = [os.stat(self.folder / "open" / name).st_uid for name in ("node", "control")]
        self.assertEqual(made, [user] * 2)
        process.signal()
        self.assertEqual(process.wait(), 0, process.log)
        self.assertEqual(os.listdir(self.folder / "open"), [])
        process = self.start(*twistd, "--listen", "unix:shut/node")
        self.assertEqual(process.wait(), 1, process.log)
        self.assertIn("node: --listen unix:shut/node: cannot write to the folder shut: Permission denied", process.log)


class MistakeTests(OwnProcessTestCase):
    """Programs that are put together wrongly."""

    def test_arguments(self) -> None:
        """A wrong argument is named at once."""
        for right, wrong, error in (
            ("own_process(service, reactor)", "own_process(reactor, service)", "service: expected a DrainingService"),
            ("own_process(service, reactor)", "own_process(service, drain)", "reactor: expected a reactor"),
            ("own_process(service, reactor)", 2 * "own_process(service, reactor)\n", "expected to be called once"),
            (
                "own_process(service, reactor)",
                "from threading import Thread; Thread(target=own_process, args=(service, reactor)).start()",
                "in the main thread",
            ),
        ):
            process = self.start_script(SCRIPT.replace(right, wrong))
            found = process.wait_for_log("MisuseError: .*")
            self.assertIn(error, found[0])
            process.end()

    def test_forgotten(self) -> None:
        """A service that was not started, or listens nowhere, is warned of."""
        nowhere = SCRIPT.replace("listener = service.listen(", "listener = (")
        for text, warning in (
            (SCRIPT.replace("service.startService()", ""), "the service has not been started"),
            (nowhere, "the service listens nowhere"),
        ):
            process = self.start_script(text)
            process.wait_for_log(warning)
            process.signal()
            self.assertEqual(process.wait(), 0, process.log)

    def test_started_later(self) -> None:
        """A program may start its service when the reactor runs, and have it listen then."""
        later = "reactor.callWhenRunning(service.startService)"
        process = self.start_script(SCRIPT.replace("service.startService()", later))
        process.port()
        process.signal()
        self.assertEqual(process.wait(), 0, process.log)
        self.assertNotIn("has not been started", process.log)
