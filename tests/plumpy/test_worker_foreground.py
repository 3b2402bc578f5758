"""A worker as a program: what it does with all that it has imported."""

from __future__ import annotations

import subprocess
import sys

_PROGRAM = """
import gc, weakref
from plumpy.worker._foreground import run_until_signal

class Imported:
    pass

class Worker:
    async def run(self):
        followed = {id(each) for each in gc.get_objects()}
        print("imported is followed:", id(imported) in followed)
        print("garbage is kept:", garbage() is not None)
        print("what is made now is followed:", id(made := Imported()) in
              {id(each) for each in gc.get_objects()})

gc.disable()  # nothing but the program itself collects
imported, cycle = Imported(), Imported()
cycle.itself, garbage = cycle, weakref.ref(cycle)
del cycle
print("no thread is left:", run_until_signal(Worker()))
"""


def test_what_was_imported_is_left_out_of_collections() -> None:
    """A collection went through 34,000 objects of modules while processes waited."""
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "imported is followed: False",
        "garbage is kept: False",
        "what is made now is followed: True",
        "no thread is left: True",
    ]
