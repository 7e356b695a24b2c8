"""A node of one's own with the options of the command: ``--app`` and ``run``."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from twisted.internet.base import ReactorBase
from twisted.internet.interfaces import _ISupportsExitSignalCapturing
from twisted.trial.unittest import SynchronousTestCase

from tests.support.lines import INIT, INIT_OK, bodies, message
from tests.support.patience import PATIENCE
from tests.support.processes import RUNNERS, Process
from tests.support.sockets import connect, read_to_end

#: A node that prints whenever it can, and runs by itself too.
PRINTS = """
from twisted_node import Node, run

print("imported")
node = Node()
not_a_node = 3

@node.handle("shout")
def shout(request):
    print("called")
    return {"said": request.body["say"].upper()}

if __name__ == "__main__":
    run(node)
"""

#: A node that asks the next one, if there is one, and a service otherwise.
CHAIN = """
from twisted_node import Node

node = Node()

@node.after_init
def greet():
    node.send("c9", {"type": "hello"})

@node.handle("get")
async def get(request):
    later = [name for name in node.node_ids if name > node.node_id]
    reply = await node.rpc(later[0] if later else "lin-kv", {"type": "get"}, timeout=20)
    return {"path": [node.node_id, *reply["path"]]}
"""

OWN_SHUTDOWN = """
from twisted_node import Node, run

node = Node()
node.handle("tcp_shutdown")(lambda request: {})

if __name__ == "__main__":
    run(node)
