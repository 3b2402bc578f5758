"""What changed between two releases, as far as the scenario runs it."""

from __future__ import annotations

from typing import Any

import pytest

from harness.errors import HarnessError
from harness.matrix.cells import ReleaseChoice, plan
from harness.matrix.difference import Difference, compare
from harness.matrix.engine import Engine
from harness.matrix.interpreters import this_interpreter
from harness.selection import select

OLD = """
def check():
    value = 1
    assert value == 1


def unused():
    return "old"
"""
NEW = """
def check():
    value = 2
    assert value == 1


def unused():
    return "new"
"""


def difference(demo: Any) -> Difference:
    (record,) = select([str(demo.scenario("demo>=1.1"))])
    cells, _ = plan([record], [this_interpreter()], ReleaseChoice())
    with Engine(jobs=1) as engine:
        return compare(engine, *cells)


def test_only_changes_that_ran_are_shown(demo: Any) -> None:
    demo.wheels.add("demo", "1.0", {"demo.py": OLD})
    demo.wheels.add("demo", "1.1", {"demo.py": NEW})
    found = difference(demo)
    assert (found.before, found.after, found.left_out) == ("1.0", "1.1", 1)
    changed = [line for line in found.text.splitlines() if line[:1] in "+-"]
    assert changed == [
        "--- demo-1.0/demo.py",
        "+++ demo-1.1/demo.py",
        "-    value = 1",
        "+    value = 2",
    ]


def test_hang_is_traced_up_to_where_it_hangs(demo: Any) -> None:
    hanging = NEW.replace("assert value == 1", "lock.acquire()").replace(
        "value = 2", "import threading; lock = threading.Lock(); lock.acquire()"
    )
    demo.wheels.add("demo", "1.0", {"demo.py": OLD})
    demo.wheels.add("demo", "1.1", {"demo.py": hanging})
    assert "+    lock.acquire()" in difference(demo).text


def test_file_that_is_new_is_shown_as_far_as_it_ran(demo: Any) -> None:
    demo.wheels.add("demo", "1.0", {"demo.py": OLD})
    demo.wheels.add(
        "demo", "1.1", {"demo.py": "from more import check\n", "more.py": "def check(): assert 0\n"}
    )
    text = difference(demo).text
    assert "+from more import check" in text
    assert "+def check(): assert 0" in text


def test_library_without_python_source_is_refused(demo: Any) -> None:
    for version in ("1.0", "1.1"):
        demo.wheels.add("demo", version, {"data.txt": version})
    with pytest.raises(HarnessError, match="no Python source of demo ran"):
        difference(demo)


def test_release_that_cannot_run_is_refused(demo: Any) -> None:
    demo.wheels.add("demo", "1.0", {"demo.py": OLD})
    demo.wheels.add("demo", "1.1", {"demo.py": NEW}, requires_python=">=3.99")
    with pytest.raises(HarnessError, match="cannot be compared"):
        difference(demo)
