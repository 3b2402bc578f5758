"""Pickle files: their names, their safety, their format."""

import logging
import os
import pickle
import stat
import sys
import uuid

import pytest

import plumpy
from plumpy.exceptions import PersistenceError
from plumpy.persistence import Bundle, PersistedCheckpoint, PersistedPickle, PicklePersister


class Keeper(plumpy.Process):
    @classmethod
    def define(cls, spec):
        super().define(spec)
        spec.inputs.dynamic = True


class LoadsOnce:
    """Pickles, and cannot be unpickled."""

    def __init__(self, needed):
        self.needed = needed

    def __reduce__(self):
        return LoadsOnce, ()


class Bomb:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return open, (self.mark, "w")


@pytest.fixture
def directory(tmp_path):
    return tmp_path


@pytest.fixture
def persister(directory):
    return PicklePersister(str(directory))


@pytest.fixture(autouse=True)
async def in_a_loop():
    return


def write_old(directory, name, pid, tag=None, **inputs):
    """Write a file the way plumpy 0.26.1 does, under the name that it would choose."""
    process = Keeper(inputs=inputs, pid=pid)
    persisted = PersistedPickle(PersistedCheckpoint(pid, tag), Bundle(process))
    (directory / name).write_bytes(pickle.dumps(persisted))


@pytest.mark.parametrize(
    ("pid", "tag", "name"),
    [
        (7, None, "7.pickle"),
        (7, "tag", "7.tag.pickle"),
        (uuid.UUID(int=1), None, "00000000-0000-0000-0000-000000000001.pickle"),
        ("a_b-C", None, "a_b-C.pickle"),
        ("1.a", None, "1%2Ea.pickle"),
        ("a/../b", "%", "a%2F%2E%2E%2Fb.%25.pickle"),
        ("", "", "%.%.pickle"),
    ],
)
def test_names_of_files(pid, tag, name):
    assert PicklePersister.pickle_filename(pid, tag) == name


def test_a_file_holds_the_name_and_the_bundle(persister, directory):
    persister.save_checkpoint(Keeper(pid=7), "tag")
    persisted = PicklePersister.load_pickle(str(directory / "7.tag.pickle"))
    assert type(persisted) is PersistedPickle
    assert persisted.checkpoint == PersistedCheckpoint(7, "tag")
    assert type(persisted.bundle) is Bundle


def test_nothing_but_the_file_is_left_behind(persister, directory):
    persister.save_checkpoint(Keeper(pid=7))
    with pytest.raises(PersistenceError):
        persister.save_checkpoint(Keeper(inputs={"a": lambda: 1}, pid=7))
    assert os.listdir(directory) == ["7.pickle"]


def test_a_write_that_fails_leaves_the_last_checkpoint_and_no_other_file(
    persister, directory, monkeypatch
):
    persister.save_checkpoint(Keeper(inputs={"n": 1}, pid=7))

    def fails(*args):
        raise OSError("disk full")

    for step in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, step, fails)
            with pytest.raises(OSError, match="disk full"):
                persister.save_checkpoint(Keeper(inputs={"n": 2}, pid=7))
        assert os.listdir(directory) == ["7.pickle"]
        assert persister.load_checkpoint(7).unbundle().inputs.n == 1


def test_a_value_that_could_not_be_unpickled_is_refused_when_it_is_saved(persister):
    with pytest.raises(PersistenceError, match=r"cannot save `inputs\.a\.b`.*LoadsOnce"):
        persister.save_checkpoint(Keeper(inputs={"a": {"b": LoadsOnce(1)}}, pid=7))


@pytest.mark.parametrize("damage", [b"", b"\x80", b"no pickle at all.", b"\x80\x04N."])
def test_a_damaged_file_is_left_out_of_listings_with_a_warning(
    persister, directory, caplog, damage
):
    persister.save_checkpoint(Keeper(pid=7))
    (directory / "8.pickle").write_bytes(damage)
    with caplog.at_level(logging.WARNING, "plumpy"):
        assert persister.get_checkpoints() == [(7, None)]
        assert persister.get_process_checkpoints(8) == []
    assert "8.pickle is no checkpoint or damaged" in caplog.text
    with pytest.raises(PersistenceError, match=r"8\.pickle"):
        persister.load_checkpoint(8)


