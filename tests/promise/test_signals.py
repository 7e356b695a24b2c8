"""How soon a process has ended after a signal."""

from __future__ import annotations

import os

from tests.support.lines import bodies, message
from tests.support.patience import Stopwatch
from tests.support.processes import AWKWARDLY, RUNNERS, Process, awkward_environment, unmeasured
from tests.support.signals import ANOTHER, SignalsTestCase, pause


class WatchdogTests(SignalsTestCase):
    """The process has ended within two seconds of its deadline, whatever a handler or a thread does."""

    def check(self, type_: str) -> list[Process]:
        """Have a request stuck under each runner, and look at the end."""
        options = *AWKWARDLY, "--drain-timeout", "0.2", "--linger", "30"
        environment = awkward_environment()
        if type_ == "busy":
            environment = unmeasured(environment)
        processes = [self.start(*runner, *options, env=environment) for runner in RUNNERS.values()]
        for process in processes:
            process.send(message(type_, 2))
            process.wait_for_log(f"{type_} began")
        with Stopwatch() as watch:
            for process in processes:
                process.signal()
            for process in processes:
                self.assertEqual(process.wait(), 1, process.log)
        # Two seconds after the deadline is the promise; a machine with three such processes on it has a little more.
        self.assertTrue(0.2 <= watch.seconds < watch.allow(3.2), watch.seconds)
        return processes

    def test_ignored_cancellation(self) -> None:
        """A coroutine that ignores its cancellation is answered for, and left behind."""
        for process in self.check("stubborn"):
            self.assertEqual(bodies(process.read_rest())[0]["code"], 0)
            self.assertIn("stubborn 2 from c1", process.log)

    def test_stuck_thread(self) -> None:
        """A thread that never ends does not hold the process; the last line names it."""
        for process in self.check("thread"):
            self.assertEqual(bodies(process.read_rest())[0]["code"], 0)
            self.assertRegex(
                process.log, r"not ended in time; in flight: thread 2 from c1 \(\d+\.\d s\); threads: .*PoolThread"
            )

    def test_busy_reactor(self) -> None:
        """A handler that never returns does not hold the process either, though the reactor hears of no signal."""
        for process in self.check("busy"):
            self.assertIn("not ended in time", process.log)

    def test_second_signal_to_busy_reactor(self) -> None:
        """A second signal brings that end nearer."""
        process = self.start_awkwardly()
        process.send(message("busy", 2))
        process.wait_for_log("busy began")
        process.signal()
        pause(ANOTHER)
        with Stopwatch() as watch:
            process.signal()
            self.assertEqual(process.wait(), 1)
        # Without a second signal it takes the drain timeout, 25 s. To save coverage beside a busy thread takes seconds.
        self.assertLess(watch.seconds, 15)
        self.assertIn("not ended in time", process.log)


class IdleProcessTests(SignalsTestCase):
    """A process that has nothing to do."""

    def test_nothing_in_flight(self) -> None:
        """With nothing in flight the process is gone in milliseconds."""
        for name, runner in RUNNERS.items():
            took: list[float] = []
            for _ in range(2):
                process = self.start(*runner, env=unmeasured(os.environ))
                with Stopwatch() as watch:
                    process.signal()
                    self.assertEqual(os.waitpid(process.popen.pid, 0)[1], 0)
                took.append(watch.seconds)
                process.popen.returncode = 0
            print(f"{name}: gone {min(took) * 1000:.1f} ms after SIGTERM")
            self.assertLess(min(took), watch.allow(0.25))
