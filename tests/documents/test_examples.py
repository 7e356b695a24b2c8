"""The programs in ``examples/``: by literal lines on real processes, and as clusters whose network is at fault."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.support.handover import SITE, HandoverTestCase, Visitors
from tests.support.lines import INIT, INIT_OK, bodies, message
from tests.support.network import READ_OK, Network, Store, check_reply
from tests.support.paths import BIN, ROOT
from tests.support.patience import PATIENCE, wait_until
from tests.support.processes import Process
from tests.support.sockets import connect
from twisted_node import Phase

EXAMPLES = ROOT / "examples"
NAMES = ("n1", "n2", "n3")


def run_example(name: str, *lines: bytes) -> bytes:
    """Run a program as the harness does, by its path alone, and give it lines; return what it printed after init_ok."""
    environment = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    result = subprocess.run(
        [EXAMPLES / f"{name}.py"],
        input=INIT + b"".join(lines),
        capture_output=True,
        timeout=PATIENCE,
        env=environment,
        check=True,
    )
    for body in bodies(result.stdout):
        check_reply(body, READ_OK.get(name, set()))
    init_ok, rest = result.stdout[: len(INIT_OK)], result.stdout[len(INIT_OK) :]
    assert init_ok == INIT_OK, init_ok
    return rest


class ProgramTests(SynchronousTestCase):
    """Each program, alone, on a real process."""

    def test_echo(self) -> None:
        """It says what was said, whatever that is."""
        self.assertEqual(
            run_example("echo", message("echo", echo="Please echo 17"), message("echo", 3, echo=[1, {"a": None}])),
            b'{"src": "n1", "dest": "c1", "body": {"type": "echo_ok", "in_reply_to": 2, "echo": "Please echo 17",'
            b' "msg_id": 1}}\n'
            b'{"src": "n1", "dest": "c1", "body": {"type": "echo_ok", "in_reply_to": 3, "echo": [1, {"a": null}],'
            b' "msg_id": 2}}\n',
        )

    def test_unique_ids(self) -> None:
        """No id comes twice, within a run or in two."""
        asked = [message("generate", n) for n in range(2, 102)]
        answers = bodies(run_example("unique_ids", *asked) + run_example("unique_ids", *asked))
        self.assertEqual(len({answer["id"] for answer in answers}), 200)

    def test_broadcast(self) -> None:
        """It knows what it was told; a topology may name nobody."""
        self.assertEqual(
            run_example(
                "broadcast",
                message("topology", topology={"n1": []}),
                message("broadcast", 3, message=7),
                message("broadcast", 4, message=1),
                message("broadcast", 5, message=7),
                message("read", 6),
            ),
            b'{"src": "n1", "dest": "c1", "body": {"type": "topology_ok", "in_reply_to": 2, "msg_id": 1}}\n'
            b'{"src": "n1", "dest": "c1", "body": {"type": "broadcast_ok", "in_reply_to": 3, "msg_id": 2}}\n'
            b'{"src": "n1", "dest": "c1", "body": {"type": "broadcast_ok", "in_reply_to": 4, "msg_id": 3}}\n'
            b'{"src": "n1", "dest": "c1", "body": {"type": "broadcast_ok", "in_reply_to": 5, "msg_id": 4}}\n'
            b'{"src": "n1", "dest": "c1", "body": {"type": "read_ok", "in_reply_to": 6, "messages": [1, 7],'
            b' "msg_id": 5}}\n',
        )

    def test_counter(self) -> None:
        """It adds up, below zero too."""
        self.assertEqual(
            run_example("counter", message("add", delta=3), message("add", 3, delta=-5), message("read", 4)),
            b'{"src": "n1", "dest": "c1", "body": {"type": "add_ok", "in_reply_to": 2, "msg_id": 1}}\n'
            b'{"src": "n1", "dest": "c1", "body": {"type": "add_ok", "in_reply_to": 3, "msg_id": 2}}\n'
            b'{"src": "n1", "dest": "c1", "body": {"type": "read_ok", "in_reply_to": 4, "value": -2, "msg_id": 3}}\n',
        )

    def test_kv(self) -> None:
        """It asks the service of the harness, and passes on its answers and errors; also while a signal drains it."""
        process = Process(sys.executable, str(EXAMPLES / "kv.py"))
        self.addCleanup(process.end)
        process.send(INIT)
        self.assertEqual(process.read_line(), INIT_OK)
        cas: dict[str, Any] = {"key": 1, "from": 4, "to": 5}
        exchanges: list[tuple[bytes, dict[str, Any], dict[str, Any], dict[str, Any]]] = [
            (
                message("write", 2, key=1, value=[2]),
                {"type": "write", "key": 1, "value": [2], "msg_id": 1},
                {"type": "write_ok"},
                {"type": "write_ok", "in_reply_to": 2, "msg_id": 2},
            ),
            (
                message("cas", 3, **cas),
                {"type": "cas", **cas, "msg_id": 3},
                {"type": "error", "code": 22, "text": "differs"},
                {"type": "error", "in_reply_to": 3, "code": 22, "text": "differs", "msg_id": 4},
            ),
            (
                message("read", 4, key=1),
                {"type": "read", "key": 1, "msg_id": 5},
                {"type": "read_ok", "value": [2]},
                {"type": "read_ok", "in_reply_to": 4, "value": [2], "msg_id": 6},
            ),
        ]
        for asked, call, reply, answer in exchanges:
            process.send(asked)
            self.assertEqual(json.loads(process.read_line()), {"src": "n1", "dest": "lin-kv", "body": call})
            if answer["type"] == "read_ok":
                process.signal(signal.SIGTERM)
                process.wait_for_log("draining")
            line = {"id": 9, "src": "lin-kv", "dest": "n1", "body": {**reply, "in_reply_to": call["msg_id"]}}
            process.send(json.dumps(line).encode() + b"\n")
            self.assertEqual(json.loads(process.read_line())["body"], answer)
            check_reply(answer, READ_OK["kv"])
        self.assertEqual((process.wait(), process.read_rest()), (0, b""))


#: What becomes of the messages between nodes, one after the other and over again: seconds on the way, or lost.
FATES = st.lists(st.none() | st.sampled_from([0.0, 0.01, 0.1, 0.3, 0.7, 2.0]), min_size=1, max_size=30)
#: Who is cut off from the others, from when to when, in seconds.
PARTITIONS = st.lists(st.tuples(st.sampled_from(NAMES), st.integers(0, 6), st.integers(7, 10)), max_size=3)
#: What clients ask: of which node, after how many tenths of a second, with which number.
OPERATIONS = st.lists(st.tuples(st.sampled_from(NAMES), st.integers(0, 20), st.integers(-5, 20)), max_size=15)


class ClusterTests(SynchronousTestCase):
    """Three nodes of a program, in memory. After ten seconds the network has no more faults."""

    def cluster(self, program: str, fates: list[float | None], partitions: list[tuple[str, int, int]]) -> Network:
        network = Network()
        now = network.clock.seconds

        def delay(src: str, dest: str) -> float | None:
            if now() > 10:
                return 0.01
            if any(name in (src, dest) and start <= now() < end for name, start, end in partitions):
                return None
            return fates[network.messages % len(fates)]

        network.delay = delay
        network.add_examples(program, *NAMES)
        return network

    def check(self, program: str, network: Network, field: str, expected: Any) -> None:
        """Every node says the same in the end, and every reply was well formed."""
        network.run(max(0.0, 10 - network.clock.seconds()) + 3)
        for name in NAMES:
            self.assertEqual(network.answer(name, "read")[field], expected, name)
        for answers in network.received.values():
            for answer in answers:
                check_reply(answer, READ_OK[program])
        sent = network.messages
        network.run(5)
        self.assertEqual(network.messages, sent, "they go on although all is said")

    @settings(deadline=None, max_examples=60)
    @given(fates=FATES, partitions=PARTITIONS, operations=OPERATIONS)
    def test_broadcast(self, fates: Any, partitions: Any, operations: Any) -> None:
        """All messages are everywhere in the end, however the network delays, reorders, drops and partitions."""
        network = self.cluster("broadcast", fates, partitions)
        for name, tenths, value in operations:
            network.run(tenths / 10)
            self.assertEqual(network.answer(name, "broadcast", message=value)["type"], "broadcast_ok")
        self.check("broadcast", network, "messages", sorted({value for _, _, value in operations}))

    @settings(deadline=None, max_examples=60)
    @given(fates=FATES, partitions=PARTITIONS, operations=OPERATIONS)
    def test_counter(self, fates: Any, partitions: Any, operations: Any) -> None:
        """Every node counts the same sum in the end; nothing is counted twice."""
        network = self.cluster("counter", fates, partitions)
        for name, tenths, delta in operations:
            network.run(tenths / 10)
            self.assertEqual(network.answer(name, "add", delta=delta)["type"], "add_ok")
        self.check("counter", network, "value", sum(delta for _, _, delta in operations))

    def test_topology(self) -> None:
        """Messages go along the given topology, and it may change."""
        network = self.cluster("broadcast", [0.01], [])
        for name, topology in (("n1", ["n2"]), ("n2", ["n1", "n3"]), ("n3", ["n2"])):
            network.answer(name, "topology", topology={name: topology})
        lines: list[tuple[str, str]] = []

        def delay(src: str, dest: str) -> float:
            lines.append((src, dest))
            return 0.01

        network.delay = delay
        network.answer("n1", "broadcast", message=1)
        network.answer("n3", "broadcast", message=2)
        self.check("broadcast", network, "messages", [1, 2])
        self.assertEqual(set(lines), {("n1", "n2"), ("n2", "n1"), ("n2", "n3"), ("n3", "n2")})

    def test_handed_over(self) -> None:
        """What was acknowledged a moment before a drain is with the others when it ends."""
        for program, type_, fields, read in (
            ("broadcast", "broadcast", {"message": 3}, {"messages": [3]}),
            ("counter", "add", {"delta": 3}, {"value": 3}),
        ):
            network = self.cluster(program, [0.05], [])
            network.answer("n1", type_, **fields)
            network.drain("n1")
            network.run(0.15)
            self.assertIs(network.drained["n1"].phase, Phase.DRAINED)
            for name in ("n2", "n3"):
                answer = network.answer(name, "read")
                self.assertEqual({key: answer[key] for key in read}, read)

    def test_few_messages(self) -> None:
        """25 nodes in a grid, a tenth of a second apart, 100 operations a second: few messages for each."""
        network = Network()
        network.delay = lambda *_: 0.1
        names = [f"n{n}" for n in range(25)]
        network.add_examples("broadcast", *names)
        grid = {
            f"n{n}": [f"n{m}" for m in range(25) if abs(n // 5 - m // 5) + abs(n % 5 - m % 5) == 1] for n in range(25)
        }
        for name in names:
            network.answer(name, "topology", topology=grid)
        before, count = network.messages, 1000
        for value in range(count):
            network.answer(names[value * 7 % 25], "broadcast", message=value)
            network.run(0.01, step=0.01)
        network.run(5)
        for name in names:
            self.assertEqual(network.answer(name, "read")["messages"], list(range(count)))
        self.assertLess((network.messages - before) / count, 6)

    @settings(deadline=None, max_examples=30)
    @given(
        operations=st.lists(
            st.tuples(
                st.sampled_from(NAMES),
                st.sampled_from(["read", "write", "cas"]),
                st.integers(0, 1),
                st.integers(0, 2),
                st.integers(0, 2),
            )
        )
    )
    def test_kv(self, operations: Any) -> None:
        """Whichever node is asked, the register is one."""
        network = Network()
        network.services["lin-kv"] = Store()
        network.add_examples("kv", *NAMES)
        model = Store()
        for name, type_, key, first, second in operations:
            fields: dict[str, Any] = {}
            if type_ != "read":
                fields = {"value": first} if type_ == "write" else {"from": first, "to": second}
            asked = network.ask(name, type_, key=key, **fields)
            network.clock.advance(0)
            answer = network.received["c1"][-1]
            check_reply(answer, READ_OK["kv"])
            expected = {**model({"type": type_, "key": key, **fields}), "in_reply_to": asked}
            self.assertEqual(answer, {**expected, "msg_id": answer["msg_id"]})

    def test_kv_alone(self) -> None:
        """A node that cannot reach the service says so before its client gives up, and does not say that it failed."""
        network = Network()
        network.add_examples("kv", "n1")
        network.ask("n1", "write", key=1, value=2)
        network.run(4.5)
        self.assertEqual([body["code"] for body in network.received["c1"]], [0])


class BroadcastProcessesTests(SynchronousTestCase):
    """Three real processes, and a network that loses every third message and cuts one node off for a while."""

    def setUp(self) -> None:
        self.processes = {name: Process(sys.executable, str(EXAMPLES / "broadcast.py")) for name in NAMES}
        for process in self.processes.values():
            self.addCleanup(process.end)
        self.answers: dict[tuple[str, int], dict[str, Any]] = {}
        self.messages = 0
        self.alone = "n3"

    def ask(self, name: str, type_: str, msg_id: int, **fields: Any) -> None:
        self.processes[name].send(message(type_, msg_id, **fields))

    def route(self, seconds: float) -> None:
        """Carry messages for a while, at most."""
        outputs: dict[Any, str] = {process.popen.stdout: name for name, process in self.processes.items()}
        for output in select.select(list(outputs), [], [], seconds)[0]:
            line = self.processes[outputs[output]].read_line()
            sent = json.loads(line)
            src, dest, body = sent["src"], sent["dest"], sent["body"]
            if dest not in self.processes:
                check_reply(body, READ_OK["broadcast"])
                self.answers[src, body["in_reply_to"]] = body
                continue
            self.messages += 1
            if self.messages % 3 and self.alone not in (src, dest):
                self.processes[dest].send(line)

    def until(self, *expected: tuple[str, int]) -> None:
        """Carry messages until these requests are answered."""
        deadline = time.monotonic() + PATIENCE
        while not all(key in self.answers for key in expected):
            self.assertLess(time.monotonic(), deadline, self.answers)
            self.route(0.1)

    def read(self, name: str, msg_id: int) -> list[int]:
        self.ask(name, "read", msg_id)
        self.until((name, msg_id))
        messages: list[int] = self.answers[name, msg_id]["messages"]
        return messages

    def test_partition_heals(self) -> None:
        """What was said on one side of a partition reaches the other once it heals; then SIGTERM ends all well."""
        for name in NAMES:
            self.ask(name, "init", 1, node_id=name, node_ids=list(NAMES))
            self.ask(name, "topology", 2, topology={name: [other for other in NAMES if other != name]})
        for value, name in enumerate(NAMES):
            self.ask(name, "broadcast", 3, message=value)
        self.until(*((name, msg_id) for name in NAMES for msg_id in (1, 2, 3)))
        msg_id = 4
        while not self.read("n1", msg_id) == self.read("n2", msg_id) == [0, 1]:
            self.route(0.1)
            msg_id += 1
        self.assertEqual(self.read("n3", msg_id), [2])
        self.alone = ""
        while not all(self.read(name, msg_id) == [0, 1, 2] for name in NAMES):
            self.route(0.1)
            msg_id += 1
        for process in self.processes.values():
            process.signal()
        self.assertEqual([process.wait() for process in self.processes.values()], [0, 0, 0])


class ReplacedTests(HandoverTestCase):
    """``replaced.py``, which owns its process itself, under clients that connect for each request."""

    def test_replaced(self) -> None:
        """SIGHUP has a new release take its place, a broken one changes nothing, SIGTERM stops it; nobody notices."""
        source = (EXAMPLES / "replaced.py").read_text()
        program = Path(self.mktemp()).absolute()
        program.write_text(source)
        process = self.own(
            Process(
                *["/bin/sh", "-c", 'exec "$@" >&2', "sh", sys.executable, str(program)],
                stdin=subprocess.DEVNULL,
                env={**os.environ, "PORT": "0"},
            )
        )
        port, first = process.port(), process.popen.pid
        with Visitors([(lambda: connect(port), SITE)], each=3) as visitors:
            program.write_text("raise SystemExit('a bad release')")
            os.kill(first, signal.SIGHUP)
            process.wait_for_log("not replaced: process [0-9]+: it ended with status 1 before it was ready")
            program.write_text(source)
            second = self.replace(first, lambda: process.log, signal.SIGHUP)
            self.assertEqual(process.popen.wait(PATIENCE), 0, process.log)
            enough = visitors.outcomes["answered"] + 20
            wait_until(lambda: visitors.outcomes["answered"] >= enough, PATIENCE)
            self.assertEqual(set(visitors.outcomes), {"answered"}, process.log)
        os.kill(second, signal.SIGTERM)
        self.assertEqual(self.wait_for_end(second), 0, process.log)
        self.assertNotIn("Traceback", process.log)
