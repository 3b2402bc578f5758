"""Waiting for futures and processes: their outcome, and checkpoints meanwhile."""

import asyncio
import concurrent.futures
import gc
import logging

import pytest

import plumpy
from plumpy import ToContext
from plumpy.persistence import Bundle, InMemoryPersister, LoadSaveContext, SqlitePersister


class Child(plumpy.Process):
    @classmethod
    def define(cls, spec):
        super().define(spec)
        spec.input("value", default=1)
        spec.outputs.dynamic = True

    async def run(self):
        return plumpy.Wait(self.after)

    def after(self, extra=0):
        self.out("value", self.inputs.value + extra)


class Parent(plumpy.WorkChain):
    """Waits for whatever a test puts into ``awaitables``, then for nothing."""

    awaitables = None

    @classmethod
    def define(cls, spec):
        super().define(spec)
        spec.outputs.dynamic = True
        spec.outline(cls.wait, cls.report)

    def wait(self):
        return ToContext(**self.awaitables)

    def report(self):
        self.out("seen", dict(vars(self.ctx)))


class Launcher(plumpy.WorkChain):
    """Launches two children and waits for them."""

    @classmethod
    def define(cls, spec):
        super().define(spec)
        spec.outputs.dynamic = True
        spec.outline(cls.start, cls.report)

    def start(self):
        self.ctx.started = True
        self.to_context(first=self.launch(Child, {"value": 10}, pid="first"))
        return ToContext(second=self.launch(Child, {"value": 20}, pid="second"))

    def report(self):
        self.out("sum", self.ctx.first["value"] + self.ctx.second["value"])


def future():
    return asyncio.get_running_loop().create_future()


async def waiting(**awaitables):
    """Return a chain that waits, and the task that steps it."""
    chain = Parent()
    chain.awaitables = awaitables
    return chain, await until_waiting(chain)


async def until_waiting(process):
    task = asyncio.ensure_future(process.step_until_terminated())
    while process.state != plumpy.ProcessState.WAITING:
        assert not task.done(), task
        await asyncio.sleep(0)
    return task


@pytest.fixture(autouse=True)
def loop_problems():
    """No test may leave anything for the exception handler of the loop."""
    problems = []

    def watch():
        asyncio.get_running_loop().set_exception_handler(lambda _, info: problems.append(info))

    yield watch
    gc.collect()
    assert problems == []


async def test_results_are_there_in_the_next_step(loop_problems):
    loop_problems()
    a, b = future(), future()
    chain, task = await waiting(a=a, b=b)
    assert str(chain._state) == "ProcessState.WAITING (Waiting before next step)"
    b.set_result(2)
    while "b" not in vars(chain.ctx):
        await asyncio.sleep(0)
    assert chain.state == plumpy.ProcessState.WAITING
    a.set_result(1)
    await task
    assert chain.outputs["seen"] == {"a": 1, "b": 2}


async def test_futures_that_are_done_already_are_fine():
    a = future()
    a.set_result(1)
    chain = Parent()
    chain.awaitables = {"a": a}
    await chain.step_until_terminated()
    assert chain.outputs["seen"] == {"a": 1}


async def test_the_outputs_of_a_process_are_its_outcome():
    child = Child()
    child_task = asyncio.ensure_future(child.step_until_terminated())
    chain, task = await waiting(child=child)
    while child.state != plumpy.ProcessState.WAITING:
        await asyncio.sleep(0)
    child.resume(4)
    await asyncio.gather(child_task, task)
    assert chain.outputs["seen"] == {"child": {"value": 5}}


async def test_a_future_of_another_thread_is_fine():
    a = concurrent.futures.Future()
    chain, task = await waiting(a=a)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        pool.submit(a.set_result, 3)
    await task
    assert chain.outputs["seen"] == {"a": 3}