"""


class FolderTests(SynchronousTestCase):
    """Tests in a working folder of their own."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        for name, text in (("prints", PRINTS), ("chain", CHAIN), ("own_shutdown", OWN_SHUTDOWN)):
            self.write(name, text)

    def write(self, module: str, text: str) -> None:
        (self.folder / f"{module}.py").write_text(text)

    def run_in_folder(self, *command: str, lines: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(command, input=lines, capture_output=True, timeout=PATIENCE, check=False, cwd=self.folder)


class AppTests(FolderTests):
    """Real processes."""

    def assert_one_line(self, result: subprocess.CompletedProcess[bytes], text: str) -> None:
        self.assertEqual((result.stderr.decode(), result.stdout, result.returncode), (text + "\n", b"", 1))

    def test_standard_streams(self) -> None:
        """Whichever way it is started, it answers on standard output, and nothing that it prints is there."""
        lines = INIT + message("shout", say="hi") + message("tcp_drain_status", 3) + message("tcp_request", 4)
        for name, runner in RUNNERS.items():
            result = self.run_in_folder(*runner, "--app", "prints:node", lines=lines)
            self.assertTrue(result.stdout.startswith(INIT_OK), result)
            _, shout, status, unknown = bodies(result.stdout)
            self.assertEqual(shout, {"type": "shout_ok", "in_reply_to": 2, "said": "HI", "msg_id": 1}, name)
            self.assertEqual((status["type"], unknown["code"]), ("tcp_drain_status_ok", 10), name)
            for printed in (b"imported", b"called"):
                self.assertIn(printed, result.stderr, name)
            self.assertEqual(result.returncode, 0, name)

    def test_sockets(self) -> None:
        """It takes the other options too, and drains by the messages that come with every node."""
        options = ("--control", "tcp:0:interface=127.0.0.1", "--node-id", "n1")
        process = Process(*RUNNERS["python"], "--app", "prints:node", *options, cwd=self.folder)
        self.addCleanup(process.end)
        with connect(process.port()) as client:
            client.sendall(message("shout", say="hi") + message("tcp_shutdown", 3))
            client.shutdown(socket.SHUT_WR)
            shout, shutdown = bodies(read_to_end(client))
        self.assertEqual(shout, {"type": "shout_ok", "in_reply_to": 2, "said": "HI", "msg_id": 0})
        self.assertEqual(shutdown["status"], "draining")
        self.assertEqual(process.wait(), 0)

    def test_wrong_name(self) -> None:
        """A wrong name costs one line and status 1, whichever way it is started."""
        for runner in RUNNERS.values():
            result = self.run_in_folder(*runner, "--app", "prints:nod")
            self.assertEqual(result.stderr, b"imported\nnode: --app prints:nod: prints has no nod\n")
            self.assertEqual((result.stdout, result.returncode), (b"", 1))

    def test_own_handler_for_the_drain(self) -> None:
        """What every node answers by itself, no node may answer otherwise; by --app and directly."""
        text = "type 'tcp_shutdown' has a handler already; every node answers that by itself"
        by_option = self.run_in_folder(*RUNNERS["python"], "--app", "own_shutdown:node")
        self.assert_one_line(by_option, f"node: --app own_shutdown:node: {text}")
        self.assert_one_line(self.run_in_folder(sys.executable, "own_shutdown.py"), f"node: {text}")

    def test_directly(self) -> None:
        """A program that runs its node has the options of the command, --app excepted."""
        result = self.run_in_folder(sys.executable, "prints.py", "--node-id", "n7", lines=message("shout", say="hi"))
        # Whatever a program prints before it runs its node is its own affair.
        printed, answer = result.stdout.splitlines()
        self.assertEqual((printed, json.loads(answer)["src"], result.returncode), (b"imported", "n7", 0))
        result = self.run_in_folder(sys.executable, "-c", "from prints import *; run(node, ['--app', 'prints:node'])")
        self.assertEqual(result.stderr, b"node: --app: this program has a node of its own\n")
        self.assertEqual(result.returncode, 1)

    def test_quiet_about_replies(self) -> None:
        """A reply that nobody waits for, as to each message that was only sent, is not in the log."""
        reply = line("n2", "n1", type="hello_ok", in_reply_to=1)
        result = self.run_in_folder(*RUNNERS["python"], "--app", "chain:node", lines=INIT + reply)
        self.assertNotIn(b"hello_ok", result.stdout + result.stderr)
        self.assertIn(b"clean: ", result.stderr)

    def test_no_reactor(self) -> None:
        """To import the package chooses no reactor."""
        result = self.run_in_folder(
            sys.executable, "-c", "import twisted_node, sys; print('twisted.internet.reactor' in sys.modules)"
        )
        self.assertEqual((result.stdout, result.stderr), (b"False\n", b""))

    def test_after_init_with_a_known_name(self) -> None:
        """With --node-id, what is done after init is done at the start."""
        result = self.run_in_folder(*RUNNERS["python"], "--app", "chain:node", "--node-id", "n1")
        self.assertEqual(result.stdout, b'{"src": "n1", "dest": "c9", "body": {"type": "hello", "msg_id": 1}}\n')

    def test_drain_in_the_middle_of_a_chain(self) -> None:
        """Two nodes that get SIGTERM while one waits for the other finish what was asked of them, and exit 0."""
        nodes = {name: Process(*RUNNERS["python"], "--app", "chain:node", cwd=self.folder) for name in ("n1", "n2")}
        for name, node in nodes.items():
            self.addCleanup(node.end)
            node.send(line("c0", name, type="init", msg_id=1, node_id=name, node_ids=list(nodes)))
            self.assertEqual(json.loads(node.read_line())["body"]["type"], "init_ok")
            self.assertEqual(json.loads(node.read_line())["body"], {"type": "hello", "msg_id": 1})
        nodes["n1"].send(line("c1", "n1", type="get", msg_id=2))
        nodes["n2"].send(nodes["n1"].read_line())
        asked = json.loads(nodes["n2"].read_line())
        self.assertEqual(asked["dest"], "lin-kv")
        for node in nodes.values():
            node.signal()
            node.wait_for_log("draining.*1 in flight")
        nodes["n2"].send(line("lin-kv", "n2", type="get_ok", in_reply_to=asked["body"]["msg_id"], path=["kv"]))
        nodes["n1"].send(nodes["n2"].read_line())
        answer = json.loads(nodes["n1"].read_line())["body"]
        self.assertEqual(answer, {"type": "get_ok", "in_reply_to": 2, "path": ["n1", "n2", "kv"], "msg_id": 3})
        self.assertEqual([node.wait() for node in nodes.values()], [0, 0])

    def test_end_of_input_in_the_middle_of_a_chain(self) -> None:
        """A node whose input ends while it waits for another does not wait for the timeout."""
        node = Process(*RUNNERS["python"], "--app", "chain:node", cwd=self.folder)
        self.addCleanup(node.end)
        node.send(INIT + message("get"))
        calls = [json.loads(node.read_line()) for _ in range(3)]
        self.assertEqual(calls[-1]["dest"], "lin-kv")
        node.close_input()
        answer = json.loads(node.read_line(patience=10))["body"]
        self.assertEqual((answer["code"], answer["text"]), (0, "no reply can come: standard input ended"))
        self.assertEqual(node.wait(), 0)


def line(src: str, dest: str, **body: Any) -> bytes:
    return json.dumps({"src": src, "dest": dest, "body": body}).encode() + b"\n"


class PrivatesTests(SynchronousTestCase):
    """What ``process`` uses of Twisted and of Python that is not public; if one fails, ``process`` must be changed."""

    def test_exit_signal(self) -> None:
        """A reactor keeps the signal that stops it in ``_exitSignal``, where twistd and twist look for it."""

        class Reactor(ReactorBase):
            def installWaker(self) -> None:
                """Do nothing: it never runs."""

        reactor = Reactor()
        self.assertIsNone(reactor._exitSignal)
        reactor.sigTerm(signal.SIGTERM)
        self.assertEqual(reactor._exitSignal, signal.SIGTERM)
        self.assertEqual(list(_ISupportsExitSignalCapturing.names()), ["_exitSignal"])

    def test_exit_hooks(self) -> None:
        """``atexit._run_exitfuncs`` runs the exit hooks at once, the last one first, and each of them once."""
        program = (
            "import atexit\n"
            "for number in 1, 2: atexit.register(print, number)\n"
            "atexit._run_exitfuncs()\n"
            "print('now the end')\n"
        )
        said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
        self.assertEqual(said, "2\n1\nnow the end\n")
