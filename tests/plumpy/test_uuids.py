"""Random UUIDs: random, of version 4, and not those of another process."""

from __future__ import annotations

import subprocess
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor

from plumpy._uuids import random_uuid


def test_they_are_random_uuids_and_all_different():
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: random_uuid(), range(2000)))
    assert {value.version for value in made} == {4}
    assert {value.variant for value in made} == {uuid.RFC_4122}
    assert len(set(made)) == 2000


def test_a_fork_has_its_own():
    # In a program of its own, which has no threads.
    code = (
        "import os, sys\n"
        "from plumpy._uuids import random_uuid\n"
        "random_uuid()\n"
        "if os.fork() == 0:\n"
        "    print(random_uuid(), flush=True)\n"
        "    os._exit(0)\n"
        "os.wait()\n"
        "print(random_uuid())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True)
    theirs, ours = done.stdout.split()
    assert theirs != ours