async def test_an_exception_is_that_of_the_chain(loop_problems):
    loop_problems()
    a, b = future(), future()
    chain, task = await waiting(a=a, b=b)
    a.set_exception(KeyError("k"))
    await task
    assert repr(chain.exception()) == "KeyError('k')"
    b.set_result(1)
    await asyncio.sleep(0)
    assert "b" not in vars(chain.ctx)


async def test_a_child_that_is_killed_excepts_the_chain():
    child = Child()
    chain, task = await waiting(child=child)
    child.kill("enough")
    await task
    assert repr(chain.exception()) == "KilledError('enough')"


@pytest.mark.parametrize("value", [5, None, "x", asyncio.sleep])
async def test_what_cannot_be_waited_for_is_named(value):
    chain = Parent()
    chain.awaitables = {"thing": value}
    await chain.step_until_terminated()
    assert "cannot wait for `thing`" in str(chain.exception())


async def test_resume_from_outside_skips_the_wait():
    a = future()
    chain, task = await waiting(a=a)
    chain.resume()
    await task
    assert chain.outputs["seen"] == {}
    a.set_result(1)
    await asyncio.sleep(0)
    assert "a" not in vars(chain.ctx)


async def test_kill_ends_the_wait():
    a = future()
    chain, task = await waiting(a=a)
    chain.kill("enough")
    await task
    assert chain.killed()
    a.set_exception(ValueError)
    await asyncio.sleep(0)
    assert chain.killed()
    a.exception()


@pytest.mark.parametrize("fails", [False, True])
async def test_what_comes_during_a_pause_counts_after_it(fails):
    a = future()
    chain, task = await waiting(a=a)
    await asyncio.wait_for(asyncio.ensure_future(_paused(chain)), 10)
    if fails:
        a.set_exception(KeyError("k"))
    else:
        a.set_result(1)
    for _ in range(5):
        await asyncio.sleep(0)
    assert chain.paused
    assert chain.state == plumpy.ProcessState.WAITING
    chain.play()
    await task
    if fails:
        assert repr(chain.exception()) == "KeyError('k')"
    else:
        assert chain.outputs["seen"] == {"a": 1}


async def _paused(process):
    result = process.pause()
    if result is not True:
        await result


@pytest.mark.parametrize("pause_first", [False, True])
async def test_a_failure_and_a_pause_in_one_turn_are_both_heeded(pause_first):
    a = future()
    chain, task = await waiting(a=a)
    if pause_first:
        chain.pause()
    a.set_exception(KeyError("k"))
    if not pause_first:
        chain.pause()
    for _ in range(5):
        await asyncio.sleep(0)
    chain.play()
    await task
    assert repr(chain.exception()) == "KeyError('k')"


