"""Weaknesses of plumpy 0.26.1 in specifications, work chains and persistence, each by its id.

Every test here was run once with the released 0.26.1, in an environment of its own; what it does
there is the last sentence of its docstring.
"""

import asyncio
import contextlib
import os
import pickle
import sys
import threading
import types
import warnings

import pytest

import plumpy
from plumpy import ProcessState, ToContext
from plumpy.exceptions import PersistenceError
from plumpy.persistence import Bundle, LoadSaveContext, Savable, SavableFuture, auto_persist
from plumpy.ports import InputPort, PortNamespace

WAIT = 10  # seconds, for what hangs in the released package


class Simple(plumpy.Process):
    @classmethod
    def define(cls, spec):
        super().define(spec)
        spec.inputs.dynamic = True
        spec.outputs.dynamic = True

    async def run(self):
        return plumpy.Wait(self.after)

    def after(self, value=None):
        return value


class Chain(plumpy.WorkChain):
    @classmethod
    def define(cls, spec):
        super().define(spec)
        spec.inputs.dynamic = True
        spec.outputs.dynamic = True
        spec.outline(cls.first, cls.last)

    def first(self):
        return self.inputs.first(self) if "first" in self.inputs else None

    def last(self):
        return self.inputs.last(self) if "last" in self.inputs else None


class Waiter(plumpy.WorkChain):
    """Waits for a child and for a future, and has nothing in its inputs."""

    @classmethod
    def define(cls, spec):
        super().define(spec)
        spec.outline(cls.first, cls.last)

    def first(self):
        self.made = self.loop.create_future()
        return ToContext(child=self.launch(Simple), future=self.made)

    def last(self):
        pass


class CodedError(Exception):
    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


class LockedError(Exception):
    def __init__(self):
        super().__init__("locked")
        self.lock = threading.Lock()


class PrefixLoader(plumpy.DefaultObjectLoader):
    def identify_object(self, obj):
        return "prefix-" + super().identify_object(obj)

    def load_object(self, identifier):
        return super().load_object(identifier.replace("prefix-", ""))


@auto_persist("value")
class Thing(Savable):
    def __init__(self, value):
        self.value = value


async def until(process, state):
    task = asyncio.ensure_future(process.step_until_terminated())
    while process.state != state:
        await asyncio.sleep(0)
    return task


async def run(process):
    task = asyncio.ensure_future(process.step_until_terminated())
    done, _ = await asyncio.wait([task], timeout=WAIT)
    assert done, f"{process} hangs"
    task.result()
    return process


@pytest.fixture
def mark(tmp_path):
    return tmp_path / "mark"


@pytest.fixture
def persister(tmp_path):
    return plumpy.PicklePersister(str(tmp_path / "pickles"))


async def test_s1_a_saved_exception_runs_nothing(mark):
    """0.26.1 loads it with the unsafe loader of PyYAML, and the file is there."""
    process = Simple()
    process.fail(ValueError("v"), None)
    state = Bundle(process)["_state"]
    state["ex_value"] = f"!!python/object/apply:os.system ['touch {mark}']"
    process.recreate_state(state)
    assert not mark.exists()


async def test_s2_listing_checkpoints_runs_nothing(persister, tmp_path, mark):
    """0.26.1 unpickles every file, and the mark is there."""

    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(mark),)

    (tmp_path / "pickles" / "1.pickle").write_bytes(pickle.dumps(Bomb()))
    for listing in (persister.get_checkpoints, lambda: persister.get_process_checkpoints(1)):
        with contextlib.suppress(Exception):
            listing()
    assert not mark.exists()


async def test_s4_a_saved_name_of_a_function_leads_to_a_method_of_the_process_only(mark):
    """0.26.1 resolves the dotted name, and the file is there."""
    process = Simple()
    await process.step()
    state = Bundle(process)["_state"]
    command = plumpy.Continue(process.after).save()
    command["continue_fn"] = "os.makedirs"
    command["args"] = (str(mark),)
    state["command"] = command
    bundle = Bundle(process)
    bundle["_state"] = state
    with pytest.raises((ValueError, AttributeError)):
        await bundle.unbundle().step_until_terminated()
    assert not mark.exists()


