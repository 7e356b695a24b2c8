"""Calls from a node to others, on standard streams in memory."""

from __future__ import annotations

import contextlib
from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred, gatherResults
from twisted.internet.error import ConnectionLost
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.support.network import Network, Store
from twisted_node import Drain, ErrorCode, MisuseError, Node, Phase, PlainBody, Request, RequestError
from twisted_node.node._node import requests_of
from twisted_node.node._protocol import NodeProtocol
from twisted_node.server._connections import Connections


class CallTests(SynchronousTestCase):
    """One node, whose lines go to a network that has no other unless a test adds it."""

    def setUp(self) -> None:
        self.network = Network()
        self.node = self.network.add("n1", Node())

    def sent(self, dest: str = "n2") -> list[dict[str, Any]]:
        return self.network.received.get(dest, [])

    def reply(self, body: Any, src: str = "n2") -> None:
        self.network.hand_over({"src": src, "dest": "n1", "body": body})

    def assert_fails(self, call: Deferred[Any], code: int, text: str) -> None:
        error = self.failureResultOf(call, RequestError).value
        assert isinstance(error, RequestError)
        self.assertEqual((error.code, error.text), (code, text))
        self.assertEqual(self.network.clock.getDelayedCalls(), [])

    def test_send(self) -> None:
        """A message sent has the next msg_id of the one counter; nobody waits for a reply."""
        self.node.send("n2", {"type": "gossip", "values": [1]})
        self.reply({"type": "gossip_ok", "in_reply_to": 1})
        self.node.send("n2", {"type": "gossip", "msg_id": 77})
        self.assertEqual(self.sent(), [{"type": "gossip", "values": [1], "msg_id": 1}, {"type": "gossip", "msg_id": 2}])
        self.assertEqual(self.network.received.keys(), {"c0", "n2"})

    def test_reply(self) -> None:
        """A call has the body of its reply, as plain data, and its timer is gone."""
        call = self.node.rpc("n2", {"type": "read", "key": 3})
        self.assertEqual(self.sent(), [{"type": "read", "key": 3, "msg_id": 1}])
        self.assertNoResult(call)
        self.reply({"type": "read_ok", "value": [4], "in_reply_to": 1})
        self.assertEqual(self.successResultOf(call), {"type": "read_ok", "value": [4], "in_reply_to": 1})
        self.assertEqual(self.network.clock.getDelayedCalls(), [])

    def test_replies_out_of_order(self) -> None:
        """Each call has its own reply, in whatever order they come."""
        first, second = (self.node.rpc("n2", {"type": "read"}) for _ in range(2))
        self.reply({"type": "read_ok", "value": 2, "in_reply_to": 2})
        self.reply({"type": "read_ok", "value": 1, "in_reply_to": 1})
        self.assertEqual([self.successResultOf(call)["value"] for call in (first, second)], [1, 2])

    def test_never_0(self) -> None:
        """A call never has the msg_id 0, which some peers take for none."""
        network = Network()
        node = network.add("n1", Node("n1"), init=False)
        node.rpc("n2", {"type": "read"})
        node.send("n2", {"type": "gossip"})
        self.assertEqual([body["msg_id"] for body in network.received["n2"]], [1, 2])

    def test_error_reply(self) -> None:
        """A replied error fails the call with its code and text; one without a code is a crash, indefinite."""
        for body, code, text in (
            ({"code": 22, "text": "differs"}, 22, "differs"),
            ({"code": 1001}, 1001, ""),
            ({"text": "oh"}, ErrorCode.CRASH, "oh"),
            ({"code": "22"}, ErrorCode.CRASH, ""),
        ):
            call = self.node.rpc("lin-kv", {"type": "cas"})
            in_reply_to = self.sent("lin-kv")[-1]["msg_id"]
            self.reply({"type": "error", "in_reply_to": in_reply_to, **body}, src="lin-kv")
            self.assert_fails(call, code, text)

    def test_malformed_reply(self) -> None:
        """A reply that cannot be read fails the call at once, indefinitely."""
        call = self.node.rpc("n2", {"type": "read"})
        self.reply({"in_reply_to": 1})
        text = "malformed reply from n2: body: Object missing required field `type`"
        self.assert_fails(call, ErrorCode.CRASH, text)
        call = self.node.rpc("n2", {"type": "read"})
        line = b'{"src":"n2","dest":"n1","body":{"type":"read_ok","in_reply_to":2,"value":"\xff"}}\n'
        self.network.protocols["n1"].dataReceived(line)
        error = self.failureResultOf(call, RequestError).value
        self.assertIn("malformed reply from n2: ", str(error))

    def test_timeout(self) -> None:
        """A call without a reply in time fails with timeout (0); a later reply is dropped."""
        call = self.node.rpc("n2", {"type": "read"}, timeout=2.5)
        self.network.clock.advance(2.4)
        self.assertNoResult(call)
        self.network.clock.advance(0.1)
        self.assert_fails(call, ErrorCode.TIMEOUT, "no reply from n2 within 2.5 s")
        self.reply({"type": "read_ok", "in_reply_to": 1})
        self.assertEqual(self.network.received.keys(), {"c0", "n2"})

    def test_cancel(self) -> None:
        """A cancelled call is forgotten, with its timer."""
        call = self.node.rpc("n2", {"type": "read"})
        call.addErrback(lambda _: None)
        call.cancel()
        self.assertEqual(self.network.clock.getDelayedCalls(), [])
        self.reply({"type": "read_ok", "in_reply_to": 1})
        self.assertIsNone(self.successResultOf(call))

    def test_replies_to_nothing(self) -> None:
        """What is no reply to a call, of the node that was called, leaves the call waiting."""
        call = self.node.rpc("n2", {"type": "read"})
        self.reply({"type": "read_ok", "in_reply_to": 1}, src="n3")
        for in_reply_to in (0, 2, 1.0, True, "1", [1]):
            self.reply({"type": "read_ok", "in_reply_to": in_reply_to})
        self.assertNoResult(call)
        self.assertEqual(self.network.received.keys(), {"c0", "n2"})
        self.reply({"type": "read_ok", "in_reply_to": 1})
        self.successResultOf(call)

    def test_errors_are_not_answered(self) -> None:
        """An error that does not say what it answers is not answered: two nodes would go on for ever."""
        self.reply({"type": "error", "code": 10, "msg_id": 7})
        self.assertEqual(self.sent(), [])

    def test_errors_are_not_handled(self) -> None:
        """Nor does a handler of that type get it, whatever its body."""
        self.node.handle("error", PlainBody)(lambda _: {"never": "said"})
        self.reply({"type": "error", "msg_id": 7})
        self.assertEqual(self.sent(), [])

    def test_two_nodes_do_not_go_on_for_ever(self) -> None:
        """A request without a msg_id costs its answer, and an error that answers that, and no more."""
        self.network.add("n2", Node())
        self.network.hand_over({"src": "n2", "dest": "n1", "body": {"type": "what"}})
        self.network.run(1)
        self.assertEqual(self.network.messages, 1)

    def test_end_of_input(self) -> None:
        """When standard input ends, calls fail at once, so the drain ends at once; later calls in a moment."""

        @self.node.handle("ask")
        async def ask(request: Request[dict[str, Any]]) -> dict[str, Any]:
            return await self.node.rpc("n2", {"type": "read"})

        self.network.ask("n1", "ask")
        self.network.protocols["n1"].readConnectionLost()
        self.assertEqual(self.network.received["c1"][0]["code"], ErrorCode.TIMEOUT)
        self.assertEqual(self.network.drained["n1"].phase, Phase.DRAINED)
        call = self.node.rpc("n2", {"type": "read"})
        self.assertNoResult(call)
        self.network.clock.advance(0.01)
        self.assert_fails(call, ErrorCode.TIMEOUT, "no reply can come: standard input ended")
        call = self.node.rpc("n2", {"type": "read"})
        call.addErrback(lambda _: None)
        call.cancel()
        self.assertEqual(self.network.clock.getDelayedCalls(), [])
        self.assertEqual(len(self.sent()), 1)

    def test_trying_for_ever(self) -> None:
        """A handler that calls until it is answered is cut by the deadline, also when no reply can come any more."""

        @self.node.handle("ask")
        async def ask(request: Request[dict[str, Any]]) -> dict[str, Any]:
            while True:
                with contextlib.suppress(RequestError):
                    return await self.node.rpc("n2", {"type": "read"})

        self.network.ask("n1", "ask")
        self.network.protocols["n1"].readConnectionLost()
        self.network.run(26)
        self.assertEqual(self.network.drained["n1"].phase, Phase.TIMED_OUT)
        self.assertEqual([body["code"] for body in self.network.received["c1"]], [ErrorCode.TIMEOUT])

    def test_output_closed(self) -> None:
        """When standard output is gone, calls fail too."""
        call = self.node.rpc("n2", {"type": "read"})
        self.network.protocols["n1"].connectionLost(Failure(ConnectionLost()))
        self.assert_fails(call, ErrorCode.TIMEOUT, "no reply can come: standard output was closed")

    def test_every_phase(self) -> None:
        """Replies are delivered before, during and after the drain."""
        held: Deferred[dict[str, Any]] = Deferred()
        self.node.handle("hold")(lambda _: held)
        self.network.ask("n1", "hold")
        calls = [self.node.rpc("n2", {"type": "read"}) for _ in range(3)]
        self.reply({"type": "read_ok", "in_reply_to": 1})
        self.network.drain("n1")
        self.reply({"type": "read_ok", "in_reply_to": 2})
        self.assertIs(self.node.drain.phase, Phase.DRAINING)
        held.callback({})
        self.assertIs(self.node.drain.phase, Phase.DRAINED)
        self.reply({"type": "read_ok", "in_reply_to": 3})
        self.assertEqual(len(self.successResultOf(gatherResults(calls))), 3)

    def test_reply_passed_on(self) -> None:
        """A reply passed on as an answer answers its own request, and a request without a msg_id none."""

        @self.node.handle("ask")
        async def ask(request: Request[dict[str, Any]]) -> dict[str, Any]:
            return await self.node.rpc("lin-kv", {"type": "read", "key": 1})

        self.network.services["lin-kv"] = store = Store()
        store.values[1] = "one"
        asked = self.network.ask("n1", "ask")
        self.network.hand_over({"src": "c1", "dest": "n1", "body": {"type": "ask"}})
        self.network.clock.advance(0)
        self.assertEqual(
            self.network.received["c1"],
            [
                {"type": "read_ok", "in_reply_to": asked, "value": "one", "msg_id": 3},
                {"type": "read_ok", "value": "one", "msg_id": 4},
            ],
        )