class TestCheckpoints:
    @pytest.fixture(params=["memory", "sqlite"])
    def persister(self, request, tmp_path):
        if request.param == "memory":
            yield InMemoryPersister()
        else:
            persister = SqlitePersister(tmp_path / "checkpoints")
            yield persister
            persister.close()

    async def test_children_are_saved_with_the_chain_and_run_on_with_it(self, persister):
        chain = Launcher()
        task = await until_waiting(chain)
        persister.save_checkpoint(chain)
        chain.kill()
        await task

        loaded = persister.load_checkpoint(chain.pid).unbundle()
        assert loaded.state == plumpy.ProcessState.WAITING
        children = {child.pid: child for child in loaded._state.data}
        assert set(children) == {"first", "second"}
        task = asyncio.ensure_future(loaded.step_until_terminated())
        for child in children.values():
            while child.state != plumpy.ProcessState.WAITING:
                await asyncio.sleep(0)
            child.resume()
        await task
        assert loaded.outputs == {"sum": 30}

    async def test_a_child_that_has_ended_is_not_run_again(self, persister):
        chain = Launcher()
        task = await until_waiting(chain)
        first, second = chain._state.data
        while first.state != plumpy.ProcessState.WAITING:
            await asyncio.sleep(0)
        first.resume(100)
        while "first" not in vars(chain.ctx):
            await asyncio.sleep(0)
        persister.save_checkpoint(chain)
        second.kill()
        await task

        loaded = persister.load_checkpoint(chain.pid).unbundle()
        (second,) = loaded._state.data
        assert second.pid == "second"
        task = asyncio.ensure_future(loaded.step_until_terminated())
        while second.state != plumpy.ProcessState.WAITING:
            await asyncio.sleep(0)
        second.resume()
        await task
        assert loaded.outputs == {"sum": 130}

    async def test_a_future_that_is_done_keeps_its_outcome(self, persister):
        a, b, c = future(), future(), future()
        chain, task = await waiting(a=a, b=b, c=c)
        a.set_result([1])
        b.set_exception(KeyError("k"))
        persister.save_checkpoint(chain)
        await task
        assert repr(chain.exception()) == "KeyError('k')"
        loaded = persister.load_checkpoint(chain.pid).unbundle()
        await loaded.step_until_terminated()
        assert repr(loaded.exception()) == "KeyError('k')"

    async def test_everything_done_at_the_last_moment_means_no_more_waiting(self, persister):
        a = future()
        chain, task = await waiting(a=a)
        a.set_result(1)
        await asyncio.sleep(0)
        if chain.state == plumpy.ProcessState.WAITING:
            persister.save_checkpoint(chain)
            loaded = persister.load_checkpoint(chain.pid).unbundle()
            await loaded.step_until_terminated()
            assert loaded.outputs["seen"] == {"a": 1}
        await task

    async def test_a_future_that_nobody_completes_any_more_is_announced(self, persister, caplog):
        chain, task = await waiting(a=future())
        persister.save_checkpoint(chain)
        chain.kill()
        await task
        with caplog.at_level(logging.WARNING, "plumpy"):
            loaded = persister.load_checkpoint(chain.pid).unbundle()
        assert "waits for `ctx.a`, a future that nobody completes any more" in caplog.text
        task = asyncio.ensure_future(loaded.step_until_terminated())
        while loaded._state._waiting_future is None:
            await asyncio.sleep(0)
        loaded.resume()
        await task
        assert loaded.is_successful

    async def test_the_load_context_can_say_what_to_wait_for(self, persister, caplog):
        chain, task = await waiting(a=future(), child=Child(pid="child"))
        persister.save_checkpoint(chain)
        chain.kill()
        await task
        given = {"a": future(), "child": future()}
        loaded = persister.load_checkpoint(chain.pid).unbundle(LoadSaveContext(awaitables=given))
        assert set(loaded._state.data) == set(given.values())
        assert caplog.text == ""
        task = asyncio.ensure_future(loaded.step_until_terminated())
        given["a"].set_result(1)
        given["child"].set_result(2)
        await task
        assert loaded.outputs["seen"] == {"a": 1, "child": 2}

    async def test_loading_alone_runs_nothing(self):
        chain = Launcher()
        task = await until_waiting(chain)
        for child in chain._state.data:
            while child.state != plumpy.ProcessState.WAITING:
                await asyncio.sleep(0)
        bundle = Bundle(chain, dereference=True)
        chain.kill()
        await task
        before = asyncio.all_tasks()
        loaded = bundle.unbundle()
        assert asyncio.all_tasks() == before
        assert {child.state for child in loaded._state.data} == {plumpy.ProcessState.WAITING}

    async def test_a_chain_that_waits_for_nothing_in_particular_stays_waiting(self):
        chain = Waiter()
        task = await until_waiting(chain)
        loaded = Bundle(chain, dereference=True).unbundle()
        chain.kill()
        await task
        task = asyncio.ensure_future(loaded.step_until_terminated())
        for _ in range(5):
            await asyncio.sleep(0)
        assert loaded.state == plumpy.ProcessState.WAITING
        loaded.resume()
        await task
        assert loaded.result() == 3


