"""What nest_asyncio does for platforms, loops and orders of calls that few people have."""

import asyncio
import os
import sys
import unittest
from typing import Any, List

from harness.scenario import scenario
from scenarios._nesting import apply, check_nesting, program

_SOURCE = "https://github.com/erdewit/nest_asyncio/blob/master/nest_asyncio.py"


def _plant_an_apply_that_forgets() -> None:
    """Make every apply() begin anew."""
    import nest_asyncio

    original = nest_asyncio.apply

    def forgetful(loop: Any = None) -> None:
        vars(asyncio).pop("_nest_patched", None)
        vars(asyncio)["Task"] = type("Task", (asyncio.Task,), {})
        original(loop)

    nest_asyncio.apply = forgetful


@scenario(
    id="N80",
    title="A second apply() patches asyncio again",
    source=_SOURCE,
    library="nest-asyncio",
    planted=_plant_an_apply_that_forgets,
)
async def test_second_apply_changes_nothing() -> None:
    """Symptom: none known: a guard, as libraries apply nest_asyncio each for itself, so many times.

    Cause: what was patched notes it, and a later apply() leaves it alone. One that forgot would
    wrap a wrapper at each call.
    """

    def patched() -> List[Any]:
        loop = type(asyncio.get_event_loop())
        names = ("Task", "Future", "run", "get_event_loop")
        return [getattr(asyncio, name, None) for name in names] + [loop.run_until_complete]

    apply()

    async def main() -> None:
        before = patched()
        apply()
        assert patched() == before

    await asyncio.ensure_future(main())


@scenario(
    id="N81",
    title="A loop class that checks by itself whether it runs cannot be nested",
    source=_SOURCE,
    library="nest-asyncio",
    present=("nest-asyncio<1.3.1; python_version >= '3.8'",),
    shown_in=("1.3.0", "1.6.0"),
)
async def test_loop_class_of_ones_own_may_check_whether_it_runs() -> None:
    """Symptom: "This event loop is already running", from a loop class with a run method of its own
    that begins as asyncio's does: with _check_running().

    Cause: apply() replaces the run methods of asyncio's loop, and leaves the one that refuses.
    Fix: nest_asyncio 1.3.1 makes that method let everything pass.
    """

    class Loop(asyncio.SelectorEventLoop):
        """The one that apply() patches."""

    class Checked(Loop):
        def run_until_complete(self, future: Any) -> Any:
            self._check_running()
            return super().run_until_complete(future)

    def script() -> None:
        if not hasattr(asyncio.BaseEventLoop, "_check_running"):
            raise unittest.SkipTest("this Python has no _check_running()")
        loop, checked = Loop(), Checked()
        asyncio.set_event_loop(loop)
        apply(loop)
        loop.run_until_complete(check_nesting())
        asyncio.set_event_loop(checked)

        async def nested() -> int:
            done = asyncio.sleep(0, 1)
            try:
                return int(checked.run_until_complete(done))
            except RuntimeError:
                done.close()
                raise

        try:
            assert checked.run_until_complete(nested()) == 1
        except AttributeError as error:
            raise unittest.SkipTest("this release serves one loop only: %s" % error)

    await asyncio.get_event_loop().run_in_executor(None, script)


@scenario(
    id="N82",
    title="Without hooks for asynchronous generators, as on Python 3.5, no loop runs",
    source=_SOURCE,
    library="nest-asyncio",
    present=(
        "nest-asyncio>=1.1.0,<1.3.0",
        "nest-asyncio>=1.4.0",
        "nest-asyncio2<1.7.4",
    ),
    shown_in=("1.6.0",),
)
async def test_loop_runs_where_there_are_no_hooks_for_asynchronous_generators() -> None:
    """Symptom: "RuntimeError: generator didn't yield" from run_forever().

    Cause: a context manager returns before its yield where sys has no get_asyncgen_hooks(). Their
    absence is played here. Until 1.5.1 the hooks were used without asking for them.
    Fix: nest-asyncio2 1.7.4.
    """

    def body(loop: Any) -> None:
        if type(loop).run_forever is asyncio.BaseEventLoop.run_forever:
            raise unittest.SkipTest("this release leaves run_forever() as it is")
        names = ("get_asyncgen_hooks", "set_asyncgen_hooks")
        hooks = {name: vars(sys).pop(name) for name in names}
        try:
            loop.call_soon(loop.stop)
            loop.run_forever()
        finally:
            vars(sys).update(hooks)

    await program(body)


@scenario(
    id="N83",
    title="On Windows a run does not read the self-pipe, so no thread can wake it",
    source=_SOURCE,
    library="nest-asyncio",
    present=("nest-asyncio>=1.4.2,<1.5.0",),
    shown_in=("1.4.3", "1.5.0"),
)
async def test_windows_loop_reads_its_self_pipe_for_as_long_as_it_runs() -> None:
    """Symptom: call_soon_threadsafe() does not wake a patched loop on Windows.

    Cause: a proactor loop reads from its self-pipe while it runs; asyncio's run_forever() begins
    that and takes it out of the proactor at the end, and a run_forever() of one's own has to do
    the same. A stand-in takes the place of Windows' loop.
    Fix: nest_asyncio 1.5.0.
    """

    class Proactor:
        def __init__(self) -> None:
            self.unregistered: List[object] = []

        def _unregister(self, overlapped: object) -> None:
            self.unregistered.append(overlapped)

    class Reading:
        def __init__(self) -> None:
            self._ov = object()
            self.cancelled = False

        def cancel(self) -> None:
            self.cancelled = True

    class ProactorEventLoop(asyncio.SelectorEventLoop):
        """Has of Windows' loop what a run of it has to begin and to end."""

        def __init__(self) -> None:
            super().__init__()
            self._proactor = Proactor()
            self._self_reading_future: Any = None
            self.readings: List[Reading] = []

        def _loop_self_reading(self) -> None:
            self._self_reading_future = Reading()
            self.readings.append(self._self_reading_future)

    class Ordinary(asyncio.SelectorEventLoop):
        """Shows whether this release nests at all."""

    def script() -> None:
        ordinary, loop = Ordinary(), ProactorEventLoop()
        asyncio.set_event_loop(ordinary)
        apply(ordinary)
        ordinary.run_until_complete(check_nesting())
        asyncio.set_event_loop(loop)
        before, os.name = os.name, "nt"
        vars(asyncio)["ProactorEventLoop"] = ProactorEventLoop
        try:
            apply(loop)
        finally:
            os.name = before
        if not getattr(loop, "_is_proactorloop", False):
            raise unittest.SkipTest("this release knows of no proactor loop")

        async def nested() -> int:
            return loop.run_until_complete(asyncio.sleep(0, 1))

        assert loop.run_until_complete(nested()) == 1
        assert len(loop.readings) == 1, "the run did not begin to read its self-pipe"
        reading = loop.readings[0]
        assert reading.cancelled, "the read was not cancelled"
        assert loop._proactor.unregistered == [reading._ov]
        assert loop._self_reading_future is None, "the next run would not read"

    await asyncio.get_event_loop().run_in_executor(None, script)
