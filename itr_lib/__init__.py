"""The course's library. Whoever imports it before torch gets threads that wait without taking the cores.

torch's threads share each operation and wait for each other at its end. On Linux they are GNU OpenMP's, which go round
in a loop while they wait, some 300,000 times: beside another program, whose turn it may be on the other's core, they
burn what they wait for. Here they go to sleep after 10,000 rounds. On two cores a training step of lesson 02, which
took 749 ms beside two busy programs, takes 413 ms so; on an idle machine 176 in place of 165 (one run of `python -m
data_scripts.busy`). The runtime reads the number once, when torch is imported. Other runtimes, those of macOS and
Windows, do not know the name.
"""

import os

if "OMP_WAIT_POLICY" not in os.environ:  # the standard's name for the same: a user who has set it has decided
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