class Waiter(plumpy.WorkChain):
    @classmethod
    def define(cls, spec):
        super().define(spec)
        spec.outline(cls.wait)

    def wait(self):
        return plumpy.Wait(self.after)

    def after(self):
        return 3


class TestWatchedProcesses:
    """What is waited for by callback rather than by a future comes out the same."""

    async def test_a_child_of_which_nobody_asked_for_the_future_gets_none(self):
        child = Child()
        chain, task = await waiting(child=child)
        child_task = await until_waiting(child)
        child.resume()
        await asyncio.gather(child_task, task)
        assert child._lazy_future is None
        assert chain.outputs["seen"] == {"child": {"value": 1}}

    async def test_a_checkpoint_does_not_ask_for_it_either(self):
        """Else asyncio complained, when the child failed, that nobody retrieved its exception."""
        child = Child()
        chain, task = await waiting(child=child)
        Bundle(chain)
        assert child._lazy_future is None
        child.kill()
        await task

    async def test_the_outcome_is_there_as_soon_as_the_child_has_ended(self):
        child = Child()
        other = future()
        chain, task = await waiting(child=child, other=other)
        child.kill("enough")
        other.set_result(1)
        await task
        assert repr(chain.exception()) == "KilledError('enough')"

    async def test_an_exception_of_the_child_is_that_of_the_chain(self):
        child = Child()
        chain, task = await waiting(child=child)
        child.fail(KeyError("k"), None)
        await task
        assert repr(chain.exception()) == "KeyError('k')"

    async def test_a_child_whose_future_is_cancelled_counts_as_cancelled(self):
        child = Child()
        chain, task = await waiting(child=child)
        child.future().cancel()
        await task
        assert isinstance(chain.exception(), plumpy.CancelledError)
        assert "ctx.child" in str(chain.exception())
        assert child.killed()

    async def test_a_child_whose_future_was_cancelled_before_counts_as_cancelled(self):
        child = Child()
        child.future().cancel()
        chain, task = await waiting(child=child)
        await task
        assert isinstance(chain.exception(), plumpy.CancelledError)

    async def test_a_child_that_has_ended_already_is_fine(self):
        child = Child()
        child.kill("before")
        chain = Parent()
        chain.awaitables = {"child": child}
        await chain.step_until_terminated()
        assert repr(chain.exception()) == "KilledError('before')"

    async def test_a_chain_that_waits_no_more_is_not_told(self):
        child = Child()
        chain, task = await waiting(child=child)
        chain.kill("enough")
        await task
        assert child._watchers == []
        child.kill()
        assert "child" not in vars(chain.ctx)

    async def test_two_chains_can_wait_for_one_child(self):
        child = Child()
        first, first_task = await waiting(child=child)
        second, second_task = await waiting(child=child, again=child)
        child_task = await until_waiting(child)
        child.resume()
        await asyncio.gather(child_task, first_task, second_task)
        assert first.outputs["seen"] == {"child": {"value": 1}}
        assert second.outputs["seen"] == {"child": {"value": 1}, "again": {"value": 1}}

    async def test_a_child_fails_though_a_hook_of_its_end_fails_too(self):
        class Unlucky(Child):
            def on_terminated(self):
                raise RuntimeError("hook")

        child = Unlucky()
        chain, task = await waiting(child=child)
        with pytest.raises(RuntimeError, match="hook"):
            child.fail(KeyError("k"), None)
        await task
        assert repr(chain.exception()) == "KeyError('k')"

    async def test_a_context_that_refuses_a_value_ends_the_chain(self):
        class Refusing(Parent):
            @property
            def ctx(self):
                raise LookupError("no context")

        child = Child()
        chain = Refusing()
        chain.awaitables = {"child": child}
        task = await until_waiting(chain)
        child_task = await until_waiting(child)
        child.resume()
        await asyncio.gather(child_task, task)
        assert repr(chain.exception()) == "LookupError('no context')"
        assert child.is_successful