class ChainTests(SynchronousTestCase):
    """A request that needs two nodes and a service."""

    def chain(self, steps: int) -> tuple[Network, int]:
        """Let a request come so many steps on its way, then drain both nodes; return the network and the request."""
        network = Network()
        network.delay = lambda *_: 0.1
        network.services["lin-kv"] = store = Store()
        store.values["k"] = 21
        first, second = network.add("n1", Node()), network.add("n2", Node())

        @first.handle("double")
        async def double(request: Request[dict[str, Any]]) -> dict[str, Any]:
            reply = await first.rpc("n2", {"type": "get", "key": request.body["key"]})
            return {"value": 2 * reply["value"]}

        @second.handle("get")
        async def get(request: Request[dict[str, Any]]) -> dict[str, Any]:
            reply = await second.rpc("lin-kv", {"type": "read", "key": request.body["key"]})
            return {"value": reply["value"]}

        asked = network.ask("n1", "double", key="k")
        network.clock.pump([0.1, 0][:steps])
        return network, asked

    def test_drain_in_the_middle(self) -> None:
        """A drain of both nodes in the middle of a chain of calls finishes the chain."""
        for steps in (1, 2):
            network, asked = self.chain(steps)
            for name in ("n1", "n2"):
                network.drain(name)
            network.run(0.5)
            self.assertEqual(
                network.received["c1"], [{"type": "double_ok", "in_reply_to": asked, "value": 42, "msg_id": 2}]
            )
            self.assertEqual(
                {name: s.phase for name, s in network.drained.items()}, dict.fromkeys(("n1", "n2"), Phase.DRAINED)
            )

    def test_refused_in_the_middle(self) -> None:
        """A node that drains before the chain reaches it refuses, and the chain's answer says so, definitely."""
        network, _ = self.chain(0)
        network.drain("n2")
        network.run(0.5)
        self.assertEqual([body["code"] for body in network.received["c1"]], [ErrorCode.TEMPORARILY_UNAVAILABLE])

    def test_deadline(self) -> None:
        """The deadline cuts a chain: its calls are forgotten, and its client hears so once."""
        network, _ = self.chain(0)
        network.delay = lambda *_: None
        asked = network.ask("n1", "double", src="c2", key="k")
        network.nodes["n1"].drain.begin(0.5)
        network.run(1.5)
        self.assertEqual([body["in_reply_to"] for body in network.received["c2"]], [asked])
        self.assertEqual([body["code"] for body in network.received["c2"]], [ErrorCode.TIMEOUT])
        self.assertEqual(network.clock.getDelayedCalls(), [])


