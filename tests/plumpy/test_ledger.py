"""Leases: one worker at a time runs a process, in SQLite and in PostgreSQL."""

from __future__ import annotations

import contextlib
import glob
import os
import pwd
import shutil
import socket
import sqlite3
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import plumpy
from plumpy._ledger import Caller, Lease, LeaseLost, Ledger
from plumpy.persistence import SqlitePersister, _sql

PID = '"p"'
NEW = {
    "name": "p",
    "process_class": "module:Class",
    "queue": "q",
    "state": "created",
    "bundle": "{}",
    "seconds": 60.0,
}
EXPIRED = {**NEW, "seconds": -1.0}


def _postgres_binaries() -> str | None:
    for directory in (
        *sorted(glob.glob("/usr/lib/postgresql/*/bin"), reverse=True),
        os.path.dirname(shutil.which("initdb") or ""),
    ):
        if directory and os.path.exists(os.path.join(directory, "initdb")):
            return directory
    return None


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A PostgreSQL server of this run; skips where there is none (Debian: postgresql)."""
    pytest.importorskip("psycopg", reason="pip install 'loop-harness[postgres]'")
    binaries = _postgres_binaries()
    if binaries is None:
        pytest.skip("no PostgreSQL server here: apt-get install postgresql")
    place = Path(tmp_path_factory.mktemp("postgres"))
    run: list[str] = []
    if os.getuid() == 0:  # the server refuses to run as root
        try:
            owner = pwd.getpwnam("postgres")
        except KeyError:
            pytest.skip("root needs a user `postgres` to run the server as")
        os.chown(place, owner.pw_uid, owner.pw_gid)
        for parent in (place, *place.parents):
            if parent == Path(tempfile.gettempdir()):
                break
            os.chmod(parent, os.stat(parent).st_mode | 0o711)
        run = ["setpriv", f"--reuid={owner.pw_uid}", f"--regid={owner.pw_gid}", "--clear-groups"]
    data = place / "data"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": str(place)}
    subprocess.run(
        [*run, f"{binaries}/initdb", "-D", data, "-U", "test", "-A", "trust", "-N"],
        check=True,
        **quiet,
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = f"-p {port} -h 127.0.0.1 -k {place} -F"
    control = [*run, f"{binaries}/pg_ctl", "-D", data, "-w", "-l", place / "log"]
    subprocess.run([*control, "-o", options, "start"], check=True, **quiet)
    try:
        yield f"postgresql://test@127.0.0.1:{port}/postgres"
    finally:
        subprocess.run([*control, "-m", "immediate", "stop"], check=False, **quiet)


@pytest.fixture
def postgres_url(postgres_server: str) -> str:
    """The URL of an empty database."""
    import psycopg

    name = f"d{os.urandom(4).hex()}"
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")  # type: ignore[arg-type]
    return f"{postgres_server.rpartition('/')[0]}/{name}"


@pytest.fixture(params=["sqlite", "postgres"])
def persister(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    """A persister with a ledger."""
    if request.param == "sqlite":
        made: Any = SqlitePersister(tmp_path / "processes.db")
    else:
        url = request.getfixturevalue("postgres_url")
        from plumpy.postgres import PostgresPersister

        made = PostgresPersister(url)
    yield made
    made.close()


@pytest.fixture
def ledger(persister: Any) -> Ledger:
    return persister.ledger()


class TestLeases:
    def test_a_new_process_is_leased_to_who_enters_it(self, ledger):
        lease = ledger.open(PID, worker="a", caller=None, **NEW)
        assert lease == Lease(PID, "a", 1)
        run = ledger.find(PID)
        assert (run.name, run.state, run.active, run.worker) == ("p", "created", True, "a")

    def test_it_can_be_entered_once(self, ledger):
        assert ledger.open(PID, worker="a", caller=None, **NEW)
        assert ledger.open(PID, worker="b", caller=None, **NEW) is None
        assert ledger.find(PID).worker == "a"

    def test_nobody_gets_a_lease_that_has_not_ended(self, ledger):
        ledger.open(PID, worker="a", caller=None, **NEW)
        lease, run = ledger.claim(PID, "b", 60, None)
        assert lease is None
        assert run.worker == "a"
        assert ledger.adopt("q", "b", 60, 10) == []

    def test_a_lease_that_ended_is_taken_once_and_begins_a_new_term(self, ledger):
        ledger.open(PID, worker="a", caller=None, **EXPIRED)
        assert ledger.adopt("other", "b", 60, 10) == []
        assert ledger.adopt("q", "b", 60, 10) == [Lease(PID, "b", 2)]
        assert ledger.adopt("q", "c", 60, 10) == []
        assert ledger.claim(PID, "c", 60, None)[0] is None

    def test_who_lost_a_lease_can_write_nothing(self, persister, ledger):
        old = ledger.open(PID, worker="a", caller=None, **EXPIRED)
        (new,) = ledger.adopt("q", "b", 60, 1)
        for write in (
            lambda: ledger.save(old, "running", '{"by": "a"}'),
            lambda: ledger.finish(old, "finished", '{"by": "a"}', "{}"),
            lambda: ledger.record(old, "k", "v"),
        ):
            with pytest.raises(LeaseLost):
                write()
        ledger.release(old)
        assert persister._database.load(PID, "null") == "{}"
        ledger.save(new, "running", '{"by": "b"}')
        assert persister._database.load(PID, "null") == '{"by": "b"}'
        assert ledger.find(PID).worker == "b"

    def test_the_same_worker_in_a_later_term_is_another(self, ledger):
        old = ledger.open(PID, worker="a", caller=None, **EXPIRED)
        new, _ = ledger.claim(PID, "a", 60, None)
        with pytest.raises(LeaseLost):
            ledger.save(old, "running", "{}")
        ledger.save(new, "running", "{}")

    def test_a_worker_does_not_take_from_itself(self, ledger):
        """It may be late to renew, and still run it."""
        ledger.open(PID, worker="a", caller=None, **EXPIRED)
        assert ledger.adopt("q", "a", 60, 1) == []
        assert ledger.renew("a", 60) == {PID: 1}

    def test_renewing_keeps_leases_and_tells_which(self, ledger):
        ledger.open(PID, worker="a", caller=None, **EXPIRED)
        ledger.open('"other"', worker="b", caller=None, **EXPIRED)
        assert ledger.renew("a", 60) == {PID: 1}
        assert [lease.pid for lease in ledger.adopt("q", "c", 60, 10)] == ['"other"']

    def test_a_released_process_can_be_taken_at_once(self, ledger):
        lease = ledger.open(PID, worker="a", caller=None, **NEW)
        ledger.release(lease)
        assert ledger.adopt("q", "b", 60, 1) == [Lease(PID, "b", 2)]

    def test_a_worker_gives_back_all_that_it_has_and_nothing_else(self, ledger):
        ledger.open(PID, worker="a", caller=None, **NEW)
        ledger.open('"other"', worker="b", caller=None, **NEW)
        ledger.release_all("a")
        assert [lease.pid for lease in ledger.adopt("q", "c", 60, 10)] == [PID]

    def test_a_postponed_process_can_be_taken_later_only(self, ledger):
        lease = ledger.open(PID, worker="a", caller=None, **NEW)
        ledger.postpone(lease, 60)
        assert ledger.adopt("q", "b", 60, 1) == []

    def test_many_workers_at_once_share_without_overlap(self, persister, ledger):
        for number in range(40):
            ledger.open(f'"{number}"', worker="dead", caller=None, **EXPIRED)
        taken: list[Lease] = []

        def adopt(name: str) -> None:
            own = persister.ledger()
            while leases := own.adopt("q", name, 60, 3):
                taken.extend(leases)

        threads = [threading.Thread(target=adopt, args=(f"w{i}",)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(lease.pid for lease in taken) == sorted(f'"{n}"' for n in range(40))


class TestOutcomes:
    def test_an_ended_process_is_not_run_again(self, ledger):
        lease = ledger.open(PID, worker="a", caller=None, **NEW)
        ledger.finish(lease, "finished", None, "42")
        taken, run = ledger.claim(PID, "b", 60, None)
        assert taken is None
        assert (run.state, run.outcome, run.active) == ("finished", "42", False)
        with pytest.raises(LeaseLost):
            ledger.finish(lease, "killed", None, "43")

    def test_everyone_who_asked_is_to_be_told_once(self, ledger):
        first, second = Caller("r1", "c1"), Caller("r2", "c2")
        lease = ledger.open(PID, worker="a", caller=first, **NEW)
        ledger.claim(PID, "b", 60, second)
        ledger.claim(PID, "b", 60, second)
        assert ledger.finish(lease, "finished", None, "1") == (first, second)
        assert [run.pid for run in ledger.unanswered("q", -1)] == [PID]
        ledger.answered(PID)
        assert ledger.unanswered("q", -1) == []

    def test_an_effect_is_recorded_once(self, ledger):
        lease = ledger.open(PID, worker="a", caller=None, **EXPIRED)
        assert ledger.record(lease, "sent", '"x"') is True
        (again,) = ledger.adopt("q", "b", 60, 1)
        assert ledger.record(again, "sent", '"y"') is False
        assert ledger.recorded(PID) == {"sent": '"x"'}

    def test_a_process_that_is_only_created_waits_for_a_claim(self, ledger):
        assert ledger.open(PID, worker=None, caller=None, **NEW) is None
        assert ledger.adopt("q", "a", 60, 1) == []
        lease, _ = ledger.claim(PID, "a", 60, None)
        assert lease is not None
        assert ledger.find(PID).active

    def test_unknown_processes(self, ledger):
        assert ledger.find(PID) is None
        assert ledger.claim(PID, "a", 60, None) == (None, None)
        assert not ledger.enter(PID, name="p", process_class="c", queue="q", state="created")

    def test_who_looks_need_not_wait_for_who_writes(self, tmp_path, monkeypatch):
        SqlitePersister(tmp_path / "processes.db").ledger()
        monkeypatch.setattr(_sql, "BUSY_TIMEOUT", 0.1)
        connection = sqlite3.connect(tmp_path / "processes.db", isolation_level=None)
        with contextlib.closing(connection):
            connection.execute("BEGIN IMMEDIATE")
            assert SqlitePersister(tmp_path / "processes.db").ledger().all() == []

    def test_listing(self, ledger):
        lease = ledger.open(PID, worker="a", caller=None, **NEW)
        ledger.open('"2"', worker="a", caller=None, **NEW)
        ledger.finish(lease, "finished", None, "1")
        assert {run.pid for run in ledger.all()} == {PID, '"2"'}
        assert [run.pid for run in ledger.all(active=True)] == ['"2"']
        assert len(ledger.all(limit=1)) == 1
        assert ledger.counts() == {"created": 1, "finished": 1}
        assert len(ledger.find_by_name("p")) == 2


class Adds(plumpy.Process):
    """Has something to save."""

    @classmethod
    def define(cls, spec):
        super().define(spec)
        spec.input("a", default=1)


class TestPersister:
    """What every persister does, with the one in PostgreSQL."""

    def test_checkpoints_go_in_and_come_out(self, persister):
        process = Adds({"a": 5}, pid=7)
        persister.save_checkpoint(process)
        persister.save_checkpoint(process, "tag")
        loaded = persister.load_checkpoint(7).unbundle()
        assert (loaded.pid, loaded.inputs.a) == (7, 5)
        assert sorted(persister.get_process_checkpoints(7), key=str) == sorted(
            [(7, None), (7, "tag")], key=str
        )
        persister.delete_checkpoint(7, "tag")
        assert persister.get_checkpoints() == [(7, None)]
        persister.delete_process_checkpoints(7)
        with pytest.raises(KeyError):
            persister.load_checkpoint(7)

    def test_a_server_that_is_not_there_is_one_clear_error(self):
        pytest.importorskip("psycopg")
        from plumpy.postgres import PostgresPersister

        with pytest.raises(plumpy.PersistenceError, match="database failed"):
            PostgresPersister("postgresql://nobody@127.0.0.1:1/nothing")
