"""What every persister does."""

import asyncio
import sys
import threading
import uuid
from typing import Any, ClassVar

import pytest

import plumpy
from plumpy.exceptions import PersistenceError
from plumpy.persistence import (
    InMemoryPersister,
    PersistedCheckpoint,
    PicklePersister,
    SqlitePersister,
)


class Keeper(plumpy.Process):
    @classmethod
    def define(cls, spec):
        super().define(spec)
        spec.inputs.dynamic = True

    async def run(self):
        return plumpy.Wait(self.after)

    def after(self, value=None):
        return value


class Chain(plumpy.WorkChain):
    @classmethod
    def define(cls, spec):
        super().define(spec)
        spec.inputs.dynamic = True
        spec.outline(cls.step)

    def step(self):
        pass


class WithLock:
    def __init__(self):
        self.inner = {"lock": threading.Lock()}


@pytest.fixture(params=["memory", "pickle", "sqlite"])
def persister(request, tmp_path):
    if request.param == "memory":
        yield InMemoryPersister()
    elif request.param == "pickle":
        yield PicklePersister(str(tmp_path / "deep" / "pickles"))
    else:
        persister = SqlitePersister(tmp_path / "deep" / "checkpoints.sqlite")
        yield persister
        persister.close()


@pytest.fixture(autouse=True)
async def in_a_loop():
    return


PIDS = [7, "7a", "a/b", "../escaped", "1.a", ".", "", "ü\n%", uuid.UUID(int=5), -1]


@pytest.mark.parametrize("pid", PIDS, ids=repr)
@pytest.mark.parametrize("tag", [None, "tag", "a.b", "/", ""])
def test_a_checkpoint_is_found_by_pid_and_tag(persister, pid, tag):
    persister.save_checkpoint(Keeper(inputs={"a": [1]}, pid=pid), tag)
    bundle = persister.load_checkpoint(pid, tag)
    assert type(bundle) is plumpy.Bundle
    loaded = bundle.unbundle()
    assert (type(loaded), loaded.pid, loaded.inputs.a) == (Keeper, pid, [1])
    assert persister.get_checkpoints() == [PersistedCheckpoint(pid, tag)]
    assert persister.get_process_checkpoints(pid) == [PersistedCheckpoint(pid, tag)]


def test_checkpoints_do_not_get_in_each_others_way(persister):
    names = [(1, None), (1, "a"), ("1.a", None), ("1", "a.b"), ("1.a", "b"), ("1%2Ea", None)]
    for number, (pid, tag) in enumerate(names):
        persister.save_checkpoint(Keeper(inputs={"number": number}, pid=pid), tag)
    for number, (pid, tag) in enumerate(names):
        assert persister.load_checkpoint(pid, tag).unbundle().inputs.number == number
    assert sorted(persister.get_checkpoints(), key=repr) == sorted(
        (PersistedCheckpoint(*name) for name in names), key=repr
    )
    assert set(persister.get_process_checkpoints(1)) == {(1, None), (1, "a")}
    assert set(persister.get_process_checkpoints("1.a")) == {("1.a", None), ("1.a", "b")}


def test_saving_again_replaces(persister):
    for number in range(3):
        persister.save_checkpoint(Keeper(inputs={"number": number}, pid=1))
    assert persister.load_checkpoint(1).unbundle().inputs.number == 2
    assert len(persister.get_checkpoints()) == 1


def test_a_missing_checkpoint_is_a_lookup_error(persister):
    persister.save_checkpoint(Keeper(pid=1), "tag")
    for pid, tag in [(1, None), (1, "other"), (2, None)]:
        with pytest.raises((KeyError, FileNotFoundError)):
            persister.load_checkpoint(pid, tag)


def test_deleting_takes_what_is_there_and_never_fails(persister):
    for pid in (1, 2):
        for tag in (None, "a", "b"):
            persister.save_checkpoint(Keeper(pid=pid), tag)
    persister.delete_checkpoint(1, "a")
    persister.delete_checkpoint(1, "a")
    persister.delete_checkpoint(3)
    assert set(persister.get_process_checkpoints(1)) == {(1, None), (1, "b")}
    persister.delete_process_checkpoints(1)
    persister.delete_process_checkpoints(1)
    assert persister.get_process_checkpoints(1) == []
    assert len(persister.get_checkpoints()) == 3


def test_process_and_checkpoint_share_nothing(persister):
    process = Keeper(inputs={"a": {"b": [1]}}, pid=1)
    persister.save_checkpoint(process)
    process.inputs.a["b"].append(2)
    first = persister.load_checkpoint(1)
    loaded = first.unbundle()
    loaded.inputs.a["b"].append(3)
    assert persister.load_checkpoint(1).unbundle().inputs.a == {"b": [1]}


def test_the_context_of_a_work_chain_is_not_shared_either(persister):
    chain = Chain(pid=1)
    chain.ctx.list = [1]
    persister.save_checkpoint(chain)
    chain.ctx.list.append(2)
    loaded = persister.load_checkpoint(1).unbundle()
    loaded.ctx.list.append(3)
    assert persister.load_checkpoint(1).unbundle().ctx.list == [1]


