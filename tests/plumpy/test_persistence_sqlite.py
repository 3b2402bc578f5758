"""The database file: what it survives, and who may use it at once."""

import concurrent.futures
import gc
import json
import multiprocessing
import os
import random
import select
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import uuid

import pytest

import plumpy
from plumpy.exceptions import PersistenceError
from plumpy.persistence import SqlitePersister


class Counter(plumpy.Process):
    @classmethod
    def define(cls, spec):
        super().define(spec)
        spec.inputs.dynamic = True


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "checkpoints.sqlite")


@pytest.fixture
def persister(path):
    persister = SqlitePersister(path)
    yield persister
    persister.close()


@pytest.fixture(autouse=True)
async def in_a_loop():
    return


def test_checkpoints_are_there_in_the_next_run(path):
    first = SqlitePersister(path)
    first.save_checkpoint(Counter(inputs={"n": 1}, pid=1))
    first.close()
    second = SqlitePersister(path)
    assert second.load_checkpoint(1).unbundle().inputs.n == 1
    second.close()


def test_it_can_be_used_after_close(persister):
    persister.save_checkpoint(Counter(pid=1))
    persister.close()
    persister.close()
    assert persister.get_checkpoints() == [(1, None)]


def test_numbers_text_and_uuids_are_different_pids(persister):
    number = uuid.UUID(int=7)
    for n, pid in enumerate([7, "7", number, str(number), (7, "7")]):
        persister.save_checkpoint(Counter(inputs={"n": n}, pid=pid))
    for n, pid in enumerate([7, "7", number, str(number), (7, "7")]):
        assert persister.load_checkpoint(pid).unbundle().inputs.n == n
        assert persister.get_process_checkpoints(pid) == [(pid, None)]


def test_writes_reach_the_disk_and_do_not_block_readers(path, persister):
    connection = persister._database._connected()
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)


def test_look_ups_use_the_index(persister):
    from plumpy.persistence import _sql

    connection = persister._database._connected()
    for statement, count in [(_sql.LOAD, 2), (_sql.NAMES_OF, 1), (_sql.DELETE_ALL_OF, 1)]:
        plan = connection.execute(f"EXPLAIN QUERY PLAN {statement}", ["x"] * count).fetchall()
        assert "SEARCH checkpoints USING PRIMARY KEY" in plan[0][3]


def test_nothing_in_the_file_is_a_pickle(path, persister):
    persister.save_checkpoint(Counter(inputs={"a": (1, {2})}, pid=1))
    connection = sqlite3.connect(path)
    ((text,),) = connection.execute("SELECT bundle FROM checkpoints").fetchall()
    connection.close()
    assert json.loads(text)["INPUTS_RAW"] == {"$frozendict": {"a": {"$tuple": [1, {"$set": [2]}]}}}


def test_a_file_that_is_no_database_is_refused(tmp_path):
    (tmp_path / "x").write_bytes(b"something else" * 100)
    with pytest.raises(PersistenceError, match=r"cannot open .*x as a database of checkpoints"):
        SqlitePersister(tmp_path / "x")


def test_a_database_of_a_later_release_is_refused(path):
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version=99")
    connection.close()
    with pytest.raises(PersistenceError, match="format 99, this release reads up to 1"):
        SqlitePersister(path)


def test_a_class_that_is_gone_is_named_when_a_checkpoint_is_loaded(path, persister):
    persister.save_checkpoint(Counter(pid=1))
    persister.save_checkpoint(Counter(pid=2))
    connection = sqlite3.connect(path)
    connection.execute(
        "UPDATE checkpoints SET bundle = replace(bundle, ':Counter', ':Gone') WHERE pid = '1'"
    )
    connection.commit()
    connection.close()
    with pytest.raises(ValueError, match="Gone"):
        persister.load_checkpoint(1).unbundle()
    assert persister.load_checkpoint(2).unbundle().pid == 2


def test_a_database_in_memory(persister):
    memory = SqlitePersister(":memory:")
    memory.save_checkpoint(Counter(pid=1))
    assert memory.get_checkpoints() == [(1, None)]


