"""What the node costs, against what one would write instead: ``python -m benchmarks`` measures all, or the parts named.

Figures are taken in turn (ours, theirs, ours, theirs) within one run, so that a noisy machine is noisy for both.
"""
