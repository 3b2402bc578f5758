"""A process is told apart from a later one with the same number, and from one elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

from harness.broker.processes import Owner, descendants, free_ports, started, wait_until


def test_i_am_alive() -> None:
    assert Owner.me().is_alive()


def test_a_later_process_with_the_same_number_is_not_the_owner() -> None:
    assert not replace(Owner.me(), started="1").is_alive()


def test_nothing_is_said_of_a_process_elsewhere() -> None:
    elsewhere = replace(Owner.me(), started="1", space="another/machine")
    assert elsewhere.is_foreign
    assert elsewhere.is_alive()


def test_a_zombie_has_ended() -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    assert started(child) is None
    os.waitpid(child, 0)
    assert started(child) is None


def test_descendants_are_found_through_their_parents() -> None:
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'input()'])"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE) as child:
        assert wait_until(lambda: len(descendants(child.pid)) == 1, 20)
        found = descendants(os.getpid())
        assert found.index(child.pid) < found.index(descendants(child.pid)[0])
        assert child.stdin is not None
        child.stdin.write(b"\n")


def test_free_ports_are_different() -> None:
    assert len(set(free_ports(20))) == 20


def test_waiting_says_whether_it_came_true() -> None:
    answers = iter([False, False, True])
    assert wait_until(lambda: next(answers), 5, every=0)
    assert not wait_until(lambda: False, 0)