def test_a_file_that_was_cut_off_is_damaged(persister, directory):
    persister.save_checkpoint(Keeper(pid=7))
    data = (directory / "7.pickle").read_bytes()
    (directory / "7.pickle").write_bytes(data[:-10])
    assert persister.get_checkpoints() == []


def test_listing_runs_nothing_from_files(persister, directory, tmp_path):
    mark = tmp_path / "mark"
    bombs = {
        "1.pickle": Bomb(str(mark)),
        "2.pickle": PersistedPickle(PersistedCheckpoint(2, None), Bomb(str(mark))),
        "3.pickle": PersistedPickle(PersistedCheckpoint(Bomb(str(mark)), None), {}),
        "4.pickle": (Bomb(str(mark)), PersistedPickle(PersistedCheckpoint(4, None), {})),
    }
    for name, bomb in bombs.items():
        (directory / name).write_bytes(pickle.dumps(bomb))
    assert persister.get_checkpoints() == [(2, None)]
    persister.get_process_checkpoints(1)
    persister.delete_checkpoint(1)
    persister.delete_process_checkpoints(2)
    assert not mark.exists()


def test_files_of_0_26_1_are_found_under_their_old_names(persister, directory):
    write_old(directory, "1.a.pickle", "1.a", n=1)
    write_old(directory, "1.a.b.pickle", "1", "a.b", n=2)
    assert persister.load_checkpoint("1.a").unbundle().inputs.n == 1
    assert persister.load_checkpoint("1", "a.b").unbundle().inputs.n == 2
    with pytest.raises(FileNotFoundError):
        persister.load_checkpoint("1", "a")
    assert persister.get_process_checkpoints("1.a") == [("1.a", None)]
    assert persister.get_process_checkpoints("1") == [("1", "a.b")]
    persister.delete_checkpoint("1", "a")
    assert len(persister.get_checkpoints()) == 2
    persister.delete_checkpoint("1.a")
    persister.delete_process_checkpoints("1")
    assert os.listdir(directory) == []


def test_a_file_of_0_26_1_is_not_overwritten_by_another_checkpoint(persister, directory):
    write_old(directory, "1.a.pickle", "1.a", n=1)
    persister.save_checkpoint(Keeper(inputs={"n": 2}, pid=1), "a")
    assert persister.load_checkpoint("1.a").unbundle().inputs.n == 1
    assert persister.load_checkpoint(1, "a").unbundle().inputs.n == 2


def test_a_checkpoint_saved_anew_replaces_that_of_0_26_1(persister, directory):
    write_old(directory, "1.a.pickle", "1.a", n=1)
    persister.save_checkpoint(Keeper(inputs={"n": 2}, pid="1.a"))
    assert persister.load_checkpoint("1.a").unbundle().inputs.n == 2
    assert persister.get_process_checkpoints("1.a") == [("1.a", None)]


def test_numbers_and_their_text_share_a_file_as_before(persister):
    persister.save_checkpoint(Keeper(pid=7))
    assert persister.load_checkpoint("7").unbundle().pid == 7
    assert persister.get_process_checkpoints("7") == []


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="needs files that are read-only")
def test_checkpoints_can_be_loaded_from_read_only_storage(persister, directory):
    persister.save_checkpoint(Keeper(pid=7))
    (directory / "7.pickle").chmod(stat.S_IRUSR)
    assert persister.load_checkpoint(7).unbundle().pid == 7


def test_files_are_opened_for_reading_only(persister, monkeypatch):
    persister.save_checkpoint(Keeper(pid=7))
    modes = []
    monkeypatch.setattr(
        sys.modules["plumpy.persistence._pickle"],
        "open",
        lambda path, mode: modes.append(mode) or open(path, mode),  # noqa: SIM115
        raising=False,
    )
    persister.load_checkpoint(7)
    assert modes == ["rb"]


def test_one_process_is_listed_without_reading_the_files_of_others(persister, monkeypatch):
    for pid in range(20):
        persister.save_checkpoint(Keeper(pid=pid))
    read = []
    module = sys.modules["plumpy.persistence._pickle"]
    original = module._read_header
    monkeypatch.setattr(module, "_read_header", lambda path: read.append(path) or original(path))
    assert persister.get_process_checkpoints(3) == [(3, None)]
    assert [os.path.basename(path) for path in read] == ["3.pickle"]