def test_a_value_that_cannot_be_saved_is_named_and_the_last_checkpoint_stays(persister):
    chain = Chain(pid=1)
    chain.ctx.structure = {"parser": 1}
    persister.save_checkpoint(chain)
    chain.ctx.structure["parser"] = WithLock()
    with pytest.raises(PersistenceError, match=r"cannot save `ctx\.structure\.parser"):
        persister.save_checkpoint(chain)
    assert persister.load_checkpoint(1).unbundle().ctx.structure == {"parser": 1}


async def test_a_process_goes_on_from_its_checkpoint(persister):
    process = Keeper(pid=1)
    task = asyncio.ensure_future(process.step_until_terminated())
    while process.state != plumpy.ProcessState.WAITING:
        await asyncio.sleep(0)
    persister.save_checkpoint(process)
    process.kill()
    await task
    loaded = persister.load_checkpoint(1).unbundle()
    task = asyncio.ensure_future(loaded.step_until_terminated())
    loaded.resume(5)
    await task
    assert loaded.result() == 5


@pytest.mark.parametrize("end", ["finish", "except", "kill", "cancel"])
async def test_a_process_that_has_ended_can_be_saved_and_loaded(persister, end):
    process = Keeper(pid=1)
    if end == "finish":
        task = asyncio.ensure_future(process.step_until_terminated())
        while process.state != plumpy.ProcessState.WAITING:
            await asyncio.sleep(0)
        process.resume([4])
        await task
    elif end == "except":
        process.fail(ValueError("v"), None)
    else:
        process.kill("enough")
    persister.save_checkpoint(process)
    loaded = persister.load_checkpoint(1).unbundle()
    assert loaded.state == process.state
    assert loaded.has_terminated()
    if end == "finish":
        assert loaded.result() == [4]
    elif end == "except":
        assert repr(loaded.exception()) == "ValueError('v')"
    else:
        assert loaded.killed_msg() == process.killed_msg()
    if process.future().exception() is not None:
        assert repr(loaded.future().exception()) == repr(process.future().exception())


class TestMemoryIsPrivate:
    """What a checkpoint in memory holds is shared with nothing, however it was made."""

    class Shared(plumpy.Process):
        kept: ClassVar[dict[str, Any]] = {"list": [1]}

        def save_instance_state(self, out_state, save_context):
            super().save_instance_state(out_state, save_context)
            out_state["kept"] = self.kept
            plumpy.Savable.set_custom_meta(out_state, "note", self.kept)

        def encode_input_args(self, inputs):
            return self.kept

    class Waits(plumpy.WorkChain):
        @classmethod
        def define(cls, spec):
            super().define(spec)
            spec.outline(cls.begin)

        def begin(self):
            self.ctx.list = [1]
            self.ctx.same = self.ctx.list
            return plumpy.ToContext(done=asyncio.get_running_loop().create_future())

    @pytest.fixture(autouse=True)
    def importable(self, monkeypatch):
        for cls in (self.Shared, self.Waits):
            monkeypatch.setattr(sys.modules[__name__], cls.__name__, cls, raising=False)

    def test_what_a_class_of_the_users_own_adds_is_copied(self):
        persister = InMemoryPersister()
        process = self.Shared(inputs={}, pid=1)
        persister.save_checkpoint(process)
        self.Shared.kept["list"].append(2)
        try:
            for _ in range(2):
                bundle = persister.load_checkpoint(1)
                assert bundle["kept"] == {"list": [1]}
                assert plumpy.Savable.get_custom_meta(bundle, "note") == {"list": [1]}
                assert bundle["INPUTS_RAW"] == {"list": [1]}
                bundle["kept"]["list"].append(3)
                bundle["!!meta"]["user"]["note"]["list"].append(3)
                bundle["INPUTS_RAW"]["list"].append(3)
        finally:
            self.Shared.kept["list"][:] = [1]

    async def test_the_context_and_what_is_waited_for_are_copied(self):
        persister = InMemoryPersister()
        process = self.Waits(pid=1)
        while process.state != plumpy.ProcessState.WAITING:
            await process.step()
        persister.save_checkpoint(process)
        process.ctx.list.append(2)
        for _ in range(2):
            bundle = persister.load_checkpoint(1)
            context = bundle["_context"]
            assert context["list"] == [1]
            assert context["same"] is context["list"]
            assert [entry["names"] for entry in bundle["_state"]["data"]["entries"]] == [["done"]]
            context["list"].append(3)
            bundle["_state"]["data"]["entries"][0]["names"].append("added")
            bundle["!!meta"]["types"]["added"] = True
            bundle["_future"]["added"] = True
            bundle["_event_helper"]["!!meta"]["added"] = True
            bundle["stepper_state"]["!!meta"]["added"] = True
        assert "added" not in str(persister.load_checkpoint(1))
        process.kill()
