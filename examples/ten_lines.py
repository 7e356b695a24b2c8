"""The drain in ten lines: the reactor is stopped after a tenth of a second, and still every job gets done."""

from twisted.internet import reactor, task

from twisted_node import Drain

drain = Drain(reactor)
for number in 1, 2, 3:
    job = task.deferLater(reactor, number / 5, print, f"job {number} is done")
    drain.track(f"job {number}", job)
reactor.addSystemEventTrigger("before", "shutdown", drain.begin, 5.0, "the reactor was stopped")
reactor.callLater(0.1, reactor.stop)
reactor.run()
print(drain.phase.value, drain.counts)