class CallMisuseTests(SynchronousTestCase):
    """What a program may get wrong: it is told, and nothing has happened by it."""

    def assert_misuse(self, text: str, function: Any, *arguments: Any, **options: Any) -> None:
        self.assertEqual(str(self.assertRaises(MisuseError, function, *arguments, **options)), text)

    def test_sockets(self) -> None:
        """On a socket there is nobody who could pass a message on; a handler that tries is answered crash."""
        clock = Clock()
        node = Node("n1")
        node.bind(Drain(clock, clock.seconds))
        socket = NodeProtocol(requests_of(node), Connections(clock))
        transport = StringTransport()
        socket.makeConnection(transport)
        for function in (node.send, node.rpc):
            text = "no way to other nodes: they are reached over standard input and output only"
            self.assert_misuse(text, function, "n2", {"type": "read"})
        node.handle("ask")(lambda _: node.rpc("n2", {"type": "read"}))
        socket.dataReceived(b'{"src":"c1","body":{"type":"ask","msg_id":1}}\n')
        self.assertIn(b'"code": 13, "text": "ask failed: MisuseError"', transport.value())
        self.assertEqual(len(self.flushLoggedErrors(MisuseError)), 1)
        self.assertIn(b'"msg_id": 0', transport.value())

    def test_replies_from_sockets(self) -> None:
        """A client on a socket cannot reply to a call, and its errors are answered as any unknown type."""
        network = Network()
        node = network.add("n1", Node())
        call = node.rpc("n2", {"type": "read"})
        socket = NodeProtocol(requests_of(node), Connections(network.clock))
        transport = StringTransport()
        socket.makeConnection(transport)
        socket.dataReceived(b'{"src":"n2","body":{"type":"read_ok","in_reply_to":1}}\n')
        self.assertNoResult(call)
        self.assertEqual(transport.value(), b"")
        socket.dataReceived(b'{"src":"n2","body":{"type":"error","msg_id":1}}\n')
        self.assertIn(b'"code": 10', transport.value())

    def test_before_init(self) -> None:
        """A node without a name cannot send."""
        network = Network()
        node = network.add("n1", Node(), init=False)
        for function in (node.send, node.rpc):
            self.assert_misuse("the node has no name yet: send after init", function, "n2", {"type": "read"})

    def test_arguments(self) -> None:
        """A body without a type, one that JSON cannot say, and an impossible timeout take no number of the counter."""
        network = Network()
        node = network.add("n1", Node())
        for body in ({}, {"type": 1}):
            text = "type: expected a string in the body of a message"
            self.assert_misuse(text, node.send, "n2", body)
        self.assertRaises(TypeError, node.rpc, "n2", {"type": "read", "key": object()})
        for timeout in (-1, float("nan"), float("inf")):
            text = f"timeout: expected seconds from 0 to 86400, got {timeout!r}"
            self.assert_misuse(text, node.rpc, "n2", {"type": "read"}, timeout=timeout)
        node.send("n2", {"type": "read"})
        self.assertEqual(network.received["n2"], [{"type": "read", "msg_id": 1}])
        self.assertEqual(network.clock.getDelayedCalls(), [])

    def test_awaited_together(self) -> None:
        """Calls can be awaited in a coroutine, several at once."""
        network = Network()
        node = network.add("n1", Node())
        network.services["lin-kv"] = store = Store()
        store.values.update(a=1, b=2)

        async def total() -> int:
            calls = [node.rpc("lin-kv", {"type": "read", "key": key}) for key in "ab"]
            return sum(reply["value"] for reply in await gatherResults(calls))

        result = ensureDeferred(total())
        network.clock.advance(0)
        self.assertEqual(self.successResultOf(result), 3)