def test_threads_can_share_a_persister(persister):
    threads = 8
    barrier = threading.Barrier(threads)
    processes = [Counter(inputs={"n": n}, pid=n) for n in range(threads)]

    def work(n):
        barrier.wait()
        for round_ in range(10):
            persister.save_checkpoint(processes[n], str(round_))
        return len(persister.get_process_checkpoints(n))

    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        assert list(pool.map(work, range(threads))) == [10] * threads
    assert len(persister.get_checkpoints()) == 10 * threads


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_can_use_a_persister_of_its_parent(persister):
    process = Counter(pid=1)
    persister.save_checkpoint(process)
    child = multiprocessing.get_context("fork").Process(
        target=persister.save_checkpoint, args=(process, "child")
    )
    child.start()
    child.join(30)
    assert child.exitcode == 0
    persister.save_checkpoint(process, "parent")
    assert [tag for _, tag in persister.get_checkpoints()] == ["child", "parent", None]


WRITER = textwrap.dedent(
    """
    import asyncio, sys
    import plumpy
    from plumpy.persistence import SqlitePersister

    path, name, start, stop = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])

    class Counter(plumpy.Process):
        @classmethod
        def define(cls, spec):
            super().define(spec)
            spec.inputs.dynamic = True

    async def main():
        persister = SqlitePersister(path)
        for n in range(start, stop):
            process = Counter(inputs={"n": n, "filling": [n] * 2000}, pid=name)
            persister.save_checkpoint(process)
            print(n, flush=True)

    asyncio.run(main())
    """
)


def written(bundle):
    """Return the number in a checkpoint of the writer, which is in it 2001 times."""
    inputs = bundle["INPUTS_RAW"]
    assert inputs["filling"] == [inputs["n"]] * 2000
    return inputs["n"]


def test_several_operating_system_processes_can_write_at_once(path, persister):
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, path, name, "0", "30"], stdout=subprocess.PIPE
        )
        for name in "abc"
    ]
    for writer in writers:
        assert len(writer.communicate(timeout=60)[0].split()) == 30
        assert writer.returncode == 0
    for name in "abc":
        assert written(persister.load_checkpoint(name)) == 29


FORKING_WRITER = textwrap.dedent(
    """
    import os, sys

    # Forks one writer after the other, so that 200 need no 200 starts of an interpreter.
    import plumpy, plumpy.persistence
    import asyncio

    path = sys.argv[1]

    class Counter(plumpy.Process):
        @classmethod
        def define(cls, spec):
            super().define(spec)
            spec.inputs.dynamic = True

    async def write(start):
        persister = plumpy.persistence.SqlitePersister(path)
        n = start
        while True:
            process = Counter(inputs={"n": n, "filling": [n] * 2000}, pid="killed")
            persister.save_checkpoint(process)
            os.write(1, b"%d\\n" % n)
            n += 1

    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            asyncio.run(write(int(line)))
        os.write(2, b"%d\\n" % child)
        os.waitpid(child, 0)
        os.write(1, b"dead\\n")
    """
)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_the_last_complete_checkpoint_survives_two_hundred_kills(path, persister):
    """A writer is killed (SIGKILL) at a random moment, 200 times. Whatever it had reported as
    saved is there, or the next one. A torn write would be seen as text that is no JSON, or as a
    filling that does not match; each kill hits the writing of about 20 kB with a chance of more
    than a third, so 200 of them miss it every time with less than 1e-30."""
    chooser = random.Random(5)
    parent = subprocess.Popen(
        [sys.executable, "-c", FORKING_WRITER, path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        start = 0
        for _ in range(200):
            parent.stdin.write(b"%d\n" % start)
            parent.stdin.flush()
            child = int(parent.stderr.readline())
            lines = [parent.stdout.readline()]  # it has begun to write
            select.select([], [], [], chooser.uniform(0, 0.006))
            os.kill(child, signal.SIGKILL)
            while (line := parent.stdout.readline()) != b"dead\n":
                lines.append(line)
            reported = int(lines[-1])
            last = written(persister.load_checkpoint("killed"))
            assert last in (reported, reported + 1)
            start = last + 1
    finally:
        parent.stdin.close()
        parent.kill()
        parent.wait()
        parent.stdout.close()
        parent.stderr.close()
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


def test_a_persister_that_nobody_closes_closes_its_file(path, recwarn):
    persister = SqlitePersister(path)
    persister.save_checkpoint(Counter(pid=1))
    del persister
    gc.collect()
    assert not [warning for warning in recwarn if warning.category is ResourceWarning]
    assert not os.path.exists(path + "-wal")  # what the last one to close removes
