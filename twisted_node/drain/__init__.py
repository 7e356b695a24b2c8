"""The work in flight, the phases of a drain, and its deadline.

It takes a clock, and knows no transport or message. Any Twisted program can use it alone.
"""

from twisted_node.drain._collector import settle_collector
from twisted_node.drain._drain import Drain
from twisted_node.drain._phases import Counts, Phase, Statistics

__all__ = ["Counts", "Drain", "Phase", "Statistics", "settle_collector"]