async def test_s5_no_pid_or_tag_leads_out_of_the_folder(persister, tmp_path):
    """0.26.1 writes beside the folder."""
    persister.save_checkpoint(Simple(pid="../escaped"))
    persister.save_checkpoint(Simple(pid=1), "/../../escaped")
    assert os.listdir(tmp_path) == ["pickles"]
    assert persister.load_checkpoint("../escaped").unbundle().pid == "../escaped"


def test_s6_an_identifier_does_not_import_an_unrelated_module(tmp_path, mark, monkeypatch):
    """0.26.1 imports the module to look for the name, and the file is there."""
    (tmp_path / "sidefx.py").write_text(f"open({str(mark)!r}, 'w').close()\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match="nothing"):
        plumpy.get_object_loader().load_object("sidefx:nothing")
    assert not mark.exists()
    assert "sidefx" not in sys.modules


async def test_p1_a_value_that_cannot_be_saved_leaves_the_last_checkpoint(persister):
    """0.26.1 has truncated the file before it fails."""
    chain = Chain(pid=1)
    chain.ctx.value = 1
    persister.save_checkpoint(chain)
    chain.ctx.value = threading.Lock()
    with pytest.raises((TypeError, PersistenceError)):
        persister.save_checkpoint(chain)
    assert persister.load_checkpoint(1).unbundle().ctx.value == 1


@pytest.mark.parametrize("damage", [b"", b"damage"])
async def test_p2_a_corrupt_file_does_not_hide_the_others(persister, tmp_path, damage):
    """0.26.1 raises from every listing."""
    persister.save_checkpoint(Simple(pid=1))
    (tmp_path / "pickles" / "2.pickle").write_bytes(damage)
    assert persister.get_checkpoints() == [(1, None)]
    assert persister.get_process_checkpoints(1) == [(1, None)]


async def test_p3_no_two_checkpoints_share_a_file(persister):
    """0.26.1 overwrites the first with the second."""
    persister.save_checkpoint(Simple(inputs={"n": 1}, pid="1.a"))
    persister.save_checkpoint(Simple(inputs={"n": 2}, pid=1), "a")
    assert persister.load_checkpoint("1.a").unbundle().inputs.n == 1
    assert persister.load_checkpoint(1, "a").unbundle().inputs.n == 2


async def test_p4_the_uuid_is_saved():
    """0.26.1 raises AttributeError for the uuid of what was loaded."""
    process = Simple(pid=1)
    assert Bundle(process).unbundle().uuid == process.uuid


async def test_p5_the_loader_that_a_state_names_loads_it():
    """0.26.1 looks for the name in the wrong place and uses the global loader, which fails."""
    bundle = Bundle(Thing(Thing(1)), LoadSaveContext(loader=PrefixLoader()))
    assert bundle.unbundle().value.value == 1


async def test_p6_a_cancelled_future_can_be_saved():
    """0.26.1 raises CancelledError."""
    future = SavableFuture(loop=asyncio.get_running_loop())
    future.cancel()
    assert Savable.load(future.save()).cancelled()


async def test_p6_an_unknown_state_of_a_future_is_named():
    """0.26.1 raises UnboundLocalError."""
    state = SavableFuture(loop=asyncio.get_running_loop()).save()
    state["_state"] = "BROKEN"
    with pytest.raises(PersistenceError, match="BROKEN"):
        Savable.load(state)


@pytest.mark.parametrize("exception", [CodedError(3, "coded"), LockedError()], ids=repr)
async def test_p7_p8_a_process_with_any_exception_can_be_saved_and_loaded(persister, exception):
    """0.26.1 raises TypeError: when it loads what has its own constructor, when it saves what
    holds a lock."""
    process = Simple(pid=1)
    process.fail(exception, None)
    process.future().exception()
    persister.save_checkpoint(process)
    loaded = persister.load_checkpoint(1).unbundle()
    assert type(loaded.exception()) is type(exception)
    assert str(loaded.exception()) == str(exception)


async def test_p9_one_process_is_listed_without_unpickling_the_others(persister, monkeypatch):
    """0.26.1 unpickles all files."""
    for pid in range(10):
        persister.save_checkpoint(Simple(pid=pid))
    loaded = []
    original = pickle.load
    monkeypatch.setattr(pickle, "load", lambda *args: loaded.append(args) or original(*args))
    assert persister.get_process_checkpoints(3) == [(3, None)]
    assert len(loaded) <= 1


async def test_p10_a_loaded_process_shares_nothing_with_the_checkpoint_in_memory():
    """0.26.1 hands out the stored context itself: the second load sees what the first did."""
    persister = plumpy.InMemoryPersister()
    chain = Chain(pid=1)
    chain.ctx.list = []
    persister.save_checkpoint(chain)
    persister.load_checkpoint(1).unbundle().ctx.list.append(1)
    assert persister.load_checkpoint(1).unbundle().ctx.list == []


async def test_p11_a_work_chain_that_waits_can_be_saved():
    """0.26.1 raises TypeError: cannot pickle '_asyncio.Future' object."""
    chain = Waiter()
    task = await until(chain, ProcessState.WAITING)
    bundle = Bundle(chain)
    chain.kill()
    await task
    assert bundle.unbundle().state == ProcessState.WAITING


def test_a_pickle_file_is_opened_for_reading_only(persister, tmp_path, monkeypatch):
    """0.26.1 opens it with mode `r+b`, which read-only storage refuses."""
    path = tmp_path / "x.pickle"
    path.write_bytes(pickle.dumps(plumpy.persistence.PersistedPickle((1, None), {})))
    modes = []

    def spy(file, mode="r", *args, **kwargs):
        modes.append(mode)
        return open(file, mode, *args, **kwargs)

    module = sys.modules[plumpy.PicklePersister.load_pickle.__module__]
    monkeypatch.setattr(module, "open", spy, raising=False)
    persister.load_pickle(str(path))
    assert modes == ["rb"]


async def test_a_bundle_says_which_format_it_has():
    """0.26.1 has no such field."""
    assert Bundle(Simple())["!!meta"]["version"] == 1


def test_a_load_context_can_be_iterated():
    """0.26.1 raises AttributeError from its own code."""
    assert list(LoadSaveContext(a=1, b=2)) == ["a", "b"]


@pytest.mark.parametrize(
    "default", [[1], {"a": [1]}, {1}, ([1],)], ids=["list", "dict", "set", "tuple"]
)
def test_t1_no_two_processes_share_a_default(default):
    """0.26.1 gives the very object to all."""
    namespace = PortNamespace("n")
    namespace["a"] = InputPort("a", default=default)
    namespace["s"] = PortNamespace("s", default={"b": default})
    first, second = namespace.pre_process({}), namespace.pre_process({})
    assert first == second == {"a": default, "s": {"b": default}}
    assert first["a"] is not second["a"] or first["a"][0] is not second["a"][0]
    assert first["s"]["b"] is not second["s"]["b"] or first["s"]["b"][0] is not second["s"]["b"][0]


async def test_t2_a_change_of_a_sealed_specification_gives_a_warning():
    """0.26.1 changes it for all processes without a word."""

    class Sealed(Simple):
        @classmethod
        def define(cls, spec):
            super().define(spec)
            spec.input("a", required=False)

    Sealed()
    spec = Sealed.spec()
    for change in (
        lambda: setattr(spec.inputs, "dynamic", False),
        lambda: setattr(spec.inputs["a"], "required", True),
        lambda: spec.inputs.__setitem__("b", InputPort("b")),
        lambda: spec.expose_inputs(Simple),
    ):
        with pytest.warns(UserWarning, match="is sealed"):
            change()
    assert "b" in spec.inputs


async def test_t3_an_asynchronous_step_is_awaited():
    """0.26.1 ends the chain with the coroutine as its result."""

    async def first(chain):
        await asyncio.sleep(0)
        chain.ctx.first = True

    async def last(chain):
        await asyncio.sleep(0)
        return chain.ctx.first

    chain = await run(Chain(inputs={"first": first, "last": last}))
    assert chain.result() is True


async def test_t4_what_the_last_step_waits_for_is_waited_for():
    """0.26.1 ends the chain with the dictionary of pending futures as its result."""
    future = asyncio.get_running_loop().create_future()
    chain = Chain(inputs={"last": lambda chain: ToContext(value=future)})
    asyncio.get_running_loop().call_soon(future.set_result, 5)
    await run(chain)
    assert (chain.result(), chain.ctx.value) == (None, 5)


@pytest.mark.parametrize("value", [0, False, ""])
async def test_t5_whatever_a_step_returns_ends_the_chain(value):
    """Kept: 0.26.1 does the same."""
    chain = await run(Chain(inputs={"first": lambda chain: value, "last": lambda chain: 1}))
    assert chain.result() == value


def namespaces():
    source = PortNamespace("source")
    for name in ("ns", "nsx"):
        source[name] = PortNamespace(name)
        source[name]["a"] = InputPort("a")
    return PortNamespace("target"), source


def test_t6_an_empty_include_takes_everything_with_a_warning():
    """Kept, but 0.26.1 gives no warning."""
    target, source = namespaces()
    with pytest.warns(UserWarning, match="empty `include`"):
        assert target.absorb(source, include=[]) == ["ns", "nsx"]


def test_t7_include_does_not_match_by_prefix():
    """0.26.1 takes `ns` as well."""
    target, source = namespaces()
    assert target.absorb(source, include=["nsx.a"]) == ["nsx"]


def test_t7_text_is_one_rule():
    """0.26.1 looks for the names in the text: `ns` is left out as well."""
    target, source = namespaces()
    assert target.absorb(source, exclude="nsx") == ["ns"]


@pytest.mark.parametrize("value", [5, "text", [1], None])
def test_t8_what_is_no_mapping_for_a_namespace_is_a_validation_error(value):
    """0.26.1 raises TypeError from filling in the defaults."""

    class Nested(plumpy.Process):
        @classmethod
        def define(cls, spec):
            super().define(spec)
            spec.input("ns.a", required=False)

    loop = asyncio.new_event_loop()
    try:
        with pytest.raises(ValueError, match=r"'inputs\.ns': .* not sub class of `Mapping`"):
            Nested(inputs={"ns": value}, loop=loop)
    finally:
        loop.close()


async def test_e12_a_cancelled_awaitable_ends_the_chain():
    """0.26.1 waits for ever."""
    future = asyncio.get_running_loop().create_future()
    chain = Chain(inputs={"first": lambda chain: ToContext(value=future)})
    asyncio.get_running_loop().call_soon(future.cancel)
    await run(chain)
    assert isinstance(chain.exception(), plumpy.CancelledError)
    assert "ctx.value" in str(chain.exception())


async def test_two_awaitables_may_fail_in_one_turn():
    """0.26.1 hands an InvalidStateError to the exception handler of the loop."""
    loop = asyncio.get_running_loop()
    futures = [loop.create_future(), loop.create_future()]
    problems = []
    loop.set_exception_handler(lambda _, info: problems.append(info))
    chain = Chain(inputs={"first": lambda chain: ToContext(a=futures[0], b=futures[1])})
    for number, future in enumerate(futures):
        loop.call_soon(future.set_exception, KeyError(number))
    await run(chain)
    assert repr(chain.exception()) == "KeyError(0)"
    assert problems == []


async def test_one_awaitable_may_have_two_names():
    """0.26.1 sets the last one only."""
    future = asyncio.get_running_loop().create_future()
    chain = Chain(inputs={"first": lambda chain: ToContext(a=future, b=future)})
    asyncio.get_running_loop().call_soon(future.set_result, 5)
    await run(chain)
    assert (chain.ctx.get("a"), chain.ctx.get("b")) == (5, 5)


def test_validators_are_inspected_once(monkeypatch):
    """0.26.1 inspects them whenever they are called."""
    import inspect

    inspected = []
    for name in ("getfullargspec", "signature"):
        original = getattr(inspect, name)
        monkeypatch.setattr(
            inspect,
            name,
            lambda *args, original=original: inspected.append(args) or original(*args),
        )

    port = InputPort("a", validator=lambda value, port: None)
    for _ in range(5):
        port.validate(1)
    assert len(inspected) == 1


def test_options_for_a_namespace_are_left_alone():
    """0.26.1 empties the dictionary."""
    target, source = namespaces()
    options = {"help": "h"}
    target.absorb(source, namespace_options=options)
    assert options == {"help": "h"}


def test_values_may_be_any_mapping_all_the_same():
    """Kept: 0.26.1 does the same."""
    target, source = namespaces()
    target.absorb(source)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        values = types.MappingProxyType({"ns": {"a": 1}, "nsx": {"a": 1}})
        assert target.validate(values) is None
