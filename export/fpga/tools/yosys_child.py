"""A process of its own that runs Yosys commands, one a line of a file: `python yosys_child.py SCRIPT`.

It imports nothing of bnnapps, so that it starts at once.
"""

import sys

from pyosys import libyosys

design = libyosys.Design()
with open(sys.argv[1], encoding="utf-8") as script:
    for command in script.read().splitlines():
        print(f"-- {command}", flush=True)
        libyosys.run_pass(command, design)
