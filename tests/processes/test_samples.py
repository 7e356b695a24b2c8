"""Two samples, byte for byte, whichever way the node is started."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.support.lines import INIT, INIT_OK
from tests.support.processes import RUNNERS, run


class SamplesTests(SynchronousTestCase):
    """What a stranger tries first."""

    def check(self, request: bytes, reply: bytes) -> None:
        """Run both lines through each runner."""
        for name, runner in RUNNERS.items():
            result = run(lines=INIT + request, runner=runner)
            self.assertEqual(result.stdout, INIT_OK + reply, name)
            self.assertEqual(result.returncode, 0, result.stderr)

    def test_request(self) -> None:
        """A request without latency is answered processed."""
        self.check(
            b'{"src":"c1","dest":"n1","body":{"type":"tcp_request","msg_id":2,"data":"hello","latency_ms":0}}\n',
            b'{"src": "n1", "dest": "c1", "body": {"type": "tcp_request_ok", "in_reply_to": 2, "result": "processed",'
            b' "duration_ms": 0, "msg_id": 1}}\n',
        )

    def test_shutdown(self) -> None:
        """A shutdown with nothing in flight still says draining."""
        self.check(
            b'{"src":"c1","dest":"n1","body":{"type":"tcp_shutdown","msg_id":2,"drain_timeout_ms":5000}}\n',
            b'{"src": "n1", "dest": "c1", "body": {"type": "tcp_shutdown_ok", "in_reply_to": 2, "status": "draining",'
            b' "in_flight": 0, "msg_id": 1}}\n',
        )
